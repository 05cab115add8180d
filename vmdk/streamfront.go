package vmdk

import (
	"cmp"
	"encoding/binary"
	"math"
	"slices"

	"github.com/diskimage-go/diskimage"
)

// readHeader reads what lies in front: the header, and the descriptor if one
// is embedded. What cannot be read front to back is refused.
func (s *Stream) readHeader() error {
	b, err := s.peek(sparseHeaderLen)
	if err != nil {
		return err
	}
	if err := refuseStream(b); err != nil {
		return err
	}
	h, err := decodeSparseHeader(b)
	if err != nil {
		return err
	}
	if err := h.validate(); err != nil {
		return err
	}
	if !h.compressed() || !h.markers() {
		return unstreamable("a sparse extent whose tables say where its grains are, as monolithicSparse; of VMDK only streamOptimized is read front to back")
	}
	const most = math.MaxInt64 / sectorSize / 2 // so that sectors can be added, and counted in bytes
	if h.overHead > most {
		return fail(diskimage.ErrTruncated, offOverHead, "header: overHead", "%d sectors are more than any file has", h.overHead)
	}
	if h.descriptorOffset > most {
		return fail(diskimage.ErrTruncated, offDescriptorOffset, "header: descriptorOffset", "sector %d lies beyond the end of any file", h.descriptorOffset)
	}
	if h.uncleanShutdown != 0 {
		s.notes.Add("the image was not closed properly (uncleanShutdown)")
	}
	s.h = h
	s.skipPeeked(b)
	return s.readDescriptor()
}

// refuseStream returns an error if a file's first bytes are those of a VMDK
// that is not read front to back.
func refuseStream(b []byte) error {
	le := binary.LittleEndian
	switch {
	case len(b) >= 8 && le.Uint64(b) == magicSESparse:
		return unstreamable("an SESparse extent, whose tables say where its grains are")
	case len(b) >= 4 && le.Uint32(b) == magicCOWD:
		return unstreamable("a COWD extent, whose tables say where its grains are")
	case isDescriptor(b):
		return fail(diskimage.ErrUnsupported, -1, "", "it is a descriptor, whose data is in other files: give its name instead of a stream")
	}
	return nil
}

// unstreamable returns the error for an image that needs random access.
func unstreamable(what string) error {
	return fail(diskimage.ErrUnsupported, -1, "", "it is %s: give the file's name, or a folder for a copy (--spool)", what)
}

func (s *Stream) readDescriptor() error {
	if s.h.descriptorOffset == 0 || s.h.descriptorSize == 0 {
		return errAlone()
	}
	off := int64(s.h.descriptorOffset) * sectorSize
	if err := s.skipTo(off, "descriptor"); err != nil {
		return err
	}
	text, err := s.take(int(s.h.descriptorSize)*sectorSize, "descriptor")
	if err != nil {
		return err
	}
	if s.d, err = parseEmbedded(text, off, s.h, &s.notes); err != nil {
		return err
	}
	if s.d.parentCID != noParentCID || s.d.parentHint != "" {
		return fail(diskimage.ErrExternal, off, "descriptor: parentCID", "%08x: the disk differs from a parent, %s, which is not opened for a stream", s.d.parentCID, diskimage.Quote(s.d.parentHint))
	}
	return nil
}

// readFront reads what is left in front of the first marker: the grain tables,
// if they are there, and what fills up the metadata's sectors.
func (s *Stream) readFront() error {
	if s.h.gdOffset != gdAtEnd && s.h.tables() > 0 {
		if err := s.readTables(); err != nil {
			return err
		}
	}
	return s.skipTo(int64(s.h.overHead)*sectorSize, "metadata")
}

// readTables reads the grain directory and the grain tables in front.
func (s *Stream) readTables() error {
	inFront := func(sector uint64, bytes int64) bool {
		end := int64(s.h.overHead) * sectorSize
		return sector < s.h.overHead && int64(sector)*sectorSize >= s.pos && int64(sector)*sectorSize+bytes <= end
	}
	gdBytes := s.h.tables() * gdeBytes
	if !inFront(s.h.gdOffset, gdBytes) {
		return unstreamable("one whose grain directory is not between its descriptor and its grains")
	}
	gdOff := int64(s.h.gdOffset) * sectorSize
	if err := s.skipTo(gdOff, "grain directory"); err != nil {
		return err
	}
	// Nothing is allocated that was not read: the header may lie.
	type place struct{ sector, table uint32 }
	var places []place
	for table := uint32(0); int64(table) < s.h.tables(); {
		n := min(gdOff+gdBytes-s.pos, streamBuffer/2)
		b, err := s.take(int(n), "grain directory")
		if err != nil {
			return err
		}
		for ; len(b) > 0; b = b[gdeBytes:] {
			if sector := binary.LittleEndian.Uint32(b); sector != 0 {
				places = append(places, place{sector, table})
			}
			table++
		}
	}
	slices.SortStableFunc(places, func(a, b place) int { return cmp.Compare(a.sector, b.sector) })
	for _, p := range places {
		if !inFront(uint64(p.sector), gtBytes) {
			return unstreamable("one with grain tables that are not between its directory and its grains, or overlap")
		}
		if err := s.skipTo(int64(p.sector)*sectorSize, "grain table"); err != nil {
			return err
		}
		table, err := s.take(gtBytes, "grain table")
		if err != nil {
			return err
		}
		s.index.tableInFront(int64(p.table), s.pos-gtBytes, table, s.h.zeroedGTE())
	}
	return nil
}
