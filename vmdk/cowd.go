package vmdk

import (
	"encoding/binary"
	"math/bits"

	"github.com/diskimage-go/diskimage"
)

// newCOWD opens a COWD extent: of a vmfsSparse disk, which is what ESX up to
// 6.0 makes of a snapshot. It has no descriptor, and whether what it does not
// hold is zeros or a parent's only the disk's descriptor says.
func newCOWD(f partFile) (part, error) {
	b := make([]byte, min(cowdHeaderLen, max(0, f.src.Size())))
	if err := readFull(f.src, b, 0, "header"); err != nil {
		return nil, err
	}
	le := binary.LittleEndian
	if len(b) < 4 || le.Uint32(b) != magicCOWD {
		return nil, fail(diskimage.ErrFormat, 0, "header: magicNumber", "not a COWD extent")
	}
	if len(b) < cowdHeaderLen {
		return nil, fail(diskimage.ErrTruncated, int64(len(b)), "header", "the file ends after %d of %d bytes", len(b), cowdHeaderLen)
	}
	var (
		version    = le.Uint32(b[offCOWDVersion:])
		flags      = le.Uint32(b[offCOWDFlags:])
		numSectors = le.Uint32(b[offCOWDNumSectors:])
		grainSize  = le.Uint32(b[offCOWDGrainSize:])
		gdOffset   = int64(le.Uint32(b[offCOWDGdOffset:])) * sectorSize
		gdEntries  = int64(le.Uint32(b[offCOWDNumGDEntries:]))
	)
	// Workstation up to 3 made such files too, of version 3 and with flags
	// 0x1b, whose tables are shorter.
	if version != cowdVersion {
		return nil, fail(diskimage.ErrUnsupported, offCOWDVersion, "header: version", "%d; 1 is read", version)
	}
	if flags != cowdFlags {
		return nil, fail(diskimage.ErrUnsupported, offCOWDFlags, "header: flags", "%#x; %#x is read", flags, cowdFlags)
	}
	if numSectors == 0 {
		return nil, fail(diskimage.ErrCorrupt, offCOWDNumSectors, "header: numSectors", "0")
	}
	if bits.OnesCount32(grainSize) != 1 || grainSize > maxGrain {
		return nil, fail(diskimage.ErrCorrupt, offCOWDGrainSize, "header: grainSize", "%d sectors, no power of two up to %d", grainSize, maxGrain)
	}
	if gdOffset != cowdHeaderLen {
		return nil, fail(diskimage.ErrCorrupt, offCOWDGdOffset, "header: gdOffset", "the grain directory is at %#x, and not behind the header at %#x", gdOffset, cowdHeaderLen)
	}
	s := &esxSparse{
		partFile: f,
		entries:  cowdEntries{},
		capacity: int64(numSectors) * sectorSize,
		grain:    int64(grainSize) * sectorSize,
		gdOffset: gdOffset,
		fileSize: f.src.Size(),
	}
	s.span = s.grain * esxGTEsPerGT
	if gdEntries < s.tables() {
		return nil, fail(diskimage.ErrCorrupt, offCOWDNumGDEntries, "header: numGDEntries", "%d, %d needed for %d sectors", gdEntries, s.tables(), numSectors)
	}
	gdEnd := gdOffset + s.tables()*gdeBytes
	if gdEnd > s.fileSize {
		return nil, fail(diskimage.ErrTruncated, gdOffset, "grain directory", "it ends at %#x, the file at %#x", gdEnd, s.fileSize)
	}
	s.meta = []region{{"header", 0, cowdHeaderLen}, {"grain directory", gdOffset, gdEnd}}
	if le.Uint32(b[offCOWDUncleanShutdown:]) != 0 {
		f.note("the extent was not closed properly (uncleanShutdown)")
	}
	return s, nil
}

// cowdEntries are sectors, both of tables and of grains; 0: there is none.
type cowdEntries struct{}

func (cowdEntries) size() int64 { return gteBytes }

func (cowdEntries) table(e uint64) (int64, error) { return int64(e) * sectorSize, nil }

func (cowdEntries) grain(e uint64) (state, int64, error) {
	if e == gteAbsent {
		return absent, -1, nil
	}
	return plain, int64(e) * sectorSize, nil
}
