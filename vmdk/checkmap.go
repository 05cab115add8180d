package vmdk

import (
	"bytes"
	"fmt"

	"github.com/diskimage-go/diskimage"
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
// is meant is found out when it is read, by its marker and its checksum. A
// redundant grain table that is damaged, or differs from the primary one, is a
// note: the primary one is read.
//
// Memory: 64 MiB at most, and the cache for tables.
func (d *Disk) CheckMap() error {
	for i := range d.parts {
		if err := d.parts[i].checkMap(); err != nil {
			return d.parts[i].blame(err)
		}
	}
	return d.parent.CheckMap()
}

func (s *sparse) checkMap() error {
	if err := s.compareTables(); err != nil {
		return err
	}
	return eachStretch(claimStretch, func(c *claims) error {
		// The tables first, so that a grain that lies in one is the grain's fault.
		if err := s.eachTable(func(t *grainTable) error { return s.claimTable(t, c) }); err != nil {
			return err
		}
		return s.eachTable(func(t *grainTable) error { return s.claimGrains(t, c) })
	})
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

func (s *sparse) claimTable(t *grainTable, c *claims) error {
	if c.claim(t.off, gtBytes) {
		return nil
	}
	d := directory(t.redundant)
	at, _ := s.directoryAt(d)
	return fail(diskimage.ErrCorrupt, at+t.index*gdeBytes, fmt.Sprintf("%v: entry %d", d, t.index), "the grain table at %#x overlaps another", t.off)
}

func (s *sparse) claimGrains(t *grainTable, c *claims) error {
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
		}
		if end := off + length; end > s.fileSize {
			return s.badEntry(diskimage.ErrTruncated, t, i, "the grain at %#x ends at %#x, the file at %#x", off, end, s.fileSize)
		}
		if !c.claim(off, length) {
			return s.badEntry(diskimage.ErrCorrupt, t, i, "the grain at %#x shares sectors with another, or with a grain table", off)
		}
	}
	return nil
}

// compareTables notes the redundant tables that are damaged or differ from the
// primary ones.
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
		case err != nil:
		case t.entries == nil && r.entries == nil:
			i += s.absentTables(i) - 1
		case t.entries == nil:
			err = s.checkTable(r) // or it would be used
		case r.entries == nil:
			err = fmt.Errorf("%v: entry %d: it names no table", redundant, i)
		case !bytes.Equal(r.entries, t.entries):
			err = s.difference(t, r)
		}
		if err != nil {
			s.note("the primary grain table %d is used, the redundant one differs: %v", i, err)
		}
	}
	return nil
}

// difference returns the first entry in which two tables differ.
func (s *sparse) difference(t, r *grainTable) error {
	for i := range int64(numGTEsPerGT) {
		if a, b := t.entry(i), r.entry(i); a != b {
			return s.badEntry(diskimage.ErrCorrupt, r, i, "%#x, not %#x", b, a)
		}
	}
	return nil
}
