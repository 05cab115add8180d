package vmdk

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/internal/zero"
)

// newSESparse opens a SESparse extent, which is what ESX since 6.5 makes of a
// snapshot, and before of one above 2 TiB. What QEMU refuses is refused: with
// no specification there is no telling what another number would mean.
func newSESparse(f partFile) (part, error) {
	h, err := readSEHeader(f.src)
	if err != nil {
		return nil, err
	}
	s := &esxSparse{
		partFile: f,
		entries:  seEntries{tables: h.regions[seTables], grains: h.regions[seGrains]},
		capacity: int64(h.capacity) * sectorSize,
		grain:    seGrainSectors * sectorSize,
		span:     seGrainSectors * sectorSize * seGTEsPerGT,
		gdOffset: h.regions[seDirectory].off,
		numbered: h.regions[seTables],
		fileSize: f.src.Size(),
	}
	// Tables and grains are counted from where theirs start, and nothing else
	// lies there: there is no more to keep them from.
	if need, have := s.tables()*seEntryBytes, h.regions[seDirectory].end-s.gdOffset; have < need {
		return nil, fail(diskimage.ErrCorrupt, offSEGrainDirectory, "header: grain directory", "%d bytes, %d needed for %d sectors", have, need, h.capacity)
	} else if end := s.gdOffset + need; end > s.fileSize {
		return nil, fail(diskimage.ErrTruncated, s.gdOffset, "grain directory", "it ends at %#x, the file at %#x", end, s.fileSize)
	}
	return s, nil
}

// An seHeader is what the two headers of a SESparse extent say that counts.
type seHeader struct {
	capacity uint64                // sectors
	regions  [len(seFields)]region // in the header's order
}

// Which of the regions.
const (
	seVolatile  = 0
	seDirectory = 3
	seTables    = 4
	seGrains    = 7
)

// seFields are the regions that the constant header names.
var seFields = [...]struct {
	name string
	off  int
}{
	{"volatile header", offSEVolatileHeader},
	{"journal header", offSEJournalHeader},
	{"journal", offSEJournal},
	{"grain directory", offSEGrainDirectory},
	{"grain tables", offSEGrainTables},
	{"free bitmap", offSEFreeBitmap},
	{"backmap", offSEBackmap},
	{"grains", offSEGrains},
}

// readSEHeader reads and validates both headers.
func readSEHeader(src diskimage.Source) (*seHeader, error) {
	b := make([]byte, seHeaderLen)
	if err := readFull(src, b[:min(seHeaderLen, max(0, src.Size()))], 0, "header"); err != nil {
		return nil, err
	}
	le := binary.LittleEndian
	if le.Uint64(b) != magicSESparse {
		return nil, fail(diskimage.ErrFormat, 0, "header: magic", "not a SESparse extent")
	}
	if src.Size() < seHeaderLen {
		return nil, fail(diskimage.ErrTruncated, src.Size(), "header", "the file ends after %d of %d bytes", src.Size(), seHeaderLen)
	}
	for _, f := range []struct {
		name string
		off  int64
		want uint64
	}{
		{"version", offSEVersion, seVersion},
		{"grain size", offSEGrainSize, seGrainSectors},
		{"grain table size", offSEGrainTableSize, seTableSectors},
		{"flags", offSEFlags, 0},
	} {
		if v := le.Uint64(b[f.off:]); v != f.want {
			return nil, fail(diskimage.ErrUnsupported, f.off, "header: "+f.name, "%#x; %#x is read", v, f.want)
		}
	}
	for _, r := range [][2]int{{offSEReserved, offSEVolatileHeader}, {offSEPad, seHeaderLen}} {
		if !zero.Is(b[r[0]:r[1]]) {
			return nil, fail(diskimage.ErrUnsupported, int64(r[0]), "header", "reserved bytes are not 0")
		}
	}
	h := &seHeader{capacity: le.Uint64(b[offSECapacity:])}
	if h.capacity == 0 {
		return nil, fail(diskimage.ErrCorrupt, offSECapacity, "header: capacity", "0")
	}
	if h.capacity > maxSESectors {
		return nil, fail(diskimage.ErrLimit, offSECapacity, "header: capacity", "%d sectors, %d at most", h.capacity, int64(maxSESectors))
	}
	if err := h.takeRegions(b); err != nil {
		return nil, err
	}
	return h, h.readVolatile(src)
}

// takeRegions takes the regions from the constant header. No two of them
// overlap, none overlaps the header, and the grains are behind all: as many as
// the file holds, since what the header says of their size is no limit to QEMU.
func (h *seHeader) takeRegions(b []byte) error {
	const most = 1 << 53 // sectors: what is added to an offset keeps it below 2^63
	taken := []region{{"header", 0, seHeaderLen}}
	for i, f := range seFields {
		off, n := binary.LittleEndian.Uint64(b[f.off:]), binary.LittleEndian.Uint64(b[f.off+8:])
		if off > most || n > most {
			return fail(diskimage.ErrCorrupt, int64(f.off), "header: "+f.name, "%d sectors at sector %d", n, off)
		}
		h.regions[i] = region{f.name, int64(off) * sectorSize, int64(off+n) * sectorSize}
		if i != seGrains && n > 0 {
			taken = append(taken, h.regions[i])
		}
	}
	slices.SortFunc(taken, func(a, b region) int { return cmp.Compare(a.off, b.off) })
	for i, r := range taken[1:] {
		if before := taken[i]; r.off < before.end {
			return fail(diskimage.ErrCorrupt, r.off, "header: "+r.name, "it overlaps the %s", before.name)
		}
	}
	if last, grains := taken[len(taken)-1], h.regions[seGrains].off; last.end > grains {
		return fail(diskimage.ErrCorrupt, offSEGrains, "header: grains", "at %#x, they overlap the %s", grains, last.name)
	}
	return nil
}

// readVolatile reads the volatile header and holds that the tables are as they
// should be.
func (h *seHeader) readVolatile(src diskimage.Source) error {
	b := make([]byte, seHeaderLen)
	off := h.regions[seVolatile].off
	if err := readFull(src, b, off, "volatile header"); err != nil {
		return err
	}
	le := binary.LittleEndian
	if magic := le.Uint64(b); magic != magicSEVolatile {
		return fail(diskimage.ErrCorrupt, off, "volatile header: magic", "%#x, not %#x", magic, uint64(magicSEVolatile))
	}
	if le.Uint64(b[offSEReplayJournal:]) != 0 {
		return fail(diskimage.ErrUnsupported, off+offSEReplayJournal, "volatile header: replay journal", "the extent was not closed properly: ESX has to replay its journal first")
	}
	if !zero.Is(b[offSEVolatilePad:]) {
		return fail(diskimage.ErrUnsupported, off+offSEVolatilePad, "volatile header", "reserved bytes are not 0")
	}
	return nil
}

// seEntries name tables and grains by their number.
type seEntries struct {
	tables region
	grains region // of no size
}

func (seEntries) size() int64 { return seEntryBytes }

func (s seEntries) table(e uint64) (int64, error) {
	if e == 0 {
		return 0, nil
	}
	if e&^seTableIndexMask != seTableAllocated {
		return 0, fmt.Errorf("%#x has bits of no known meaning", e)
	}
	off := s.tables.off + int64(e&seTableIndexMask)*seTableSectors*sectorSize
	if off+seTableSectors*sectorSize > s.tables.end {
		return 0, fmt.Errorf("grain table number %d of %d", e&seTableIndexMask, (s.tables.end-s.tables.off)/(seTableSectors*sectorSize))
	}
	return off, nil
}

func (s seEntries) grain(e uint64) (state, int64, error) {
	index := e&seIndexLowMask>>seIndexLowShift | e&seIndexHighMask<<seIndexHighShift
	switch e >> seStateShift {
	case seStateAbsent:
		if index != 0 {
			return 0, 0, fmt.Errorf("%#x has bits of no known meaning", e)
		}
		return absent, -1, nil
	case seStateUnmapped, seStateZero:
		return zeros, -1, nil
	case seStateAllocated:
		const most = 1 << 49 // so that the offset is below 2^63; it is behind any file's end
		return plain, s.grains.off + int64(min(index, most))*seGrainSectors*sectorSize, nil
	}
	return 0, 0, fmt.Errorf("%#x is of no known kind", e)
}
