package imagetest

import "encoding/binary"

// Snapshot takes an internal snapshot: a copy of the L1 table, which refers to
// all that the disk does, so that nothing is the disk's alone any more.
func (m *Image) Snapshot(name string) {
	for _, table := range m.L2 {
		if table == 0 {
			continue
		}
		m.bump(table, 1)
		for at := table; at < table+m.ClusterSize; at += m.entrySize {
			e := m.Get64(at)
			if e&Compressed != 0 {
				off, n := m.stream(e)
				for c := off / m.ClusterSize; c <= (off+n-1)/m.ClusterSize; c++ {
					m.bump(c*m.ClusterSize, 1)
				}
			} else if host := e & offsetMask; host != 0 {
				m.bump(int64(host), 1)
				m.Put64(at, e&^Copied)
			}
		}
	}
	for i := range m.L1Len {
		m.SetL1(i, m.Get64(m.L1+i*8)&^Copied)
	}
	l1 := m.Append(m.Bytes[m.L1 : m.L1+m.L1Len*8])

	const fixed, extra = 40, 16
	e := make([]byte, fixed+extra, fixed+extra+1+len(name))
	be := binary.BigEndian
	be.PutUint64(e, uint64(l1))
	be.PutUint32(e[8:], uint32(m.L1Len))
	be.PutUint16(e[12:], 1)
	be.PutUint16(e[14:], uint16(len(name)))
	be.PutUint32(e[36:], extra)
	be.PutUint64(e[fixed+8:], m.Get64(Size))
	m.Put64(SnapshotsOffset, uint64(m.Append(append(append(e, '1'), name...))))
	m.Put32(NbSnapshots, 1)
}

// Rewrite gives a guest cluster of a disk with a snapshot, which is stored
// plain, other data. That lies in a place of its own, as its L2 table does then.
func (m *Image) Rewrite(i int64, data []byte) {
	span := m.ClusterSize / m.entrySize
	if old := m.L2[i/span]; m.Refcount(old/m.ClusterSize) > 1 {
		m.bump(old, -1)
		m.L2[i/span] = m.Append(m.Bytes[old : old+m.ClusterSize])
		m.SetL1(i/span, uint64(m.L2[i/span])|Copied)
	}
	m.bump(m.Host(i), -1)
	m.SetL2(i, uint64(m.Append(data))|Copied)
	copy(m.Guest[i*m.ClusterSize:], padded(data, int(m.ClusterSize)))
}

// bump adds n to the refcount of the cluster at a host offset.
func (m *Image) bump(off, n int64) {
	c := off / m.ClusterSize
	m.SetRefcount(c, m.Refcount(c)+uint64(n))
}
