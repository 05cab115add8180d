package vmdk

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"sync/atomic"

	"github.com/diskimage-go/diskimage"
)

// A sparse is a hosted sparse extent: monolithicSparse, one of
// twoGbMaxExtentSparse, or streamOptimized.
type sparse struct {
	partFile
	h        *sparseHeader
	fileSize int64
	meta     []region // what neither tables nor grains may lie in

	grain     int64 // guest bytes
	grainBits uint
	span      int64 // guest bytes that a grain table maps
	spanBits  uint

	recent atomic.Pointer[grainTable] // the one that was asked for last: walking along a disk takes no lock
	units  grainReader
}

// A grainTable is what the grain directory says of a span of the disk.
type grainTable struct {
	index     int64  // of the entry in the grain directory
	off       int64  // of the table in the file
	entries   []byte // nil: there is no table
	redundant bool   // it is the redundant one
}

func (t *grainTable) String() string {
	if t.redundant {
		return fmt.Sprintf("redundant grain table %d", t.index)
	}
	return fmt.Sprintf("grain table %d", t.index)
}

func (t *grainTable) entry(i int64) uint32 { return binary.LittleEndian.Uint32(t.entries[i*gteBytes:]) }

// newSparse opens a hosted sparse extent.
func newSparse(f partFile) (*sparse, error) {
	h, err := readHeader(f.src)
	if err != nil {
		return nil, err
	}
	s := &sparse{
		partFile: f,
		h:        h,
		fileSize: f.src.Size(),
		grain:    h.grainBytes(),
		span:     h.grainBytes() * numGTEsPerGT,
	}
	s.grainBits, s.spanBits = uint(bits.TrailingZeros64(uint64(s.grain))), uint(bits.TrailingZeros64(uint64(s.span)))
	add := func(name string, sector uint64, n int64) {
		s.meta = append(s.meta, region{name, int64(sector) * sectorSize, int64(sector)*sectorSize + n})
	}
	add("header", 0, sparseHeaderLen)
	if h.descriptorOffset != 0 {
		add("descriptor", h.descriptorOffset, int64(h.descriptorSize)*sectorSize)
	}
	if h.footerOff != 0 {
		add("footer", uint64(h.footerOff/sectorSize), footerSectors*sectorSize)
	}
	if h.gdDamage == nil {
		add(primary.String(), h.gdOffset, h.tables()*gdeBytes)
	} else {
		s.note("the redundant grain directory is used: %v", h.gdDamage)
	}
	if h.redundant() {
		add(redundant.String(), h.rgdOffset, h.tables()*gdeBytes)
	} else if h.rgdDamage != nil {
		s.note("the redundant grain directory cannot be used: %v", h.rgdDamage)
	}
	if h.fill > 0 {
		s.note(followsEnd, h.fill)
	}
	if h.uncleanShutdown != 0 {
		s.note("the image was not closed properly (uncleanShutdown)")
	}
	s.units.init(s)
	return s, nil
}

func (s *sparse) size() int64 { return s.h.size() }

// locate maps the guest bytes at off, as part has it: a run that is alike as
// far as one grain table shows it.
func (s *sparse) locate(off, limit int64) (mapping, error) {
	index := off >> s.spanBits
	t := s.recent.Load()
	if t == nil || t.index != index {
		var err error
		if t, err = s.table(index); err != nil {
			return mapping{n: min(limit, s.span-off&(s.span-1))}, err
		}
		s.recent.Store(t)
	}
	if t.entries == nil {
		n := s.absentTables(index)
		return mapping{state: absent, n: min(limit, (index+n)*s.span-off), host: -1}, nil
	}
	i := off >> s.grainBits & (numGTEsPerGT - 1)
	in := off & (s.grain - 1)
	e := t.entry(i)
	if err := s.checkEntry(t, i, e); err != nil {
		return mapping{n: min(limit, s.grain-in)}, err
	}
	m := mapping{host: -1}
	var step uint64
	switch {
	case e == gteAbsent:
		m.state = absent
	case e == gteZeroed && s.h.zeroedGTE():
		m.state = zeros
	case s.h.compressed():
		m.state, m.n = packed, min(limit, s.grain-in)
		m.host, m.guess = int64(e)*sectorSize, s.guess(t, i)
		return m, nil
	default:
		m.state, m.host, step = plain, int64(e)*sectorSize+in, s.h.grainSize
	}
	// What follows is alike if it differs by the grains' steps only.
	n := int64(1)
	most := min(numGTEsPerGT-i, (in+limit+s.grain-1)>>s.grainBits)
	for want := uint64(e) + step; n < most && uint64(t.entry(i+n)) == want; want += step {
		n++
	}
	m.n = min(limit, n<<s.grainBits-in)
	if m.state == plain {
		// Guest bytes are all that must be there: the last grain of a file may
		// be short where the rest of it lies beyond the end of the disk.
		left := s.fileSize - m.host
		if left <= 0 {
			return mapping{n: min(limit, s.grain-in)}, s.badEntry(diskimage.ErrTruncated, t, i, "the grain at %#x lies beyond the end of the file at %#x", int64(e)*sectorSize, s.fileSize)
		}
		m.n = min(m.n, left)
		if regionAt(s.meta, m.host, m.n) != "" {
			m.n = min(m.n, s.grain-in) // the first grain lies in none: a later one will be told of
		}
	}
	return m, nil
}

// visible returns how many bytes of an entry's grain the guest sees: the last
// one may end behind the disk.
func (s *sparse) visible(t *grainTable, i int64) int64 {
	return min(s.grain, s.size()-t.index<<s.spanBits-i<<s.grainBits)
}

// guess returns how many bytes the compressed grain of entry i probably takes:
// mostly the next one follows it.
func (s *sparse) guess(t *grainTable, i int64) int64 {
	n := s.grain / 2
	if i+1 < numGTEsPerGT {
		if next := (int64(t.entry(i+1)) - int64(t.entry(i))) * sectorSize; next > 0 && next <= s.units.most {
			n = next
		}
	}
	return min(n, s.fileSize-int64(t.entry(i))*sectorSize)
}

// table returns the grain table that maps the span of that index: the one the
// grain directory names, or if that one is damaged and the redundant one is
// not, the redundant one, which is noted.
func (s *sparse) table(index int64) (*grainTable, error) {
	if s.h.gdDamage != nil {
		return s.readTable(redundant, index) // it is all there is
	}
	t, err := s.readTable(primary, index)
	if !s.h.redundant() {
		return t, err
	}
	damage := err
	if err == nil && t.entries != nil {
		if damage = s.checkTable(t); damage == nil {
			return t, nil
		}
	}
	// A primary entry of 0 is damage if the redundant one is not: products
	// write both.
	r, redundantErr := s.readTable(redundant, index)
	if redundantErr != nil || r.entries == nil || s.checkTable(r) != nil {
		return t, err
	}
	if damage == nil {
		damage = fmt.Errorf("%v: entry %d: it names no table", primary, index)
	}
	s.note("the %v at %#x is used: %v", r, r.off, damage)
	return r, nil
}

// A directory is one of the two grain directories.
type directory bool

const (
	primary   directory = false
	redundant directory = true
)

func (d directory) String() string {
	if d == redundant {
		return "redundant grain directory"
	}
	return "grain directory"
}

// directoryAt returns where a directory lies.
func (s *sparse) directoryAt(d directory) (int64, error) {
	if d == redundant {
		return int64(s.h.rgdOffset) * sectorSize, s.h.rgdDamage
	}
	return int64(s.h.gdOffset) * sectorSize, s.h.gdDamage
}

// readTable returns the table that a directory's entry names.
func (s *sparse) readTable(d directory, index int64) (*grainTable, error) {
	t := &grainTable{index: index, redundant: bool(d)}
	var err error
	if t.off, err = s.directoryEntry(d, index); err != nil || t.off == 0 {
		return t, err
	}
	t.entries, err = s.page(t.off, gtBytes, t.String())
	return t, err
}

// directoryPage is how many bytes of a grain directory are read at once.
const directoryPage = 64 << 10

// directoryPart returns the page of a directory that holds an entry, and where
// in it the entry is.
func (s *sparse) directoryPart(d directory, index int64) ([]byte, int64, error) {
	off, err := s.directoryAt(d)
	if err != nil {
		return nil, 0, err
	}
	at := index * gdeBytes
	start := at &^ (directoryPage - 1)
	p, err := s.page(off+start, int(min(directoryPage, s.h.tables()*gdeBytes-start)), d.String())
	return p, at - start, err
}

// directoryEntry returns the offset of the grain table that a directory's
// entry names, 0 if it names none.
func (s *sparse) directoryEntry(d directory, index int64) (int64, error) {
	p, i, err := s.directoryPart(d, index)
	if err != nil {
		return 0, err
	}
	off := int64(binary.LittleEndian.Uint32(p[i:])) * sectorSize
	bad := func(kind diskimage.ErrorKind, format string, args ...any) (int64, error) {
		at, _ := s.directoryAt(d)
		return 0, fail(kind, at+index*gdeBytes, fmt.Sprintf("%v: entry %d", d, index), format, args...)
	}
	if off+gtBytes > s.fileSize {
		return bad(diskimage.ErrTruncated, "the grain table at %#x ends beyond the end of the file at %#x", off, s.fileSize)
	}
	if off == 0 {
		return 0, nil
	}
	if r := regionAt(s.meta, off, gtBytes); r != "" {
		return bad(diskimage.ErrCorrupt, "the grain table at %#x overlaps the %s", off, r)
	}
	return off, nil
}

// absentTables returns how many entries from index on name no table in any of
// the directories, as far as a page of each shows; 1 at least, since the entry
// at index is known to lead to no table that can be used.
func (s *sparse) absentTables(index int64) int64 {
	n := s.h.tables() - index
	for _, d := range []directory{primary, redundant} {
		if d == redundant && !s.h.redundant() || d == primary && s.h.gdDamage != nil {
			continue
		}
		p, i, err := s.directoryPart(d, index)
		if err != nil {
			return 1
		}
		k := int64(0)
		for ; i < int64(len(p)) && k < n && binary.LittleEndian.Uint32(p[i:]) == 0; i += gdeBytes {
			k++
		}
		n = k
	}
	return max(n, 1)
}

// checkTable returns the first thing that is wrong with a table's entries.
func (s *sparse) checkTable(t *grainTable) error {
	n := min(numGTEsPerGT, s.h.grains()-t.index*numGTEsPerGT)
	for i := range n {
		if err := s.checkEntry(t, i, t.entry(i)); err != nil {
			return err
		}
	}
	return nil
}

// checkEntry checks that a table's entry is one that names no grain, or a
// place where a grain may be.
func (s *sparse) checkEntry(t *grainTable, i int64, e uint32) error {
	if e == gteAbsent || e == gteZeroed && s.h.zeroedGTE() {
		return nil
	}
	if off := int64(e) * sectorSize; uint64(e) >= s.h.overHead && off < s.fileSize {
		n := int64(sectorSize) // of a compressed one no more is known
		if !s.h.compressed() {
			n = s.visible(t, i)
		}
		if r := regionAt(s.meta, off, n); r != "" {
			return s.badEntry(diskimage.ErrCorrupt, t, i, "the grain at %#x lies in the %s", off, r)
		}
		return nil
	}
	return s.misplaced(t, i, e)
}

// aligned reports whether the plain grain of an entry begins where grains do:
// products count them from sector 0 or from the end of the metadata. Where a
// second table tells the same, a grain may be anywhere: no specification says
// that it may not, and a program that adds a table behind the data moves what it
// adds later.
func (s *sparse) aligned(e uint32) bool {
	mask := s.h.grainSize - 1
	return s.h.compressed() || s.h.redundant() || uint64(e)&mask == 0 || (uint64(e)-s.h.overHead)&mask == 0
}

const misalignedGrain = "the grain at %#x is aligned neither to its size nor to the end of the metadata"

// misplaced says what is wrong with an entry that is outside of where grains
// may be.
func (s *sparse) misplaced(t *grainTable, i int64, e uint32) error {
	off := int64(e) * sectorSize
	if off >= s.fileSize {
		return s.badEntry(diskimage.ErrTruncated, t, i, "the grain at %#x lies beyond the end of the file at %#x", off, s.fileSize)
	}
	if e == gteZeroed {
		return s.badEntry(diskimage.ErrCorrupt, t, i, "1 means a grain of zeros, but the header's flags %#x do not say that there are such", s.h.flags)
	}
	return s.badEntry(diskimage.ErrCorrupt, t, i, "the grain at %#x lies in the metadata, which ends at %#x", off, int64(s.h.overHead)*sectorSize)
}

// badEntry returns an error about a table's entry.
func (s *sparse) badEntry(kind diskimage.ErrorKind, t *grainTable, i int64, format string, args ...any) error {
	args = append(args, t.index<<s.spanBits+i<<s.grainBits)
	return fail(kind, t.off+i*gteBytes, fmt.Sprintf("%v: entry %d", t, i), format+" (guest offset %#x)", args...)
}

// read fills p with the guest bytes at off, which m maps.
func (s *sparse) read(p []byte, off int64, m mapping) error {
	if m.state == plain {
		return readFull(s.src, p, m.host, "data")
	}
	return s.units.read(p, off, m)
}
