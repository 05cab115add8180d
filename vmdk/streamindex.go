package vmdk

import (
	"encoding/binary"
	"fmt"
	"hash/maphash"
	"io"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/internal/zero"
)

// A streamIndex compares the grains of a stream with what the grain tables say
// of them, in memory that grows with the tables, not with the grains: of each
// table it knows only the sum of the hashes of its entries. The seed is secret,
// so that no image can be made to collide.
type streamIndex struct {
	seed   maphash.Seed
	seen   map[int64]uint64     // by table: the grains that were in the stream
	front  map[int64]frontTable // by table: those in front that are not empty
	behind map[int64]uint64     // by sector: those that came behind their grains

	directory int64 // sector of the last grain directory that came behind the grains; 0: none did
}

// A frontTable is a grain table that came before the grains.
type frontTable struct {
	off int64  // host offset
	sum uint64 // of its entries
}

func newStreamIndex() streamIndex {
	return streamIndex{
		seed:   maphash.MakeSeed(),
		seen:   map[int64]uint64{},
		front:  map[int64]frontTable{},
		behind: map[int64]uint64{},
	}
}

// entry returns the hash of one table's entry.
func (x *streamIndex) entry(i, sector int64) uint64 {
	return maphash.Comparable(x.seed, [2]int64{i, sector})
}

// grain takes note of a grain at a sector of the stream.
func (x *streamIndex) grain(grain, sector int64) {
	x.seen[grain/numGTEsPerGT] += x.entry(grain%numGTEsPerGT, sector)
}

// sum returns the sum of a table's entries.
func (x *streamIndex) sum(table []byte, zeroedGTE bool) (sum uint64) {
	if zero.Is(table) {
		return 0
	}
	for i := range int64(numGTEsPerGT) {
		sector := binary.LittleEndian.Uint32(table[i*gteBytes:])
		if sector != gteAbsent && !(sector == gteZeroed && zeroedGTE) {
			sum += x.entry(i, int64(sector))
		}
	}
	return sum
}

// tableInFront takes note of a table that comes before the grains.
func (x *streamIndex) tableInFront(table, off int64, b []byte, zeroedGTE bool) {
	if sum := x.sum(b, zeroedGTE); sum != 0 {
		x.front[table] = frontTable{off, sum}
	}
}

// frontDiffers returns the first table that does not name the grains that were
// in the stream; off is where it lies, -1 if there is none.
func (x *streamIndex) frontDiffers() (table, off int64, differs bool) {
	table = -1
	for t, of := range x.front {
		if x.seen[t] != of.sum && (table < 0 || t < table) {
			table, off = t, of.off
		}
	}
	for t := range x.seen {
		if _, ok := x.front[t]; !ok && (table < 0 || t < table) {
			table, off = t, -1
		}
	}
	return table, off, table >= 0
}

// metadata reads the block of metadata whose marker is m. Where all tables are
// in front it is passed over.
func (s *Stream) metadata(m marker) error {
	what := [...]string{markerGT: "grain table", markerGD: "grain directory", markerFooter: "footer"}[m.kind]
	if err := s.h.checkMarkerVal(m, s.pos, what); err != nil {
		return err
	}
	if _, err := s.take(sectorSize, "marker"); err != nil {
		return err
	}
	at, end := s.pos, s.pos+int64(m.val)*sectorSize
	switch {
	case s.h.gdOffset != gdAtEnd:
	case m.kind == markerGT:
		table, err := s.take(gtBytes, what)
		if err != nil {
			return err
		}
		s.index.behind[at/sectorSize] = s.index.sum(table, s.h.zeroedGTE())
	case m.kind == markerGD:
		if err := s.directory(); err != nil {
			return err
		}
		s.index.directory = at / sectorSize
	}
	return s.skipTo(end, what)
}

// directory reads a grain directory that comes after the grains and their
// tables, and compares them.
func (s *Stream) directory() error {
	const what = "grain directory"
	for table := int64(0); table < s.h.tables(); {
		at := s.pos
		b, err := s.take(int(min(s.h.tables()-table, streamBuffer/2/gdeBytes))*gdeBytes, what)
		if err != nil {
			return err
		}
		for i := 0; i < len(b); i += gdeBytes {
			field := fmt.Sprintf("%s: entry %d", what, table)
			sector := int64(binary.LittleEndian.Uint32(b[i:]))
			sum, ok := s.index.behind[sector]
			if sector != 0 && !ok {
				return fail(diskimage.ErrCorrupt, at+int64(i), field, "there was no grain table at sector %d", sector)
			}
			if sum != s.index.seen[table] {
				return fail(diskimage.ErrCorrupt, at+int64(i), field, "the grain table at sector %d does not name the grains that were in the stream", sector)
			}
			table++
		}
	}
	return nil
}

// footer reads the end of a stream whose grain directory is at the end: the
// footer and the end-of-stream marker. It returns io.EOF if all is well.
func (s *Stream) footer() error {
	b, err := s.peek(footerSectors * sectorSize)
	if err != nil {
		return err
	}
	if len(b) < footerSectors*sectorSize {
		return s.cut("footer")
	}
	if err := s.h.takeFooter(b, s.pos); err != nil {
		return err
	}
	if s.h.tables() > 0 && s.index.directory != int64(s.h.gdOffset) {
		return fail(diskimage.ErrCorrupt, s.pos+sectorSize+offGdOffset, "footer: gdOffset", "the grain directory was not at sector %d but at %d", s.h.gdOffset, s.index.directory)
	}
	s.skipPeeked(b)
	at := s.pos
	more, isZero, err := s.drain()
	switch {
	case err != nil:
		return err
	case more > maxFill || more >= sectorSize && !isZero: // where random access does not find the footer
		return fail(diskimage.ErrTruncated, at, "footer", "the file does not end in a footer and an end-of-stream marker: %d bytes follow", more)
	case more > 0:
		s.noteMore(more)
	}
	return io.EOF
}

// endOfStream reads the end of a stream that has no footer. It returns io.EOF
// if all is well.
func (s *Stream) endOfStream(m marker) error {
	if m.val != 0 {
		return fail(diskimage.ErrCorrupt, s.pos+offMarkerVal, "end-of-stream marker: val", "%d sectors are to follow", m.val)
	}
	if s.h.gdOffset == gdAtEnd {
		return fail(diskimage.ErrTruncated, s.pos, "footer", "missing: the stream ends here, and the grain directory was to be at its end")
	}
	if err := s.end(diskimage.ErrCorrupt); err != io.EOF {
		return err
	}
	// QEMU fills the file up.
	more, isZero, err := s.drain()
	if err != nil {
		return err
	}
	if !isZero {
		s.noteMore(more)
	}
	return io.EOF
}

// end returns io.EOF if the grains that were in the stream are those that the
// tables in front name, and else an error of this kind.
func (s *Stream) end(kind diskimage.ErrorKind) error {
	table, off, differs := s.index.frontDiffers()
	if !differs {
		return io.EOF
	}
	return fail(kind, off, fmt.Sprintf("grain table %d", table), "the stream ends at %#x, and the grains in it are not those that the table names", s.pos)
}

// drain reads what follows the end: how many bytes, and whether they are all
// zeros.
func (s *Stream) drain() (n int64, isZero bool, err error) {
	isZero = true
	for {
		b, err := s.peek(streamBuffer / 2)
		if err != nil || len(b) == 0 {
			return n, isZero, err
		}
		isZero = isZero && zero.Is(b)
		n += int64(len(b))
		s.skipPeeked(b)
	}
}

const followsEnd = "%d bytes follow the end of the stream; they are no part of the disk"

func (s *Stream) noteMore(n int64) {
	s.notes.Add(followsEnd, n)
}
