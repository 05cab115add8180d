package vmdk

import (
	"io"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage"
)

// When an extent's fault is found.
const (
	atOpen  = iota
	atRead  // and by checkMap
	atCheck // by checkMap alone
)

type esxFault struct {
	name   string
	damage func(x *esxExtent)
	kind   diskimage.ErrorKind
	when   int
	want   string
}

func cut(n int64) func(x *esxExtent) { return func(x *esxExtent) { x.file = x.file[:n] } }

func set32(off, v int64) func(x *esxExtent) { return func(x *esxExtent) { x.put32(off, v) } }

func set64(off int64, v uint64) func(x *esxExtent) { return func(x *esxExtent) { x.put64(off, v) } }

// setEntry changes the table entry of a grain.
func setEntry(index int64, v uint64) func(x *esxExtent) {
	return func(x *esxExtent) {
		if x.kind == kindVMFSSparse {
			x.put32(x.entryAt(index), int64(v))
		} else {
			x.put64(x.entryAt(index), v)
		}
	}
}

// copyEntry gives one grain the table entry of another, which has n bytes.
func copyEntry(to, from, n int64) func(x *esxExtent) {
	return func(x *esxExtent) { copy(x.file[x.entryAt(to):], x.file[x.entryAt(from):x.entryAt(from)+n]) }
}

func TestMalformedCOWD(t *testing.T) {
	const corrupt, truncated, unsupported = diskimage.ErrCorrupt, diskimage.ErrTruncated, diskimage.ErrUnsupported
	const gd = cowdHeaderLen // where the directory is; the first table is in the next sector
	base := func() *esxExtent {
		x := &esxExtent{kind: kindVMFSSparse, sectors: 5000 * 4, grain: 4}
		for _, i := range []int64{3, 0, 4097, 4999} {
			x.grains = append(x.grains, esxGrain{index: i, state: seStateAllocated, data: noise(uint64(i), 4*sectorSize)})
		}
		return x.build()
	}
	testESXFaults(t, base, []esxFault{
		{"empty", cut(0), diskimage.ErrFormat, atOpen, "header: magicNumber at 0x0: not a COWD extent"},
		{"another magic", set32(0, magicKDMV), diskimage.ErrFormat, atOpen, "not a COWD extent"},
		{"header cut off", cut(2047), truncated, atOpen, "header at 0x7ff: the file ends after 2047 of 2048 bytes"},
		{"version 3", set32(offCOWDVersion, 3), unsupported, atOpen, "header: version at 0x4: 3; 1 is read"},
		{"flags 0x1b", set32(offCOWDFlags, 0x1b), unsupported, atOpen, "header: flags at 0x8: 0x1b"},
		{"no sectors", set32(offCOWDNumSectors, 0), corrupt, atOpen, "header: numSectors at 0xc: 0"},
		{"grain of 0", set32(offCOWDGrainSize, 0), corrupt, atOpen, "header: grainSize at 0x10: 0 sectors"},
		{"grain of 7", set32(offCOWDGrainSize, 7), corrupt, atOpen, "7 sectors, no power of two"},
		{"grain of 2^31", set32(offCOWDGrainSize, 1<<31), corrupt, atOpen, "2147483648 sectors"},
		{"directory in the header", set32(offCOWDGdOffset, 3), corrupt, atOpen, "header: gdOffset at 0x14: the grain directory is at 0x600"},
		{"directory elsewhere", set32(offCOWDGdOffset, 1<<32-1), corrupt, atOpen, "header: gdOffset at 0x14: the grain directory is at 0x1fffffffe00, and not behind the header at 0x800"},
		{"directory cut off", cut(gd + 7), truncated, atOpen, "grain directory at 0x800: it ends at 0x808, the file at 0x807"},
		{"too few directory entries", set32(offCOWDNumGDEntries, 1), corrupt, atOpen, "header: numGDEntries at 0x18: 1, 2 needed for 20000 sectors"},

		{"table behind the end", set32(gd+4, 1<<31), truncated, atRead, "grain directory: entry 1 at 0x804: the grain table at 0x10000000000 ends behind the file"},
		{"table in the header", set32(gd, 1), corrupt, atRead, "grain directory: entry 0 at 0x800: the grain table at 0x200 lies in the header"},
		{"table in the directory", set32(gd, 4), corrupt, atRead, "the grain table at 0x800 lies in the grain directory"},
		{"table used twice", set32(gd+4, 5), corrupt, atCheck, "grain directory: entry 1 at 0x804: the grain table at 0xa00 overlaps another"},
		{"tables overlap", set32(gd+4, 6), corrupt, atCheck, "the grain table at 0xc00 overlaps another"},
		{"grain behind the end", setEntry(3, 1<<32-1), truncated, atRead, "grain table 0: entry 3 at 0xa0c: the grain at 0x1fffffffe00 ends behind the file at 0xaa00 (guest offset 0x1800)"},
		{"grain in the header", setEntry(4097, 1), corrupt, atRead, "grain table 1: entry 1 at 0x5a04: the grain at 0x200 lies in the header"},
		{"grain in the directory", setEntry(4097, 4), corrupt, atRead, "the grain at 0x800 lies in the grain directory"},
		{"grain in a table", setEntry(3, 6), corrupt, atCheck, "grain table 0: entry 3 at 0xa0c: the grain at 0xc00 overlaps another, or a grain table"},
		{"grain used twice", copyEntry(4999, 3, 4), corrupt, atCheck, "grain table 1: entry 903 at 0x681c: the grain at 0x4a00 overlaps another"},
		{"grains overlap", func(x *esxExtent) { setEntry(4999, uint64(x.places[3]/sectorSize)+1)(x) }, corrupt, atCheck, "overlaps another"},
		{"grain cut off", func(x *esxExtent) { x.file = x.file[:len(x.file)-1] }, truncated, atRead, "ends behind the file"},
	})

	x := base()
	x.put32(offCOWDUncleanShutdown, 1)
	_, notes, err := x.open()
	require.NoError(t, err)
	require.Len(t, notes.All(), 1)
	require.Contains(t, notes.All()[0].Text, "not closed properly")
}

func TestMalformedSESparse(t *testing.T) {
	const corrupt, truncated, unsupported = diskimage.ErrCorrupt, diskimage.ErrTruncated, diskimage.ErrUnsupported
	const (
		gd     = 4096 * sectorSize
		tables = gd + sectorSize
	)
	base := func() *esxExtent {
		x := &esxExtent{kind: kindSESparse, sectors: 5000 * 8}
		for _, i := range []int64{3, 0, 4097, 4999} {
			x.grains = append(x.grains, esxGrain{index: i, state: seStateAllocated, data: noise(uint64(i), 8*sectorSize)})
		}
		return x.build()
	}
	faults := []esxFault{
		{"empty", cut(0), diskimage.ErrFormat, atOpen, "header: magic at 0x0: not a SESparse extent"},
		{"another magic", set64(0, magicSEVolatile), diskimage.ErrFormat, atOpen, "not a SESparse extent"},
		{"header cut off", cut(511), truncated, atOpen, "header at 0x1ff: the file ends after 511 of 512 bytes"},
		{"version", set64(offSEVersion, 0x200000002), unsupported, atOpen, "header: version at 0x8: 0x200000002; 0x200000001 is read"},
		{"no sectors", set64(offSECapacity, 0), corrupt, atOpen, "header: capacity at 0x10: 0"},
		{"too many sectors", set64(offSECapacity, maxSESectors+1), diskimage.ErrLimit, atOpen, "137438953473 sectors, 137438953472 at most"},
		{"capacity of 2^64-1", set64(offSECapacity, 1<<64-1), diskimage.ErrLimit, atOpen, "header: capacity"},
		{"grain size", set64(offSEGrainSize, 16), unsupported, atOpen, "header: grain size at 0x18: 0x10; 0x8 is read"},
		{"grain table size", set64(offSEGrainTableSize, 1<<63), unsupported, atOpen, "header: grain table size at 0x20"},
		{"flags", set64(offSEFlags, 1), unsupported, atOpen, "header: flags at 0x28: 0x1; 0x0 is read"},
		{"reserved", set64(offSEReserved+24, 1), unsupported, atOpen, "header at 0x30: reserved bytes are not 0"},
		{"padding", set64(seHeaderLen-8, 1<<56), unsupported, atOpen, "header at 0xd0: reserved bytes are not 0"},
		{"regions overlap", set64(offSEJournal, 4095), corrupt, atOpen, "header: grain directory at 0x200000: it overlaps the journal"},
		{"region in the header", set64(offSEGrainTables, 0), corrupt, atOpen, "overlaps"},
		{"grains in a region", set64(offSEGrains, 4096), corrupt, atOpen, "header: grains at 0xc0: at 0x200000, they overlap the backmap"},
		{"directory too small", set64(offSEGrainDirectory+8, 0), corrupt, atOpen, "header: grain directory at 0x80: 0 bytes, 16 needed for 40000 sectors"},
		{"directory cut off", cut(gd + 15), truncated, atOpen, "grain directory at 0x200000: it ends at 0x200010, the file at 0x20000f"},
		{"volatile header cut off", cut(1023), truncated, atOpen, "volatile header at 0x200: the file ends at 0x3ff"},
		{"volatile header's magic", set64(seHeaderLen, magicSESparse), corrupt, atOpen, "volatile header: magic at 0x200: 0xcafebabe, not 0xcafecafe"},
		{"journal to be replayed", set64(seHeaderLen+offSEReplayJournal, 1), unsupported, atOpen, "volatile header: replay journal at 0x218: the extent was not closed properly"},
		{"volatile header's padding", set64(2*seHeaderLen-8, 1), unsupported, atOpen, "volatile header at 0x220: reserved bytes are not 0"},

		{"directory entry of no known kind", set64(gd, 0x2000000000000000), corrupt, atRead, "grain directory: entry 0 at 0x200000: 0x2000000000000000 has bits of no known meaning"},
		{"directory entry not allocated", set64(gd, 1), corrupt, atRead, "0x1 has bits of no known meaning"},
		{"table number too large", set64(gd+8, seTableAllocated|2), corrupt, atRead, "grain directory: entry 1 at 0x200008: grain table number 2 of 2"},
		{"largest table number", set64(gd+8, seTableAllocated|0xffffffff), corrupt, atRead, "grain table number 4294967295 of 2"},
		{"table cut off", cut(tables + 32767), truncated, atRead, "grain directory: entry 0 at 0x200000: the grain table at 0x200200 ends behind the file at 0x2081ff"},
		{"table used twice", set64(gd+8, seTableAllocated), corrupt, atCheck, "grain directory: entry 1 at 0x200008: the grain table at 0x200200 overlaps another"},
		{"a table that the directory has lost", set64(gd, 0), corrupt, atCheck, "grain tables at 0x200200: number 0 has entries, and the grain directory does not name it"},
		{"the last table lost", set64(gd+8, 0), corrupt, atCheck, "grain tables at 0x208200: number 1 has entries"},
		{"entry of no known kind", setEntry(3, 4<<60), corrupt, atRead, "grain table 0: entry 3 at 0x200218: 0x4000000000000000 is of no known kind (guest offset 0x3000)"},
		{"absent with an index", setEntry(3, 1), corrupt, atRead, "0x1 has bits of no known meaning"},
		{"grain behind the end", setEntry(3, 3<<60|seEntryOf(4)), truncated, atRead, "ends behind the file at"},
		{"largest grain number", setEntry(3, 1<<62-1), truncated, atRead, "ends behind the file at"},
		{"grain used twice", copyEntry(4999, 3, 8), corrupt, atCheck, "grain table 1: entry 903 at 0x209e38: the grain at 0x212200 overlaps another"},
		{"grain cut off", func(x *esxExtent) { x.file = x.file[:len(x.file)-1] }, truncated, atRead, "ends behind the file"},
	}
	for _, f := range seFields {
		faults = append(faults,
			esxFault{f.name + " far away", set64(int64(f.off), 1<<54), corrupt, atOpen, "header: " + f.name},
			esxFault{f.name + " too large", set64(int64(f.off)+8, 1<<64-1), corrupt, atOpen, "header: " + f.name})
	}
	testESXFaults(t, base, faults)
}

func testESXFaults(t *testing.T, base func() *esxExtent, faults []esxFault) {
	for _, fault := range faults {
		t.Run(fault.name, func(t *testing.T) {
			x := base()
			fault.damage(x)
			p, _, err := x.open()
			if fault.when == atOpen {
				require.ErrorIs(t, err, fault.kind)
				require.ErrorContains(t, err, fault.want)
				require.Nil(t, p)
				return
			}
			require.NoError(t, err)
			err = p.checkMap()
			require.ErrorIs(t, err, fault.kind)
			require.ErrorContains(t, err, fault.want)

			_, err = io.Copy(io.Discard, io.NewSectionReader(partDisk{p}, 0, p.size()))
			if fault.when == atRead {
				require.ErrorIs(t, err, fault.kind)
				require.ErrorContains(t, err, fault.want)
			} else {
				require.NoError(t, err)
			}
		})
	}
}
