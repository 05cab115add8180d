package vmdk

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/internal/holes"
	"github.com/diskimage-go/diskimage/internal/zero"
)

// CheckMap walks the grain directories and tables of the disk and of the disks
// below it, reads no guest data, and returns an error if anything in them could
// change what a guest reads:
//
//   - ErrCorrupt: an entry names a place that grains or tables may not lie in;
//     two grains, or a grain and a table, share a sector.
//   - ErrTruncated: a table or a grain ends behind the end of its file.
//
// The error names the table, the entry and its guest offset. How long a
// compressed grain is only the grain tells: that it is whole and the one that
// is meant is found out when it is read, by its marker and its checksum; only of
// the one that lies behind all others the marker is looked at here.
//
// What the format says twice is compared. A redundant grain table, or a
// directory's entry, that cannot be right is a note: the other one is read. Two
// tables that differ where both could be right are ErrCorrupt, since one of them
// is wrong and nothing says which; but after an unclean shutdown a grain that
// only one of them has was being allocated, which is a note. Where the directory
// is at the end, it and each table must have their markers; where a single one
// is in front, no entries of grains may be left over there.
//
// Memory: 64 MiB at most, which are a bit for each sector of the file where
// anything lies, and the cache for tables. Files of more than 256 GiB are walked
// several times.
func (d *Disk) CheckMap() error {
	for i := range d.parts {
		if err := d.parts[i].checkMap(); err != nil {
			return d.parts[i].blame(err)
		}
	}
	return d.parent.CheckMap()
}

func (s *sparse) checkMap() error {
	if err := s.checkMarkers(); err != nil {
		return err
	}
	if err := s.compareTables(); err != nil {
		return err
	}
	var last packedGrain
	err := eachStretch(claimStretch, func(c *claims) error {
		// The tables first, so that a grain that lies in one is the grain's fault.
		if err := s.eachTable(func(t *grainTable) error { return s.claimTable(t, c) }); err != nil {
			return err
		}
		for _, r := range s.meta {
			c.claim(r.off, r.end-r.off)
		}
		if err := s.checkFront(c.used, c.first, c.end); err != nil {
			return err
		}
		return s.eachTable(func(t *grainTable) error { return s.claimGrains(t, c, &last) })
	})
	if err != nil {
		return err
	}
	return s.checkLast(last)
}

// A packedGrain is a compressed grain's place.
type packedGrain struct{ host, guest int64 }

// checkLast checks the marker of the compressed grain that lies behind all
// others: where a file was cut off it is the one that is not whole.
func (s *sparse) checkLast(last packedGrain) error {
	if last.host == 0 || !s.h.markers() {
		return nil
	}
	var b [markerLen]byte
	if err := readFull(s.src, b[:], last.host, "grain marker"); err != nil {
		return err
	}
	_, err := s.units.storedSize(decodeMarker(b[:]), last.guest, mapping{host: last.host})
	return err
}

// eachTable calls f for each grain table that is used.
func (s *sparse) eachTable(f func(t *grainTable) error) error {
	for i := int64(0); i < s.h.tables(); {
		t, err := s.table(i)
		if err != nil {
			return err
		}
		if t.entries == nil {
			i += s.absentTables(i)
			continue
		}
		if err := f(t); err != nil {
			return err
		}
		i++
	}
	return nil
}

// claimTable claims a table that is used, its marker, and the other directory's
// copy, which may be the same.
func (s *sparse) claimTable(t *grainTable, c *claims) error {
	off, n := t.off, int64(gtBytes)
	if s.h.footerOff != 0 {
		off, n = off-sectorSize, n+sectorSize
	}
	d := directory(t.redundant)
	if !c.claim(off, n) {
		at, _ := s.directoryAt(d)
		return fail(diskimage.ErrCorrupt, at+t.index*gdeBytes, fmt.Sprintf("%v: entry %d", d, t.index), "the grain table at %#x overlaps another", t.off)
	}
	if s.h.redundant() {
		if other, err := s.directoryEntry(!d, t.index); err == nil && other != 0 {
			c.claim(other, gtBytes)
		}
	}
	return nil
}

// checkFront looks at what lies in front of the grains and is not in used, of
// the sectors from first to end, where there is a single directory: an entry or
// an offset that is wrong leaves a table behind that nothing refers to.
func (s *sparse) checkFront(used *sectorSet, first, end int64) (err error) {
	if s.h.rgdOffset != 0 || s.h.footerOff != 0 || s.h.gdOffset >= s.h.overHead {
		return nil
	}
	layout := holes.Of(Name, s.src)
	buf := make([]byte, 64<<10)
	gaps(used, used, first, min(end, int64(s.h.overHead)), func(first, n int64) { // overHead is inside the file
		for off, end := first*sectorSize, (first+n)*sectorSize; off < end && err == nil; {
			p := buf[:min(int64(len(buf)), end-off)]
			next, hole, holeErr := layout.Run(off, end)
			switch err = holeErr; {
			case err != nil:
			case hole:
				off = next
			default:
				if err = readFull(s.src, p, off, "metadata"); err == nil {
					err = s.lostEntry(p, off)
				}
				off += int64(len(p))
			}
		}
	})
	return err
}

// lostEntry returns an error if there is an entry that could name a grain in p,
// metadata at off of which nothing is known. Other numbers may be there:
// vmware-vdiskmanager leaves a second directory without grains.
func (s *sparse) lostEntry(p []byte, off int64) error {
	if zero.Is(p) {
		return nil
	}
	for i := 0; i < len(p); i += gteBytes {
		e := binary.LittleEndian.Uint32(p[i:])
		if uint64(e) >= s.h.overHead && int64(e)*sectorSize < s.fileSize && s.aligned(e) {
			return fail(diskimage.ErrCorrupt, off+int64(i), "metadata", "%d, as an entry that names a grain, in front of the grains where no grain table is", e)
		}
	}
	return nil
}

// checkMarkers checks the markers in front of the grain directory and the grain
// tables, where the directory's place is in the footer: those are all that says
// that it is the right one.
func (s *sparse) checkMarkers() error {
	if s.h.footerOff == 0 || s.h.tables() == 0 {
		return nil
	}
	if err := s.checkMarker(int64(s.h.gdOffset)*sectorSize, markerGD, primary.String()); err != nil {
		return err
	}
	return s.eachTable(func(t *grainTable) error { return s.checkMarker(t.off, markerGT, t.String()) })
}

// checkMarker checks the marker in front of the metadata at off.
func (s *sparse) checkMarker(off int64, kind uint32, field string) error {
	var b [markerLen]byte
	off -= sectorSize
	if err := readFull(s.src, b[:], off, field+" marker"); err != nil {
		return err
	}
	m := decodeMarker(b[:])
	if m.size != 0 || m.kind != kind {
		return fail(diskimage.ErrCorrupt, off, field+" marker", "size %d and type %d, not 0 and %d", m.size, m.kind, kind)
	}
	return s.h.checkMarkerVal(m, off, field)
}

// claimGrains claims the grains of a table, and keeps which compressed one lies
// behind all others.
func (s *sparse) claimGrains(t *grainTable, c *claims, last *packedGrain) error {
	n := min(numGTEsPerGT, s.h.grains()-t.index*numGTEsPerGT)
	for i := range n {
		e := t.entry(i)
		if e == gteAbsent || e == gteZeroed && s.h.zeroedGTE() {
			continue
		}
		if err := s.checkEntry(t, i, e); err != nil {
			return err
		}
		off, length := int64(e)*sectorSize, int64(grainMarkerLen+minStreamLen)
		if !s.h.compressed() {
			length = s.visible(t, i)
		} else if off > last.host {
			*last = packedGrain{off, t.index<<s.spanBits + i<<s.grainBits}
		}
		if end := off + length; end > s.fileSize {
			return s.badEntry(diskimage.ErrTruncated, t, i, "the grain at %#x ends at %#x, the file at %#x", off, end, s.fileSize)
		}
		if !c.claim(off, length) {
			return s.badEntry(diskimage.ErrCorrupt, t, i, "the grain at %#x shares sectors with another, or with a grain table", off)
		}
		if !s.aligned(e) {
			return s.badEntry(diskimage.ErrCorrupt, t, i, misalignedGrain, off)
		}
	}
	return nil
}

// compareTables holds the redundant tables against the primary ones, and notes
// those that cannot be right.
func (s *sparse) compareTables() error {
	if !s.h.redundant() || s.h.gdDamage != nil {
		return nil
	}
	for i := int64(0); i < s.h.tables(); i++ {
		t, err := s.table(i)
		if err != nil {
			return err
		}
		if t.redundant {
			continue // noted
		}
		r, err := s.readTable(redundant, i)
		switch {
		case t.entries == nil && r.entries == nil && err == nil:
			i += s.absentTables(i) - 1
		case t.entries == nil: // one says that there is no table, and the other cannot be read
			if err == nil {
				err = s.checkTable(r)
			}
			return err
		case err != nil:
		case r.entries == nil:
			err = fmt.Errorf("%v: entry %d: it names no table", redundant, i)
		case !bytes.Equal(r.entries, t.entries):
			if err = s.checkTable(r); err == nil {
				var explained bool
				if err, explained = s.difference(t, r); !explained {
					return err
				}
			}
		}
		if err != nil {
			s.note("the primary grain table %d is used, the redundant one differs: %v", i, err)
		}
	}
	return nil
}

// difference returns the first entry in which two tables differ that could both
// be right, and whether there is an explanation for all of them: in an image
// that was not closed, grains that only one table has were being allocated.
func (s *sparse) difference(t, r *grainTable) (first error, explained bool) {
	for i := range int64(numGTEsPerGT) {
		a, b := t.entry(i), r.entry(i)
		if a == b {
			continue
		}
		err := s.badEntry(diskimage.ErrCorrupt, r, i, "sector %d, but the primary grain table says %d", b, a)
		if s.h.uncleanShutdown == 0 || a != gteAbsent && b != gteAbsent {
			return err, false
		}
		if first == nil {
			first = err
		}
	}
	return first, true
}
