package vmdk

import (
	"encoding/binary"
	"fmt"
	"sync/atomic"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/internal/zero"
)

// esxGTEsPerGT is the number of entries of a grain table in an extent of ESX,
// of either kind.
const esxGTEsPerGT = 4096

// An esxSparse is a sparse extent as ESX makes it for a snapshot: COWD or
// SESparse. Both look a guest offset up in a grain directory and in tables of
// 4,096 entries, store grains as they are, and have no second copy of anything.
// What differs is the header, and what an entry says.
type esxSparse struct {
	partFile
	entries  esxEntries
	capacity int64 // guest bytes
	grain    int64 // guest bytes
	span     int64 // guest bytes that a grain table maps
	gdOffset int64 // of the grain directory in the file
	meta     []region
	numbered region // where tables are that have numbers; none in COWD
	fileSize int64

	recent atomic.Pointer[esxTable] // the one that was asked for last
}

// esxEntries says what the entries of one kind of extent mean. An error is
// one of the field at fault, without its place.
type esxEntries interface {
	// size returns the bytes of an entry: 4 or 8.
	size() int64

	// table returns the host offset of the grain table that an entry of the
	// grain directory names, or 0 if there is none.
	table(e uint64) (int64, error)

	// grain returns what an entry of a grain table says: absent, zeros, or
	// plain and the host offset of the grain. Host offsets are below 2^63 and
	// else unchecked.
	grain(e uint64) (state, int64, error)
}

// An esxTable is what the grain directory says of a span of the disk.
type esxTable struct {
	index int64
	off   int64
	raw   []byte // nil: there is no table
}

// esxOpener returns what opens a file of one of the two kinds, which starts
// with prefix; nil if it is of neither.
func esxOpener(prefix []byte) func(partFile) (part, error) {
	switch {
	case len(prefix) >= 4 && binary.LittleEndian.Uint32(prefix) == magicCOWD:
		return newCOWD
	case len(prefix) >= 8 && binary.LittleEndian.Uint64(prefix) == magicSESparse:
		return newSESparse
	}
	return nil
}

func (s *esxSparse) size() int64 { return s.capacity }

// grainLayout returns the bytes of a grain, and that none is compressed.
func (s *esxSparse) grainLayout() (int64, bool) { return s.grain, false }

// tables returns how many entries of the grain directory count.
func (s *esxSparse) tables() int64 { return ceilDiv(s.capacity, s.span) }

// tableBytes returns the bytes of a grain table.
func (s *esxSparse) tableBytes() int64 { return esxGTEsPerGT * s.entries.size() }

func ceilDiv(a, b int64) int64 { return (a + b - 1) / b }

// entry returns entry i of a directory or table.
func (s *esxSparse) entry(raw []byte, i int64) uint64 {
	if s.entries.size() == 4 {
		return uint64(binary.LittleEndian.Uint32(raw[i*4:]))
	}
	return binary.LittleEndian.Uint64(raw[i*8:])
}

// locate maps the guest bytes at off, as part has it: a run that is alike as
// far as one grain table shows it.
func (s *esxSparse) locate(off, limit int64) (mapping, error) {
	limit = min(limit, s.capacity-off)
	index := off / s.span
	t := s.recent.Load()
	if t == nil || t.index != index {
		var err error
		if t, err = s.table(index); err != nil {
			return mapping{n: min(limit, s.span-off%s.span)}, err
		}
		s.recent.Store(t)
	}
	if t.raw == nil {
		return mapping{state: absent, n: min(limit, (index+s.absentTables(index))*s.span-off), host: -1}, nil
	}
	in := off - index*s.span
	i := in / s.grain
	in -= i * s.grain
	state, host, err := s.examine(t, i)
	if err == nil && state == plain && host+in >= s.fileSize {
		err = s.beyond(t, i, host)
	}
	if err != nil {
		return mapping{n: min(limit, s.grain-in)}, err
	}
	n := int64(1)
	for most := min(esxGTEsPerGT-i, ceilDiv(in+limit, s.grain)); n < most; n++ {
		next, nextHost, err := s.examine(t, i+n)
		if err != nil || next != state || state == plain && nextHost != host+n*s.grain {
			break
		}
	}
	m := mapping{state: state, n: min(limit, n*s.grain-in), host: -1}
	if state == plain {
		m.host = host + in
		m.n = min(m.n, s.fileSize-m.host)
	}
	return m, nil
}

func (s *esxSparse) read(p []byte, _ int64, m mapping) error {
	return readFull(s.src, p, m.host, "data")
}

// examine returns what entry i of a table says, after it was checked: a grain
// starts in the file and behind the metadata.
func (s *esxSparse) examine(t *esxTable, i int64) (state, int64, error) {
	state, host, err := s.entries.grain(s.entry(t.raw, i))
	if err != nil {
		return 0, 0, s.badEntry(diskimage.ErrCorrupt, t, i, "%v", err)
	}
	if state != plain {
		return state, -1, nil
	}
	if host >= s.fileSize {
		return 0, 0, s.beyond(t, i, host)
	}
	if name := regionAt(s.meta, host, s.visible(t, i)); name != "" {
		return 0, 0, s.badEntry(diskimage.ErrCorrupt, t, i, "the grain at %#x lies in the %s", host, name)
	}
	return plain, host, nil
}

// visible returns how many bytes of a grain the guest sees: the last one may
// end behind the disk, and no more than that of it need be in the file.
func (s *esxSparse) visible(t *esxTable, i int64) int64 {
	return min(s.grain, s.capacity-t.index*s.span-i*s.grain)
}

func (s *esxSparse) beyond(t *esxTable, i, host int64) error {
	return s.badEntry(diskimage.ErrTruncated, t, i, "the grain at %#x ends behind the file at %#x", host, s.fileSize)
}

// badEntry returns an error about entry i of a table.
func (s *esxSparse) badEntry(kind diskimage.ErrorKind, t *esxTable, i int64, format string, args ...any) error {
	args = append(args, t.index*s.span+i*s.grain)
	return fail(kind, t.off+i*s.entries.size(), fmt.Sprintf("grain table %d: entry %d", t.index, i), format+" (guest offset %#x)", args...)
}

// table returns the grain table that maps the span of that index.
func (s *esxSparse) table(index int64) (*esxTable, error) {
	gd, i, err := s.directoryPage(index)
	if err != nil {
		return nil, err
	}
	t := &esxTable{index: index}
	if t.off, err = s.tableOffset(s.entry(gd, i), index); err != nil || t.off == 0 {
		return t, err
	}
	t.raw, err = s.page(t.off, int(s.tableBytes()), fmt.Sprintf("grain table %d", index))
	return t, err
}

// tableOffset returns the host offset of the grain table that an entry of the
// grain directory names, 0 if there is none, after it was checked.
func (s *esxSparse) tableOffset(e uint64, index int64) (int64, error) {
	bad := func(kind diskimage.ErrorKind, format string, args ...any) (int64, error) {
		return 0, fail(kind, s.gdOffset+index*s.entries.size(), fmt.Sprintf("grain directory: entry %d", index), format, args...)
	}
	off, err := s.entries.table(e)
	switch {
	case err != nil:
		return bad(diskimage.ErrCorrupt, "%v", err)
	case off == 0:
		return 0, nil
	case off > s.fileSize-s.tableBytes():
		return bad(diskimage.ErrTruncated, "the grain table at %#x ends behind the file at %#x", off, s.fileSize)
	}
	if name := regionAt(s.meta, off, s.tableBytes()); name != "" {
		return bad(diskimage.ErrCorrupt, "the grain table at %#x lies in the %s", off, name)
	}
	return off, nil
}

// esxDirectoryPage is how many entries of a grain directory are read at once.
const esxDirectoryPage = 4096

// directoryPage returns the page of the grain directory that holds the entry
// of that index, and which of the page's it is.
func (s *esxSparse) directoryPage(index int64) (page []byte, i int64, err error) {
	first := index &^ (esxDirectoryPage - 1)
	n := min(esxDirectoryPage, s.tables()-first)
	page, err = s.page(s.gdOffset+first*s.entries.size(), int(n*s.entries.size()), "grain directory")
	return page, index - first, err
}

// absentTables returns how many entries of the grain directory from index on,
// which names no table, name none, as far as a page of it shows.
func (s *esxSparse) absentTables(index int64) int64 {
	gd, i, err := s.directoryPage(index)
	if err != nil {
		return 1
	}
	n := int64(1)
	for (i+n)*s.entries.size() < int64(len(gd)) && s.entry(gd, i+n) == 0 {
		n++
	}
	return n
}

// checkMap checks every entry, and that no two of them use the same sector of
// the file.
func (s *esxSparse) checkMap() error {
	return eachStretch(claimStretch, func(c *claims) error {
		// The tables first, so that a grain that lies in one is the grain's fault.
		named := int64(0)
		err := s.eachTable(func(t *esxTable) error {
			named++
			return s.claimTable(t, c)
		})
		if err != nil {
			return err
		}
		if err := s.checkNumbers(named, c); err != nil {
			return err
		}
		return s.eachTable(func(t *esxTable) error { return s.claimGrains(t, c) })
	})
}

// checkNumbers looks for a table that the directory has lost. Tables get their
// numbers in the order in which they are needed, so that of a number of them
// that are named, any of the first that is not, or the one behind, is empty.
func (s *esxSparse) checkNumbers(named int64, c *claims) error {
	for i := range named + 1 {
		off := s.numbered.off + i*s.tableBytes()
		switch end := off + s.tableBytes(); {
		case end > min(s.numbered.end, s.fileSize):
			return nil
		case off < c.first*sectorSize || end > c.end*sectorSize || c.used.has(off/sectorSize, s.tableBytes()/sectorSize):
			continue
		}
		table, err := s.page(off, int(s.tableBytes()), "grain tables")
		if err != nil {
			return err
		}
		if !zero.Is(table) {
			return fail(diskimage.ErrCorrupt, off, "grain tables", "number %d has entries, and the grain directory does not name it", i)
		}
	}
	return nil
}

// eachTable calls f for each grain table there is.
func (s *esxSparse) eachTable(f func(t *esxTable) error) error {
	for index := int64(0); index < s.tables(); {
		t, err := s.table(index)
		if err != nil {
			return err
		}
		if t.raw == nil {
			index += s.absentTables(index)
			continue
		}
		if err := f(t); err != nil {
			return err
		}
		index++
	}
	return nil
}

func (s *esxSparse) claimTable(t *esxTable, c *claims) error {
	if c.claim(t.off, s.tableBytes()) {
		return nil
	}
	return fail(diskimage.ErrCorrupt, s.gdOffset+t.index*s.entries.size(), fmt.Sprintf("grain directory: entry %d", t.index),
		"the grain table at %#x overlaps another", t.off)
}

func (s *esxSparse) claimGrains(t *esxTable, c *claims) error {
	for i := range min(esxGTEsPerGT, ceilDiv(s.capacity-t.index*s.span, s.grain)) {
		state, host, err := s.examine(t, i)
		if err != nil {
			return err
		}
		if state != plain {
			continue
		}
		n := s.visible(t, i)
		if host > s.fileSize-n {
			return s.beyond(t, i, host)
		}
		if !c.claim(host, n) {
			return s.badEntry(diskimage.ErrCorrupt, t, i, "the grain at %#x overlaps another, or a grain table", host)
		}
	}
	return nil
}
