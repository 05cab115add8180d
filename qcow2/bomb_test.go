package qcow2

import (
	"encoding/binary"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/internal/disktest"
)

// TestBombs refuses small files whose refcounts, of 64 bits, cover that a
// million guest clusters and more lie in one host cluster: in less than a
// second, and in little memory.
func TestBombs(t *testing.T) {
	disktest.Alone(t)
	const (
		tables = 128        // of 8192 entries each
		shared = 1000 << 16 // the host cluster
	)
	for _, c := range []struct {
		name  string
		build func(m *patient, l1 uint64)
	}{
		{"one compressed cluster, in every entry of each L2 table", func(m *patient, l1 uint64) {
			l2 := uint64(len(m.b))
			m.b = append(m.b, make([]byte, tables<<16)...)
			for i := range uint64(tables * 8192) {
				m.set64(l2+i*8, compressed|shared)
			}
			for i := range uint64(tables) {
				m.set64(l1+i*8, copied|(l2+i<<16))
			}
		}},
		{"one compressed cluster, in every entry of one L2 table that every L1 entry names", func(m *patient, l1 uint64) {
			for i := range uint64(8192) {
				m.set64(fullL2+i*8, compressed|shared)
			}
			for i := range uint64(tables) {
				m.set64(l1+i*8, fullL2)
			}
		}},
		{"one plain cluster, in every entry of one L2 table that every L1 entry names", func(m *patient, l1 uint64) {
			for i := range uint64(8192) {
				m.set64(fullL2+i*8, shared)
			}
			for i := range uint64(tables) {
				m.set64(l1+i*8, fullL2)
			}
		}},
		{"one L2 table that four million L1 entries name", func(m *patient, l1 uint64) {
			const entries = maxL1Bytes / 8
			m.b = append(m.b[:l1], make([]byte, maxL1Bytes)...)
			for i := range uint64(entries) {
				m.set64(l1+i*8, fullL2)
			}
			m.set32(offL1Size, entries)
			m.set64(offSize, entries<<29)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := &patient{append([]byte(nil), fullImage(2).front...)}
			l1 := uint64(len(m.b))
			m.b = append(m.b, make([]byte, 1<<16)...)
			m.set32(offRefcountOrder, 6)
			for i := range uint64(8192) {
				m.set64(fullBlock+i*8, 1<<40)
			}
			m.set64(offL1Offset, l1)
			m.set32(offL1Size, tables)
			m.set64(offSize, tables<<29)
			c.build(m, l1)
			src := sparseSource{m.b, fullSize}

			var before, after runtime.MemStats
			took := time.Hour
			for range 3 { // it may have been others that took the time
				runtime.ReadMemStats(&before)
				start := time.Now()
				d, err := Open(t.Context(), src, Options{})
				require.NoError(t, err)
				require.GreaterOrEqual(t, d.Size(), int64(1<<20)<<16)
				err = d.CheckMap()
				took = min(took, time.Since(start))
				runtime.ReadMemStats(&after)
				require.ErrorIs(t, err, diskimage.ErrLimit)
				require.ErrorContains(t, err, "2050 at most are followed")
				if took < time.Second {
					break
				}
			}
			require.Less(t, took, time.Second)
			// The L1 table and what finds its doubles take up to 96 MiB.
			l1Bytes := uint64(binary.BigEndian.Uint32(m.b[offL1Size:])) * 8
			require.Less(t, after.TotalAlloc-before.TotalAlloc, 4<<20+3*l1Bytes)
		})
	}
}

// TestOverlappingTables checks an image in which snapshots name L1 tables that
// overlap: no part of the file is read for each of them.
func TestOverlappingTables(t *testing.T) {
	disktest.Alone(t)
	const n, entries = 4000, 1 << 16 // L1 tables of 512 KiB, each a cluster behind the last
	const size = (n + 200) << 16
	m := &patient{append([]byte(nil), fullImage(2).front...)}
	clear(m.b[m.l1() : m.l1()+16]) // no data
	m.set32(offNbSnapshots, n)
	list := uint64(len(m.b))
	m.set64(offSnapshotsOffset, list)
	m.b = append(m.b, make([]byte, n*64)...)
	for i := range uint64(n) {
		at := list + i*56
		m.set64(at, (100+i)<<16)
		m.set32(at+8, entries)
		m.set32(at+36, 16)
		m.set64(at+48, m.u64(offSize))
	}
	read := &readCounter{Source: sparseSource{m.b, size}}
	r, err := Check(t.Context(), read, CheckOptions{})
	require.NoError(t, err)
	require.EqualValues(t, n*7/8, r.Corruptions)
	d, err := Open(t.Context(), read, Options{})
	require.NoError(t, err)
	require.NoError(t, d.CheckMap())
	require.Less(t, read.bytes, int64(2*size)) // by the two of them
}

// A readCounter counts what is read.
type readCounter struct {
	diskimage.Source
	bytes int64
}

func (s *readCounter) ReadAt(p []byte, off int64) (int, error) {
	s.bytes += int64(len(p))
	return s.Source.ReadAt(p, off)
}
