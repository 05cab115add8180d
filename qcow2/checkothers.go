package qcow2

import (
	"cmp"
	"encoding/binary"
	"slices"
)

// What is looked at of tables that are not the disk's own: L1 tables of
// snapshots, tables of bitmaps. The rest is not counted.
const (
	maxOtherBytes   = 1 << 30        // of all of them
	maxOtherEntries = maxL1Bytes / 8 // of L1 tables at once: beyond that an L2 table may be read again
)

// A span is where a table lies.
type span struct{ off, n int64 }

// disjoint returns the spans of all that overlap none before them, as many as
// are of so many bytes. Tables that overlap are damaged, and walking them all
// would take time out of proportion to the file.
func disjoint(all []span, most int64) []span {
	slices.SortFunc(all, func(a, b span) int { return cmp.Or(cmp.Compare(a.off, b.off), cmp.Compare(a.n, b.n)) })
	var end, total int64
	return slices.DeleteFunc(all, func(s span) bool {
		if s.off < end || s.n > most-total {
			return true
		}
		end = s.off + s.n
		total += s.n
		return false
	})
}

// active reports whether the disk is the active one, and no snapshot.
func (m *mapCheck) active() bool { return m.l1Offset == int64(m.h.l1Offset) }

// otherTables returns the sound L1 tables of the image that are not the disk's.
func (m *mapCheck) otherTables() []span {
	var all []span
	own := m.active()
	if !own {
		all = append(all, span{int64(m.h.l1Offset), int64(m.h.l1Size) * 8})
	}
	for i := range m.snapshots {
		s := &m.snapshots[i]
		if !own && int64(s.l1Offset) == m.l1Offset {
			own = true
		} else if s.validate(m.h, m.fileSize) == nil {
			all = append(all, span{int64(s.l1Offset), int64(s.l1Size) * 8})
		}
	}
	return disjoint(all, maxOtherBytes)
}

// countOthers counts what the image's other L1 tables refer to. What is wrong
// with them is left out: it is not the disk's.
func (m *mapCheck) countOthers() error {
	var tables []int64
	for _, o := range m.others {
		err := m.eachNumber(o, "l1 table of a snapshot", func(e uint64) error {
			off := int64(e & l1OffsetMask)
			if e&l1ReservedMask != 0 || off == 0 || off&(m.clusterSize-1) != 0 || off+m.clusterSize > m.fileSize {
				return nil
			}
			if tables = append(tables, off); len(tables) < maxOtherEntries {
				return nil
			}
			err := m.countOtherTables(tables)
			tables = tables[:0]
			return err
		})
		if err != nil {
			return err
		}
	}
	return m.countOtherTables(tables)
}

// countOtherTables counts L2 tables, each as often as it is there, and what
// they refer to.
func (m *mapCheck) countOtherTables(tables []int64) error {
	slices.Sort(tables)
	for i := 0; i < len(tables); {
		off, times := tables[i], uint32(0)
		for ; i < len(tables) && tables[i] == off; i++ {
			times++
		}
		if t := m.tallies.at(off >> m.clusterBits); t != nil {
			if t.add(times, 0); *t&(usedData|usedCompressed) != 0 {
				*t |= usedTable
			}
		}
		l2, err := m.walk.load(off)
		if err != nil {
			return within(err, "l2 table of a snapshot")
		}
		for at := int64(0); at < int64(len(l2)); at += m.h.entrySize() {
			m.countOther(binary.BigEndian.Uint64(l2[at:]), times)
		}
	}
	return nil
}

func (m *mapCheck) countOther(e uint64, times uint32) {
	host, n := int64(e&l2OffsetMask), m.clusterSize
	if e&flagCompressed != 0 {
		host, n = compressedRange(e, m.clusterBits)
	}
	if host == 0 || host >= m.fileSize || m.h.hasDataFile() {
		return
	}
	for cl, last := host>>m.clusterBits, (host+n-1)>>m.clusterBits; cl <= last; cl++ {
		if t := m.tallies.at(cl); t != nil {
			t.add(times, 0)
		}
	}
}

// markBitmaps marks what holds the bitmaps, where they are valid.
func (m *mapCheck) markBitmaps() error {
	if len(m.bitmaps) == 0 || m.h.autoclear&autoclearBitmaps == 0 {
		return nil
	}
	m.mark(int64(m.h.bitmapsExt.dirOffset), int64(m.h.bitmapsExt.dirSize), usedMeta)
	var tables []span
	for _, b := range m.bitmaps {
		if s := (span{int64(b.tableOffset), int64(b.tableEntries) * 8}); m.h.placed(b) && s.off <= m.fileSize-s.n {
			tables = append(tables, s)
		}
	}
	for _, s := range disjoint(tables, maxOtherBytes) {
		m.mark(s.off, s.n, usedMeta)
		err := m.eachNumber(s, "bitmap table", func(e uint64) error {
			if off := int64(e & bitmapTableOffsetMask); e&bitmapTableReservedMask == 0 && off != 0 && off < m.fileSize {
				m.mark(off, 1, usedMeta)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// eachNumber calls f for each number of a table that is not in a hole of the
// file.
func (m *mapCheck) eachNumber(s span, field string, f func(e uint64) error) error {
	buf := make([]byte, min(pageBytes, s.n))
	for at := int64(0); at < s.n; at += int64(len(buf)) {
		buf = buf[:min(int64(len(buf)), s.n-at)]
		if inHole(m.src, s.off+at, int64(len(buf))) {
			continue
		}
		if err := readFull(m.src, buf, s.off+at, field); err != nil {
			return err
		}
		for i := 0; i < len(buf); i += 8 {
			if err := f(binary.BigEndian.Uint64(buf[i:])); err != nil {
				return err
			}
		}
	}
	return nil
}
