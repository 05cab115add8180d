package vmdk

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/diskimage-go/diskimage"
)

// A sparseCheck is the check of one hosted sparse extent under way. It walks
// the tables once for each window of the file: first it takes the sectors of
// all metadata, then those of the grains; whatever is taken twice is corrupt,
// and what nobody takes is lost.
type sparseCheck struct {
	*checker
	p        *sparse
	h        *sparseHeader
	src      diskimage.Source
	fileSize int64
	sectors  int64 // of the file, the last maybe in part
	footer   bool  // gdOffset is the footer's: there are markers for all

	first, end int64 // the window
	meta, data *sectorSet
	walked     *sectorSet // tables that were seen, in any window

	primary, redundant *gdReader // nil if it is not there, or cannot be read
	next               int64     // sector behind the grain before
	buf, other         [gtBytes]byte
	grain              []byte // one decoded grain
}

// checkSparse checks one hosted sparse extent.
func (c *checker) checkSparse(p *sparse) error {
	s := &sparseCheck{checker: c, p: p, h: p.h, src: p.src, fileSize: p.fileSize}
	s.sectors = (s.fileSize + sectorSize - 1) / sectorSize
	s.res.TotalGrains += s.h.grains()
	if s.h.gdDamage == nil {
		s.primary = &gdReader{src: s.src, off: int64(s.h.gdOffset) * sectorSize, entries: s.h.tables()}
	} else {
		s.damaged(s.h.gdDamage)
	}
	if s.h.redundant() {
		s.redundant = &gdReader{src: s.src, off: int64(s.h.rgdOffset) * sectorSize, entries: s.h.tables()}
	} else if s.h.rgdDamage != nil {
		s.damaged(s.h.rgdDamage)
	}
	var head [sparseHeaderLen]byte
	if err := readFull(s.src, head[:], 0, "header"); err != nil {
		return err
	}
	s.footer = binary.LittleEndian.Uint64(head[offGdOffset:]) == gdAtEnd
	last := min(s.sectors, 1<<32+maxGrain) // entries have 32 bits
	for s.first = 0; s.first < last; s.first = s.end {
		s.end = min(s.first+claimStretch, last)
		if err := s.window(); err != nil {
			return err
		}
		s.later = true
	}
	s.later = false
	return nil
}

// window looks at one window of the file.
func (s *sparseCheck) window() error {
	s.meta, s.data, s.walked = newSectorSet(), newSectorSet(), newSectorSet()
	s.takeFixed()
	for _, d := range []*gdReader{s.primary, s.redundant} {
		if d != nil {
			if err := s.takeTables(d); err != nil {
				return err
			}
		}
	}
	if err := s.p.checkFront(s.meta, s.first, s.end); err != nil {
		s.damaged(err)
	}
	s.walked = newSectorSet()
	if err := s.takeGrains(); err != nil {
		return err
	}
	return s.findLost()
}

// inside reports whether n bytes at a sector lie inside the file.
func (s *sparseCheck) inside(sector uint64, n int64) bool {
	return sector <= uint64(s.sectors) && int64(sector)*sectorSize+n <= s.fileSize
}

// take takes the n sectors from first for metadata, or then for data, as far as
// the window has them, and reports what else they are.
func (s *sparseCheck) take(set *sectorSet, first, n int64) (twice string) {
	first, n = clip(first, n, s.first, s.end)
	if n <= 0 {
		return ""
	}
	switch had := set.add(first, n); {
	case set == s.data && s.meta.has(first, n):
		return "metadata"
	case had && set == s.data:
		return "another grain"
	case had:
		return "other metadata"
	}
	return ""
}

func clip(first, n, from, end int64) (int64, int64) {
	last := min(first+n, end)
	first = max(first, from)
	return first, last - first
}

// takeFixed takes all metadata but grain tables.
func (s *sparseCheck) takeFixed() {
	h := s.h
	gd := (h.tables()*gdeBytes + sectorSize - 1) / sectorSize
	s.take(s.meta, 0, 1)
	for _, area := range []struct {
		name  string
		off   int64 // of the field that says where it is
		first uint64
		n     int64
		is    bool
	}{
		{"header: descriptorOffset", offDescriptorOffset, h.descriptorOffset, int64(h.descriptorSize), h.descriptorOffset != 0},
		{"footer", -1, uint64(h.footerOff / sectorSize), footerSectors, s.footer},
		{"header: gdOffset", offGdOffset, h.gdOffset, gd, s.primary != nil},
		{"header: rgdOffset", offRgdOffset, h.rgdOffset, gd, s.redundant != nil},
	} {
		if !area.is {
			continue
		}
		if twice := s.take(s.meta, int64(area.first), area.n); twice != "" {
			s.corrupt(area.off, "%s: the %d sectors from sector %d overlap %s", area.name, area.n, area.first, twice)
		}
	}
	if s.footer && s.primary != nil {
		s.takeMarker("grain directory", int64(h.gdOffset), marker{val: uint64(gd), kind: markerGD})
	}
}

// takeMarker takes the marker in front of metadata at a sector.
func (s *sparseCheck) takeMarker(object string, sector int64, want marker) {
	s.take(s.meta, sector-1, 1)
	if s.later {
		return
	}
	var b [16]byte
	off := (sector - 1) * sectorSize
	if err := readFull(s.src, b[:], off, object+": marker"); err != nil {
		s.failed(off, err)
	} else if got := decodeMarker(b[:]); got != want {
		s.corrupt(off, "%s: marker at %#x: value %d, size %d, type %d; not %d, %d, %d", object, off, got.val, got.size, got.kind, want.val, want.size, want.kind)
	}
}

// takeTables takes the grain tables of a directory.
func (s *sparseCheck) takeTables(d *gdReader) error {
	which := "grain directory"
	if d == s.redundant {
		which = "redundant grain directory"
	}
	err := d.each(func(i int64, sector uint32) error {
		if i&(1<<12-1) == 0 {
			if err := s.ctx.Err(); err != nil {
				return err
			}
		}
		if !s.inside(uint64(sector), gtBytes) {
			s.corrupt(d.offset(i), "%s: entry %d at %#x: the grain table at sector %d ends behind the end of the file at %#x", which, i, d.offset(i), sector, s.fileSize)
			return nil
		}
		if s.walked.full() {
			return fail(diskimage.ErrLimit, d.offset(i), which, "the grain tables are scattered over more of the file than can be remembered")
		}
		twice := "another grain table"
		if !s.walked.add(int64(sector), gtBytes/sectorSize) {
			twice = s.take(s.meta, int64(sector), gtBytes/sectorSize)
		}
		if twice != "" {
			s.corrupt(d.offset(i), "%s: entry %d at %#x: the grain table at sector %d overlaps %s", which, i, d.offset(i), sector, twice)
		} else if s.footer && d == s.primary {
			s.takeMarker(fmt.Sprintf("grain table %d", i), int64(sector), marker{val: gtBytes / sectorSize, kind: markerGT})
		}
		return nil
	})
	return s.readError(d.offset(0), err)
}

// readError reports what could not be read, and returns an error that ends the
// check.
func (s *sparseCheck) readError(off int64, err error) error {
	if err == nil || s.ctx.Err() != nil || errors.Is(err, diskimage.ErrLimit) {
		return err
	}
	s.failed(off, err)
	return nil
}

// takeGrains takes the grains of all tables, each table once. Where the
// primary table cannot be read the redundant one is followed, as a reader does.
func (s *sparseCheck) takeGrains() error {
	n := s.h.tables()
	for i := int64(0); i < n; i++ {
		if i%gdChunk == 0 && s.primary.empty(i) && s.redundant.empty(i) {
			i = min(i|(gdChunk-1), n-1)
			continue
		}
		if err := s.ctx.Err(); err != nil {
			return err
		}
		s.takeTable(i)
	}
	return nil
}

// takeTable takes the grains of table i.
func (s *sparseCheck) takeTable(i int64) {
	off, table := s.load(s.primary, i, s.buf[:])
	otherOff, other := s.load(s.redundant, i, s.other[:])
	if s.primary != nil && s.redundant != nil && !s.later {
		s.compare(i, off, table, otherOff, other)
	}
	if table == nil {
		off, table = otherOff, other
	}
	if table == nil || s.walked.add(off/sectorSize, gtBytes/sectorSize) {
		return
	}
	t := &grainTable{index: i, off: off, entries: table, redundant: off == otherOff}
	for e := range int64(numGTEsPerGT) {
		if v := t.entry(e); v != gteAbsent && (v != gteZeroed || !s.h.zeroedGTE()) {
			s.takeGrain(t, e, int64(v))
		}
	}
}

// load reads the grain table of a directory's entry i. There is none, and its
// offset is 0, where the entry is 0; it is nil where it cannot be read, which
// takeTables has reported.
func (s *sparseCheck) load(d *gdReader, i int64, buf []byte) (off int64, table []byte) {
	if d == nil {
		return 0, nil
	}
	sector, err := d.entry(i)
	if err != nil || sector == 0 {
		return 0, nil
	}
	off = int64(sector) * sectorSize
	if !s.inside(uint64(sector), gtBytes) {
		return off, nil
	}
	if err := readFull(s.src, buf, off, fmt.Sprintf("grain table %d", i)); err != nil {
		s.failed(off, err)
		return off, nil
	}
	return off, buf
}

// compare holds a table against its redundant copy.
func (s *sparseCheck) compare(i, off int64, table []byte, otherOff int64, other []byte) {
	switch {
	case (off == 0) != (otherOff == 0):
		s.corrupt(s.redundant.offset(i), "grain table %d: only one of the two grain directories has it: it is at %#x, its copy at %#x (0: nowhere)", i, off, otherOff)
	case table == nil || other == nil || string(table) == string(other):
	default:
		for e := range int64(numGTEsPerGT) {
			a, b := binary.LittleEndian.Uint32(table[e*gteBytes:]), binary.LittleEndian.Uint32(other[e*gteBytes:])
			if a != b {
				s.corrupt(off+e*gteBytes, "grain table %d: entry %d at %#x: sector %d, but in the redundant table sector %d", i, e, off+e*gteBytes, a, b)
			}
		}
	}
}

// takeGrain takes the grain that entry e of a table names.
func (s *sparseCheck) takeGrain(t *grainTable, e, sector int64) {
	guest := t.index<<s.p.spanBits + e<<s.p.grainBits
	off, visible := t.off+e*gteBytes, min(s.p.grain, s.h.size()-guest)
	if visible <= 0 {
		if !s.later {
			s.find(Finding{Kind: FindingLeak, Off: off}, "%v: entry %d at %#x: the grain at sector %d is behind the end of the disk", t, e, off, sector)
		}
		return
	}
	if err := s.p.checkEntry(t, e, uint32(sector)); err != nil {
		s.damaged(err)
		return
	}
	n := int64(s.h.grainSize)
	if s.h.compressed() {
		if s.later && (sector >= s.end || sector+s.p.units.most/sectorSize <= s.first) {
			return // of another window
		}
		var err error
		if n, err = s.stored(sector*sectorSize, guest); err != nil {
			s.damaged(err)
		}
	} else if sector*sectorSize+visible > s.fileSize {
		s.corrupt(off, "%v: entry %d at %#x: the grain at sector %d ends behind the end of the file at %#x", t, e, off, sector, s.fileSize)
	}
	if !s.p.aligned(uint32(sector)) {
		s.damaged(s.p.badEntry(diskimage.ErrCorrupt, t, e, misalignedGrain, sector*sectorSize))
	}
	if !s.later {
		s.res.AllocatedGrains++
		if s.h.compressed() {
			s.res.CompressedGrains++
		}
		if s.next != 0 && s.next != sector {
			s.res.FragmentedGrains++
		}
		s.next = sector + n
	}
	if twice := s.take(s.data, sector, n); twice != "" {
		s.find(Finding{Kind: FindingCorruption, Off: off}, "%v: entry %d at %#x: the grain at sector %d overlaps %s", t, e, off, sector, twice)
	}
}

// stored returns how many sectors the compressed grain at a host offset takes,
// as its marker says, and decodes it if that is asked for.
func (s *sparseCheck) stored(host, guest int64) (sectors int64, err error) {
	m := mapping{state: packed, n: s.h.grainBytes(), host: host, guess: min(s.h.grainBytes(), s.fileSize-host)}
	sectors = 1
	if s.h.markers() {
		var b [16]byte
		if err := readFull(s.src, b[:], host, "grain: marker"); err != nil {
			return sectors, err
		}
		size, err := s.p.units.storedSize(decodeMarker(b[:]), guest, m)
		if err != nil {
			return sectors, err
		}
		m.guess = grainMarkerLen + size
		sectors = (m.guess + sectorSize - 1) / sectorSize
	}
	if s.decode && !s.later {
		s.grain = slices.Grow(s.grain[:0], int(m.n))[:m.n] // at most 2 MiB
		err = s.p.units.read(s.grain, guest, m)
	}
	return sectors, err
}

// findLost reports what nobody took, behind the metadata in front: room for a
// grain or more; between compressed grains whatever does not start with a
// sector of zeros, which pads and ends a stream.
func (s *sparseCheck) findLost() error {
	s.res.ImageEndOffset = max(s.res.ImageEndOffset, min(s.fileSize, max(s.meta.last(), s.data.last())*sectorSize))
	if s.h.compressed() && !s.h.markers() {
		return nil // how much a grain takes is not known
	}
	from := max(s.first, int64(min(s.h.overHead, math.MaxInt64/sectorSize)))
	gaps(s.meta, s.data, from, min(s.end, s.fileSize/sectorSize), func(first, n int64) {
		if s.h.compressed() {
			var b [sectorSize]byte
			if err := readFull(s.src, b[:], first*sectorSize, "unused sectors"); err != nil {
				s.failed(first*sectorSize, err)
				return
			} else if b == [sectorSize]byte{} {
				return
			}
		} else if n < int64(s.h.grainSize) {
			return
		}
		s.find(Finding{Kind: FindingLeak, Off: first * sectorSize}, "nothing refers to the %d sectors at %#x", n, first*sectorSize)
	})
	return s.ctx.Err()
}

// gdChunk is how many entries of a directory are read at once.
const gdChunk = 1 << 14

// A gdReader reads a grain directory front to back.
type gdReader struct {
	src     diskimage.Source
	off     int64
	entries int64
	from    int64 // the first entry in buf
	buf     []byte
}

// offset returns where entry i lies.
func (d *gdReader) offset(i int64) int64 { return d.off + i*gdeBytes }

// chunkEnd returns the first entry behind the chunk that i lies in.
func (d *gdReader) chunkEnd(i int64) int64 {
	return min((i/gdChunk+1)*gdChunk, d.entries)
}

// empty reports whether the file is known to have nothing from entry i, the
// first of a chunk, to the chunk's end, or there is no directory.
func (d *gdReader) empty(i int64) bool {
	if d == nil {
		return true
	}
	if i%gdChunk != 0 {
		return false
	}
	m, ok := d.src.(diskimage.HoleMapper)
	if !ok {
		return false
	}
	end, hole, err := m.NextRange(d.offset(i))
	return err == nil && hole && end >= d.offset(d.chunkEnd(i))
}

// entry returns entry i: the sector of a grain table, 0 if there is none.
func (d *gdReader) entry(i int64) (uint32, error) {
	at := (i - d.from) * gdeBytes
	if at < 0 || at >= int64(len(d.buf)) {
		d.from = i / gdChunk * gdChunk
		n := (d.chunkEnd(i) - d.from) * gdeBytes
		if int64(cap(d.buf)) < n {
			d.buf = make([]byte, n)
		}
		d.buf = d.buf[:n]
		if err := readFull(d.src, d.buf, d.offset(d.from), "grain directory"); err != nil {
			d.buf = d.buf[:0]
			return 0, err
		}
		at = (i - d.from) * gdeBytes
	}
	return binary.LittleEndian.Uint32(d.buf[at:]), nil
}

// each calls f with every entry that is not 0.
func (d *gdReader) each(f func(i int64, sector uint32) error) error {
	for i := int64(0); i < d.entries; i++ {
		if d.empty(i) {
			i = d.chunkEnd(i) - 1
			continue
		}
		sector, err := d.entry(i)
		if err != nil {
			return err
		}
		if sector != 0 {
			if err := f(i, sector); err != nil {
				return err
			}
		}
	}
	return nil
}
