package qcow2

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"maps"

	"github.com/diskimage-go/diskimage"
)

// CheckMap walks the L1 and L2 tables of the disk and of the disks below it,
// reads no guest data, and returns an error if anything in them could change
// what a guest reads:
//
//   - ErrCorrupt: an entry breaks the format's rules; guest data or an L2 table
//     lies in metadata; a host cluster is used more often than its refcount
//     says, by other snapshots too; it is used plain and compressed; its
//     refcount is 0, or 1 where a plain cluster's entry says that it is not.
//   - ErrTruncated: a table or guest data ends behind the end of its file.
//   - ErrLimit: so many entries share a host cluster that the guest disk is out
//     of proportion to the file (see sharers).
//
// The error names the table, the entry and its guest offset. Where refcounts
// are not kept, which is in a dirty image and in one whose header has none,
// they only have to cover what is used several times. Whatever else is wrong
// with refcounts, snapshots and bitmaps alone is fine: [Check] tells of that.
//
// Memory: 64 MiB for counters at most, the refcount table, the L1 table, and 32
// MiB at most for those of other snapshots. Time: that of reading the metadata,
// each table once, and once more for every further 16 Mi host clusters in use.
func (d *Disk) CheckMap() error {
	if err := checkMap(d, 0); err != nil {
		return err
	}
	return d.below.CheckMap()
}

// A mapCheck is one CheckMap of one image under way.
type mapCheck struct {
	*Disk
	l1      l1Table
	shared  map[int64]uint32
	others  []span
	walk    *mapWalk
	refs    *refcounts
	kept    bool // refcounts are to be believed where they are low, too
	tallies *tallies
	sharers uint64
}

// checkMap checks one image, with counters in that many pages (0: as many as
// is usual).
func checkMap(d *Disk, pages int) error {
	m := &mapCheck{Disk: d, walk: newMapWalk(d.src, d.h), sharers: sharers(d.h)}
	var err error
	if m.l1, err = m.walk.readL1(d.l1Offset, uint32(d.l1Bytes/8)); err != nil {
		return err
	}
	if m.refs, err = newRefcounts(d.src, d.h); err != nil {
		return err
	}
	header, err := m.refs.at(0)
	if err != nil {
		return err
	}
	m.kept = header > 0 && !d.h.dirty()
	m.shared, m.others = m.l1.shared(), m.otherTables()
	m.tallies = newTallies(pages, m.fileSize>>m.clusterBits)
	for {
		if more, err := m.tallies.next(); err != nil || !more {
			return err
		}
		if err := m.markMetadata(); err != nil {
			return err
		}
		if err := m.eachTable(m.countTable); err != nil {
			return err
		}
		if err := m.eachEntry(m.countEntry); err != nil {
			return err
		}
		if err := m.countOthers(); err != nil {
			return err
		}
		if err := m.checkCounts(); err != nil {
			return err
		}
	}
}

// markMetadata marks the clusters of everything but L2 tables that guest data
// may not lie in.
func (m *mapCheck) markMetadata() error {
	h := m.h
	m.mark(0, 1, usedMeta)
	m.mark(int64(h.refTableOffset), int64(len(m.refs.table)), usedRefcounts)
	for i := range m.refs.entries() {
		if off := m.refs.offset(i); off != 0 && off < m.fileSize {
			m.mark(off, 1, usedRefcounts)
		}
	}
	if n := len(m.snapshots); n > 0 {
		last := m.snapshots[n-1]
		m.mark(int64(h.snapshotsOffset), last.off+last.len-int64(h.snapshotsOffset), usedMeta)
	}
	for _, o := range m.others {
		m.mark(o.off, o.n, usedMeta)
	}
	for off := m.l1Offset; off < m.l1Offset+m.l1Bytes; off += m.clusterSize {
		if t := m.tallies.at(off >> m.clusterBits); t != nil && *t != 0 {
			return fail(diskimage.ErrCorrupt, off, "l1 table", "it overlaps %s", t.uses())
		}
		if refcount, err := m.refs.at(off >> m.clusterBits); err != nil || m.kept && refcount == 0 {
			return cmp.Or(err, fail(diskimage.ErrCorrupt, off, "l1 table", "the refcount of its cluster is 0"))
		}
	}
	m.mark(m.l1Offset, m.l1Bytes, usedMeta)
	return m.markBitmaps()
}

func (m *mapCheck) mark(off, n int64, used tally) {
	for cl, last := off>>m.clusterBits, (off+n-1)>>m.clusterBits; cl <= last; cl++ {
		if t := m.tallies.at(cl); t != nil {
			*t |= used
		}
	}
}

// eachTable calls f for each L2 table, once for all the entries that point to
// it, after its place was checked.
func (m *mapCheck) eachTable(f func(index, off int64, times uint32) error) error {
	left := maps.Clone(m.shared)
	for i := range m.l1.len() {
		e := m.l1.entry(i)
		if e == 0 {
			continue
		}
		off, err := m.l2Table(e, i)
		if err != nil {
			return err
		}
		times := uint32(1)
		if k, ok := left[off]; ok {
			if k == 0 {
				continue
			}
			times, left[off] = k, 0
			if m.h.hasDataFile() {
				return fail(diskimage.ErrCorrupt, m.l1Offset+i*8, fmt.Sprintf("l1 table: entry %d", i), "the l2 table at %#x is used %d times in an image with a data file", off, times)
			}
		}
		if err := f(i, off, times); err != nil {
			return err
		}
	}
	return nil
}

// A hostUse is one L2 entry's use of the image file.
type hostUse struct {
	place
	host, n int64
	used    tally
	times   uint32
}

// eachEntry checks each L2 entry and calls f for those that use clusters of
// the image file.
func (m *mapCheck) eachEntry(f func(u *hostUse) error) error {
	return m.eachTable(func(index, off int64, times uint32) error {
		l2, err := m.walk.load(off)
		if err != nil {
			return within(err, "l2 table %d", index)
		}
		var (
			use      = hostUse{place: place{l1Index: index, l2Offset: off}, times: times}
			entry    = int(m.h.entrySize())
			extended = m.h.extendedL2()
			// An entry with none of these bits is of plain data, aligned.
			special = uint64(flagCompressed | l2ReservedMask | flagZero | l2OffsetMask&(m.clusterSize-1))
			// Where all of a cluster must lie in the file, and may.
			full = min(m.size, m.dataSize) - m.clusterSize
			file = m.h.hasDataFile()
			// Only the active tables' COPIED flags are kept, and of those only
			// where the table is the disk's alone.
			uncopied tally
		)
		if m.active() && m.l1.entry(index)&flagCopied != 0 {
			uncopied = usedUncopied
		}
		for at := 0; at < len(l2); at += entry {
			e := binary.BigEndian.Uint64(l2[at:])
			if e == 0 && !extended {
				continue
			}
			use.l2Index = int64(at / entry)
			use.guest = (index<<m.h.l2Bits() + use.l2Index) << m.clusterBits
			host := int64(e & l2OffsetMask)
			if !extended && e&special == 0 && host != 0 && !file && max(host+m.clusterSize-m.dataSize, use.guest-full) <= 0 {
				use.host, use.n, use.used = host, m.clusterSize, usedData
				if e&flagCopied == 0 {
					use.used |= uncopied
				}
			} else {
				var bitmap uint64
				if extended {
					bitmap = binary.BigEndian.Uint64(l2[at+8:])
				}
				if ok, err := m.examine(e, bitmap, uncopied, &use); err != nil {
					return err
				} else if !ok {
					continue
				}
			}
			if err := f(&use); err != nil {
				return err
			}
		}
		return nil
	})
}

// examine checks an entry by the rules of reading it, and fills in what it
// uses of the image file, with uncopied if that is data without the COPIED flag.
// It reports whether it uses anything.
func (m *mapCheck) examine(e, bitmap uint64, uncopied tally, use *hostUse) (bool, error) {
	var (
		got mapping
		err error
	)
	if m.h.extendedL2() {
		got, err = m.decodeExtended(e, bitmap, use.place)
	} else {
		got, err = m.decodeEntry(e, use.place)
	}
	if err != nil || got.host < 0 {
		return false, err
	}
	if got.state == packed {
		use.host, use.n, use.used = got.host, got.hostLen, usedCompressed
		return true, nil
	}
	use.host, use.n, use.used = got.host, m.clusterSize, usedData
	n := visible(m.h, m.size, use.guest, bitmap)
	if got.state != plain || n == 0 { // a place that is kept, and not read
		return !m.h.hasDataFile(), nil
	}
	if e&flagCopied == 0 {
		use.used |= uncopied
	}
	if m.data != nil || !m.h.hasDataFile() {
		if end := got.host + n; end > m.dataSize {
			return false, m.badEntry(diskimage.ErrTruncated, use.place, "the data at %#x ends at %#x, the file that holds it at %#x", got.host, end, m.dataSize)
		}
	}
	return !m.h.hasDataFile(), nil
}

func (m *mapCheck) countTable(index, off int64, times uint32) error {
	t := m.tallies.at(off >> m.clusterBits)
	if t == nil {
		return nil
	}
	if *t&(usedMeta|usedRefcounts) != 0 {
		return fail(diskimage.ErrCorrupt, m.l1Offset+index*8, fmt.Sprintf("l1 table: entry %d", index), "the l2 table at %#x lies in %s", off, m.owner(off, *t))
	}
	if t.add(times, usedTable); t.refs() <= m.sharers {
		return nil
	}
	kind, text, err := m.tooMany(off>>m.clusterBits, *t)
	if err != nil {
		return err
	}
	return fail(kind, m.l1Offset+index*8, fmt.Sprintf("l1 table: entry %d", index), "%s", text)
}

func (m *mapCheck) countEntry(u *hostUse) error {
	for cl, last := u.host>>m.clusterBits, (u.host+u.n-1)>>m.clusterBits; cl <= last; cl++ {
		t := m.tallies.at(cl)
		if t == nil {
			continue
		}
		if *t&(usedMeta|usedRefcounts|usedTable) != 0 {
			return m.badEntry(diskimage.ErrCorrupt, u.place, "the data at %#x lies in %s", u.host, m.owner(cl<<m.clusterBits, *t))
		}
		if t.add(u.times, u.used); t.refs() <= m.sharers {
			continue
		}
		kind, text, err := m.tooMany(cl, *t)
		if err != nil {
			return err
		}
		return m.badEntry(kind, u.place, "%s", text)
	}
	return nil
}

// owner says what the metadata in the host cluster at off is.
func (m *mapCheck) owner(off int64, t tally) string {
	if name, _ := m.table(off, m.clusterSize); name != "" {
		return "the " + name
	}
	return (t &^ (usedData | usedCompressed)).uses()
}
