package vmdk

import (
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/internal/notes"
	"github.com/diskimage-go/diskimage/internal/pagecache"
)

// An esxGrain is one grain of an extent to build.
type esxGrain struct {
	index int64
	state uint64 // of a SESparse entry; COWD has allocated ones only
	data  []byte // of a whole grain
}

// An esxExtent is a COWD or SESparse extent to build, and then its file.
type esxExtent struct {
	kind    extentKind
	sectors int64
	grain   int64      // sectors
	grains  []esxGrain // in the order in which they lie in the file

	file   []byte
	tables map[int64]int64 // offsets of grain tables by index
	places map[int64]int64 // offsets of grains by index
}

// entryAt returns the offset in the file of a grain's table entry.
func (x *esxExtent) entryAt(index int64) int64 {
	size := int64(8)
	if x.kind == kindVMFSSparse {
		size = 4
	}
	return x.tables[index/esxGTEsPerGT] + index%esxGTEsPerGT*size
}

// guest returns what the disk reads as over a parent, which may be shorter.
func (x *esxExtent) guest(parent []byte) []byte {
	guest := make([]byte, x.sectors*sectorSize)
	copy(guest, parent)
	for _, g := range x.grains {
		at := guest[g.index*x.grain*sectorSize:]
		clear(at[:min(len(at), int(x.grain*sectorSize))])
		copy(at, g.data)
	}
	return guest
}

// build makes the file.
func (x *esxExtent) build() *esxExtent {
	x.tables, x.places = map[int64]int64{}, map[int64]int64{}
	if x.kind == kindVMFSSparse {
		x.buildCOWD()
	} else {
		x.grain = seGrainSectors
		x.buildSESparse()
	}
	return x
}

func (x *esxExtent) put32(off int64, v int64) { binary.LittleEndian.PutUint32(x.file[off:], uint32(v)) }
func (x *esxExtent) put64(off int64, v uint64) {
	binary.LittleEndian.PutUint64(x.file[off:], v)
}

// add appends n bytes, to whole sectors, and returns where they are.
func (x *esxExtent) add(n int64) int64 {
	off := int64(len(x.file))
	x.file = append(x.file, make([]byte, ceilDiv(n, sectorSize)*sectorSize)...)
	return off
}

// buildCOWD puts tables where they are first needed, as ESX does.
func (x *esxExtent) buildCOWD() {
	tables := ceilDiv(x.sectors, x.grain*cowdGTEsPerGT)
	x.add(cowdHeaderLen)
	binary.LittleEndian.PutUint32(x.file, magicCOWD)
	x.put32(offCOWDVersion, cowdVersion)
	x.put32(offCOWDFlags, cowdFlags)
	x.put32(offCOWDNumSectors, x.sectors)
	x.put32(offCOWDGrainSize, x.grain)
	gd := x.add(tables * 4)
	x.put32(offCOWDGdOffset, gd/sectorSize)
	x.put32(offCOWDNumGDEntries, tables)
	for _, g := range x.grains {
		table := g.index / cowdGTEsPerGT
		if x.tables[table] == 0 {
			x.tables[table] = x.add(cowdGTEsPerGT * 4)
			x.put32(gd+table*4, x.tables[table]/sectorSize)
		}
		x.places[g.index] = x.add(x.grain * sectorSize)
		copy(x.file[x.places[g.index]:], g.data)
		x.put32(x.entryAt(g.index), x.places[g.index]/sectorSize)
	}
	x.put32(offCOWDFreeSector, int64(len(x.file))/sectorSize)
}

// buildSESparse lays the file out as ESX does; tables are numbered in the
// order in which they are needed.
func (x *esxExtent) buildSESparse() {
	tables := ceilDiv(x.sectors, seGrainSectors*seGTEsPerGT)
	x.add(seHeaderLen)
	x.put64(0, magicSESparse)
	x.put64(offSEVersion, seVersion)
	x.put64(offSECapacity, uint64(x.sectors))
	x.put64(offSEGrainSize, seGrainSectors)
	x.put64(offSEGrainTableSize, seTableSectors)
	region := func(field, sectors int64) int64 {
		off := x.add(sectors * sectorSize)
		x.put64(field, uint64(off/sectorSize))
		x.put64(field+8, uint64(sectors))
		return off
	}
	volatile := region(offSEVolatileHeader, 1)
	x.put64(volatile, magicSEVolatile)
	region(offSEJournalHeader, 2)
	x.add(2044 * sectorSize)
	region(offSEJournal, 2048)
	gd := region(offSEGrainDirectory, ceilDiv(tables*8, sectorSize))
	gts := region(offSEGrainTables, tables*seTableSectors)
	region(offSEFreeBitmap, 8)
	region(offSEBackmap, 8)
	grains := region(offSEGrains, 0)
	x.put64(offSEGrains+8, uint64(x.sectors))
	for _, g := range x.grains {
		table := g.index / seGTEsPerGT
		if x.tables[table] == 0 {
			no := int64(len(x.tables))
			x.tables[table] = gts + no*seTableSectors*sectorSize
			x.put64(gd+table*8, seTableAllocated|uint64(no))
		}
		e := g.state << 60
		if g.state == seStateAllocated {
			x.places[g.index] = x.add(seGrainSectors * sectorSize)
			copy(x.file[x.places[g.index]:], g.data)
			e |= seEntryOf(uint64(x.places[g.index]-grains) / (seGrainSectors * sectorSize))
		}
		x.put64(x.entryAt(g.index), e)
	}
}

// seEntryOf returns the bits of an entry that hold a grain's index.
func seEntryOf(index uint64) uint64 { return index&0xfff<<48 | index>>12 }

// open returns the extent's part, of the file as it is now.
func (x *esxExtent) open() (part, *notes.List, error) {
	n := &notes.List{Format: Name}
	f := partFile{src: source(x.file), pages: pagecache.New(1 << 20), notes: n}
	if x.kind == kindVMFSSparse {
		p, err := newCOWD(f)
		return p, n, err
	}
	p, err := newSESparse(f)
	return p, n, err
}

// write makes a disk of the extent in a folder: disk.vmdk and delta.vmdk.
func (x *esxExtent) write(t testing.TB, dir string, head ...string) string {
	t.Helper()
	createType := map[extentKind]string{kindVMFSSparse: "vmfsSparse", kindSESparse: "seSparse"}[x.kind]
	text := fmt.Sprintf("# Disk DescriptorFile\nversion=1\nCID=12345678\ncreateType=\"%s\"\n", createType)
	if len(head) == 0 {
		head = []string{"parentCID=ffffffff"}
	}
	for _, line := range head {
		text += line + "\n"
	}
	text += fmt.Sprintf("RW %d %s \"delta.vmdk\"\n", x.sectors, x.kind)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "disk.vmdk"), []byte(text), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "delta.vmdk"), x.file, 0o600))
	return filepath.Join(dir, "disk.vmdk")
}

// noise returns n bytes that are not zeros.
func noise(seed uint64, n int64) []byte {
	b := make([]byte, 0, n+8)
	rnd := rand.New(rand.NewPCG(seed, 0))
	for int64(len(b)) < n {
		b = binary.LittleEndian.AppendUint64(b, rnd.Uint64()|0x0101010101010101)
	}
	return b[:n:n]
}

// esxExtents returns extents of all shapes that are right.
func esxExtents() map[string]*esxExtent {
	const cowd, se = kindVMFSSparse, kindSESparse
	grains := func(n int64, state uint64, indices ...int64) []esxGrain {
		var list []esxGrain
		for _, i := range indices {
			g := esxGrain{index: i, state: state}
			if state == seStateAllocated {
				g.data = noise(uint64(i), n*sectorSize)
			}
			list = append(list, g)
		}
		return list
	}
	join := func(lists ...[]esxGrain) []esxGrain {
		var all []esxGrain
		for _, l := range lists {
			all = append(all, l...)
		}
		return all
	}
	const data = seStateAllocated
	all := map[string]*esxExtent{
		"cowd empty":          {kind: cowd, sectors: 5000, grain: 1},
		"cowd one sector":     {kind: cowd, sectors: 1, grain: 1, grains: grains(1, data, 0)},
		"cowd grain 1":        {kind: cowd, sectors: 3*4096 + 77, grain: 1, grains: grains(1, data, 5, 4, 6, 7, 4095, 4096, 4098, 3*4096+76)},
		"cowd grain 128":      {kind: cowd, sectors: 20480, grain: 128, grains: grains(128, data, 0, 1, 7, 3, 159)},
		"cowd partial grain":  {kind: cowd, sectors: 16*10 + 3, grain: 16, grains: grains(16, data, 3, 10)},
		"se empty":            {kind: se, sectors: 40000},
		"se runs":             {kind: se, sectors: 40000, grains: join(grains(8, data, 1, 2, 4, 3, 4095, 4096, 4999), grains(8, seStateZero, 10, 11, 5), grains(8, seStateUnmapped, 12))},
		"se zeros only":       {kind: se, sectors: 4096, grains: grains(8, seStateZero, 0, 511)},
		"se partial grain":    {kind: se, sectors: 8*10 + 3, grains: grains(8, data, 3, 10)},
		"se tables backwards": {kind: se, sectors: 3 * 4096 * 8, grains: grains(8, data, 3*4096-1, 4096, 0)},
		"se more than 4096":   {kind: se, sectors: 8 * 5000, grains: grains(8, data, seq(0, 4200)...)},
		"cowd more than 4096": {kind: cowd, sectors: 5000, grain: 1, grains: grains(1, data, seq(0, 4200)...)},
		"cowd absent between": {kind: cowd, sectors: 6 * 4096, grain: 1, grains: grains(1, data, 5*4096)},
	}
	for _, x := range all {
		x.build()
	}
	// ESX need not write more of the last grain than the guest sees.
	x := all["cowd partial grain"]
	x.file = x.file[:x.places[10]+3*sectorSize]
	return all
}

func seq(from, to int64) []int64 {
	var list []int64
	for i := from; i < to; i++ {
		list = append(list, i)
	}
	return list
}

// A partDisk is a part as a disk without a parent.
type partDisk struct{ part }

func (d partDisk) Size() int64  { return d.size() }
func (d partDisk) Close() error { return nil }

func (d partDisk) NextExtent(off int64) (diskimage.Extent, error) {
	if off == d.size() {
		return diskimage.Extent{}, io.EOF
	}
	if off < 0 || off > d.size() {
		return diskimage.Extent{}, fmt.Errorf("%d is outside", off)
	}
	m, err := d.locate(off, d.size()-off)
	if err != nil {
		return diskimage.Extent{}, err
	}
	kind := map[state]diskimage.Kind{absent: diskimage.Hole, zeros: diskimage.Zero, plain: diskimage.Data}[m.state]
	return diskimage.Extent{Off: off, Len: m.n, Kind: kind, Host: m.host}, nil
}

func (d partDisk) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("%d is outside", off)
	}
	n := 0
	for n < len(p) && off < d.size() {
		m, err := d.locate(off, int64(len(p)-n))
		if err != nil {
			return n, err
		}
		to := p[n : n+int(m.n)]
		if m.state == plain {
			if err := d.read(to, off, m); err != nil {
				return n, err
			}
		} else {
			clear(to)
		}
		n += len(to)
		off += m.n
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}
