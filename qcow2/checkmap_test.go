package qcow2

import (
	"math/rand/v2"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/internal/disktest"
)

// Where things lie in fullImage(2).
const (
	fullBlock = 3 << 16
	fullL2    = 4 << 16
	fullData  = 6 << 16
	fullSize  = 6<<16 + 2*8192<<16
)

// mapCases change fullImage(2), in which all of 16,384 clusters are in use.
// kind is that of the error that CheckMap gives, "" for none.
var mapCases = []struct {
	name   string
	damage func(m *patient)
	kind   diskimage.ErrorKind
	text   string
}{
	{"sound", func(m *patient) {}, "", ""},
	{"refcounts zero", func(m *patient) { clear(m.b[fullBlock : fullBlock+1<<16]) }, "", ""},
	{"refcount block outside", func(m *patient) { m.set64(m.reftable(), 1<<60) }, "", ""},
	{"refcount table outside", func(m *patient) { m.set64(offRefTableOffset, 1<<60) }, "", ""},
	{"refcount zero", func(m *patient) { m.refcount(9, 0) }, diskimage.ErrCorrupt, "entry 3 at 0x40018: guest offset 0x30000: the host cluster at 0x90000 is in use, but its refcount is 0"},
	{"refcount zero, dirty", func(m *patient) { m.refcount(9, 0); m.flip(offIncompatible, incompatDirty) }, "", ""},
	{"refcount zero of an L2 table", func(m *patient) { m.refcount(5, 0) }, diskimage.ErrCorrupt, "l1 table: entry 1 at 0x20008: the host cluster at 0x50000 is in use"},
	{"refcount zero of the L1 table", func(m *patient) { m.refcount(2, 0) }, diskimage.ErrCorrupt, "l1 table at 0x20000: the refcount of its cluster is 0"},
	{"refcount too high", func(m *patient) { m.refcount(6, 99) }, "", ""},
	{"COPIED clear in L1", func(m *patient) { m.flip(m.l1(), copied); m.flip(m.at(0), copied) }, "", ""},
	{"COPIED clear in L2", func(m *patient) { m.flip(m.at(0), copied) }, diskimage.ErrCorrupt, "l2 table 0: entry 0 at 0x40000: guest offset 0x0: the COPIED flag is clear"},
	{"COPIED set too much", func(m *patient) { m.refcount(6, 2) }, "", ""},
	{"COPIED of no L2 table", func(m *patient) { m.set64(m.l1()+8, copied) }, diskimage.ErrCorrupt, "l1 table: entry 1 at 0x20008: the COPIED flag is set"},
	{"COPIED of no cluster", func(m *patient) { m.set(7, copied) }, diskimage.ErrCorrupt, "l2 table 0: entry 7 at 0x40038: guest offset 0x70000: the COPIED flag is set"},
	{"COPIED of a compressed cluster", func(m *patient) { m.set(7, m.entry(7)|compressed) }, diskimage.ErrCorrupt, "l2 table 0: entry 7 at 0x40038: guest offset 0x70000: the COPIED flag is set"},

	{"L1 entry reserved", func(m *patient) { m.flip(m.l1()+8, 1<<58) }, diskimage.ErrCorrupt, "l1 table: entry 1 at 0x20008"},
	{"L1 entry unaligned", func(m *patient) { m.flip(m.l1()+8, 512) }, diskimage.ErrCorrupt, "l1 table: entry 1 at 0x20008"},
	{"L1 entry outside", func(m *patient) { m.set64(m.l1()+8, 1<<50) }, diskimage.ErrTruncated, "l1 table: entry 1 at 0x20008"},
	{"L2 entry reserved", func(m *patient) { m.flip(m.at(7), 2) }, diskimage.ErrCorrupt, "l2 table 0: entry 7 at 0x40038: guest offset 0x70000"},
	{"L2 entry unaligned", func(m *patient) { m.flip(m.at(7), 512) }, diskimage.ErrCorrupt, "l2 table 0: entry 7 at 0x40038: guest offset 0x70000"},
	{"L2 entry outside", func(m *patient) { m.set(7, 1<<50) }, diskimage.ErrTruncated, "l2 table 0: entry 7 at 0x40038: guest offset 0x70000"},
	{"L2 entry partly outside", func(m *patient) { m.set(7, fullSize) }, diskimage.ErrTruncated, "l2 table 0: entry 7 at 0x40038: guest offset 0x70000"},
	{"zero cluster outside", func(m *patient) { m.set(7, fullSize|1) }, diskimage.ErrCorrupt, "l2 table 0: entry 7 at 0x40038: guest offset 0x70000: the host cluster at 0x40060000 is in use"},
	{"zero cluster twice", func(m *patient) { m.set(7, m.entry(3)|1); m.set(3, m.entry(7)) }, diskimage.ErrCorrupt, "used 2 times"},
	{"compressed outside", func(m *patient) { m.set(7, compressed|1<<50) }, diskimage.ErrTruncated, "l2 table 0: entry 7"},

	{"data in a refcount block", func(m *patient) { m.set(7, fullBlock) }, diskimage.ErrCorrupt, "entry 7 at 0x40038: guest offset 0x70000: the data at 0x30000 lies in a refcount block"},
	{"data in the refcount table", func(m *patient) { m.set(7, 1<<16) }, diskimage.ErrCorrupt, "l2 table 0: entry 7"},
	{"data in the L1 table", func(m *patient) { m.set(7, 2<<16) }, diskimage.ErrCorrupt, "l2 table 0: entry 7"},
	{"data in another L2 table", func(m *patient) { m.set(7, fullL2+1<<16) }, diskimage.ErrCorrupt, "the data at 0x50000 lies in an l2 table"},
	{"data in its L2 table, counted", func(m *patient) { m.set(7, fullL2); m.refcount(4, 2) }, diskimage.ErrCorrupt, "the data at 0x40000 lies in an l2 table"},
	{"compressed data in the header", func(m *patient) { m.set(7, compressed|512) }, diskimage.ErrCorrupt, "l2 table 0: entry 7"},
	{"compressed data into a refcount block", func(m *patient) { m.set(7, compressed|1<<54|(fullBlock-100)) }, diskimage.ErrCorrupt, "l2 table 0: entry 7"},
	{"L2 table in a refcount block", func(m *patient) { m.set64(m.l1()+8, fullBlock) }, diskimage.ErrCorrupt, "l1 table: entry 1"},
	{"L2 table in data", func(m *patient) { m.set64(m.l1()+8, fullData) }, diskimage.ErrCorrupt, "lies in an l2 table"},
	{"L1 table in a refcount block", func(m *patient) { m.set64(offL1Offset, fullBlock) }, diskimage.ErrCorrupt, "l1 table"},
	{"data in the snapshot table", func(m *patient) {
		m.set32(offNbSnapshots, 1)
		m.set64(offSnapshotsOffset, fullData)
		m.set64(fullData, 2<<16)
		m.b[fullData+39] = 16
	}, diskimage.ErrCorrupt, "l2 table 0: entry 0"},

	{"one cluster twice", func(m *patient) { m.set(7, m.entry(3)) }, diskimage.ErrCorrupt, "l2 table 0: entry 7 at 0x40038: guest offset 0x70000: the host cluster at 0x90000 is used 2 times, its refcount is 1"},
	{"one cluster twice, counted", func(m *patient) { m.set(7, m.entry(3)); m.refcount(9, 2) }, "", ""},
	{"one cluster three times, counted twice", func(m *patient) { m.set(7, m.entry(3)); m.set(8, m.entry(3)); m.refcount(9, 2) }, diskimage.ErrCorrupt, "used 3 times"},
	{"one cluster twice, dirty", func(m *patient) { m.set(7, m.entry(3)); m.flip(offIncompatible, incompatDirty) }, diskimage.ErrCorrupt, "l2 table 0: entry 7"},
	{"one cluster twice, no refcounts", func(m *patient) { m.set(7, m.entry(3)); m.set64(offRefTableOffset, 1<<60) }, diskimage.ErrCorrupt, "l2 table 0: entry 7"},
	{"two compressed clusters in one", func(m *patient) {
		m.set(7, compressed|m.entry(3)&l2OffsetMask)
		m.set(3, m.entry(7)+100)
		m.refcount(9, 2)
	}, "", ""},
	{"plain and compressed in one, counted", func(m *patient) {
		m.set(7, compressed|m.entry(3)&l2OffsetMask)
		m.flip(m.at(3), copied)
		m.refcount(9, 2)
	}, diskimage.ErrCorrupt, "the host cluster at 0x90000 holds guest data and compressed guest data"},
	{"two compressed clusters in one, counted once", func(m *patient) { m.set(7, compressed|m.entry(3)&l2OffsetMask); m.set(3, m.entry(7)+100) }, diskimage.ErrCorrupt, "l2 table 0: entry 7"},
	{"two compressed clusters in one, dirty", func(m *patient) {
		m.set(7, compressed|m.entry(3)&l2OffsetMask)
		m.set(3, m.entry(7)+100)
		m.flip(offIncompatible, incompatDirty)
	}, "", ""},
	{"one L2 table twice", func(m *patient) { m.set64(m.l1()+8, m.u64(m.l1())) }, diskimage.ErrCorrupt, "l1 table: entry 0 at 0x20000: the host cluster at 0x40000 is used 2 times"},
	{"one L2 table twice, its data not counted", func(m *patient) { m.set64(m.l1()+8, m.u64(m.l1())); m.refcount(4, 2) }, diskimage.ErrCorrupt, "l2 table 0: entry 0"},
	{"one L2 table twice, all counted", func(m *patient) {
		m.set64(m.l1()+8, m.u64(m.l1()))
		for i := range uint64(20000) {
			m.refcount(i, 2)
		}
	}, "", ""},

	{"one cluster 8192 times, counted", func(m *patient) {
		for i := range uint64(8192) {
			m.set(i, m.entry(0))
		}
		m.refcount(6, 8192)
	}, diskimage.ErrLimit, "l2 table 0: entry 2050"},
	{"one compressed cluster 8192 times, not counted", func(m *patient) {
		for i := range uint64(8192) {
			m.set(i, compressed|fullData)
		}
		m.refcount(0, 0)
	}, diskimage.ErrLimit, "l2 table 0: entry 2050"},
	{"one cluster 8192 times", func(m *patient) {
		for i := range uint64(8192) {
			m.set(i, m.entry(0))
		}
	}, diskimage.ErrCorrupt, "l2 table 0: entry 2050"},
	{"one L2 table 3000 times, counted", func(m *patient) {
		m.set32(offL1Size, 3000)
		for i := range uint64(3000) {
			m.set64(m.l1()+i*8, m.u64(m.l1()))
		}
		for i := range uint64(20000) {
			m.refcount(i, 3000)
		}
	}, diskimage.ErrLimit, "l1 table: entry 0"},
	{"one L2 table 100 times with one cluster 100 times, counted", func(m *patient) {
		m.set32(offL1Size, 100)
		for i := range uint64(100) {
			m.set64(m.l1()+i*8, m.u64(m.l1()))
			m.set(i, m.entry(0))
		}
		for i := range uint64(20000) {
			m.refcount(i, 10000)
		}
	}, diskimage.ErrLimit, "l2 table 0: entry 20"},

	{"VM state behind the disk's end", func(m *patient) { m.set64(offSize, 8192<<16) }, "", ""},
	{"disk ends inside the last cluster", func(m *patient) { m.set64(offSize, 2*8192<<16-1000) }, "", ""},
}

func TestCheckMap(t *testing.T) {
	disktest.Alone(t)
	full := fullImage(2)
	for _, c := range mapCases {
		t.Run(c.name, func(t *testing.T) {
			m := &patient{append([]byte(nil), full.front...)}
			m.b = append(m.b, make([]byte, 1<<16)...)
			c.damage(m)
			d, err := Open(t.Context(), sparseSource{m.b, full.size}, Options{})
			require.NoError(t, err)
			err = d.CheckMap()
			for _, pages := range []int{1, 5} { // the verdict does not depend on the windows; which entry is named may
				if again := checkMap(d, pages); c.kind == "" {
					require.NoError(t, again)
				} else {
					require.ErrorIs(t, again, c.kind)
				}
			}
			r, checkErr := Check(t.Context(), sparseSource{m.b, full.size}, CheckOptions{})
			require.NoError(t, checkErr)
			if c.kind == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorIs(t, err, c.kind)
			require.ErrorContains(t, err, c.text)
			if c.kind != diskimage.ErrLimit {
				require.Positive(t, r.Corruptions, "check finds at least what CheckMap does")
			}
		})
	}
}

// TestCheckMapEnd cuts the file: what of the last cluster the guest sees must
// be there.
func TestCheckMapEnd(t *testing.T) {
	full := fullImage(2)
	check := func(size, cut int64) error {
		m := &patient{append([]byte(nil), full.front...)}
		m.set64(offSize, uint64(size))
		d, err := Open(t.Context(), sparseSource{m.b, full.size - cut}, Options{})
		require.NoError(t, err)
		return d.CheckMap()
	}
	whole := int64(2 * 8192 << 16)
	require.NoError(t, check(whole-1000, 1000))
	require.ErrorIs(t, check(whole-1000, 1001), diskimage.ErrTruncated)
	require.NoError(t, check(whole, 0))
	require.ErrorIs(t, check(whole, 1), diskimage.ErrTruncated)
}

// TestCheckHostile asks that images which claim much cost little.
func TestCheckHostile(t *testing.T) {
	disktest.Alone(t)
	const l1Size = 1 << 18
	l1At := func(m *patient, entry func(i uint64) uint64) {
		m.set64(offL1Offset, 1<<20)
		m.set32(offL1Size, l1Size)
		m.b = append(m.b, make([]byte, 1<<20+l1Size*8-len(m.b))...)
		for i := range uint64(l1Size) {
			m.set64(1<<20+i*8, entry(i))
		}
	}
	rnd := rand.New(rand.NewPCG(5, 6))
	for _, c := range []struct {
		name   string
		size   int64
		damage func(m *patient)
		kind   diskimage.ErrorKind
	}{
		{"every L1 entry of one empty L2 table", 1 << 40, func(m *patient) { l1At(m, func(uint64) uint64 { return 1 << 39 }) }, diskimage.ErrCorrupt},
		{"every L1 entry of its own L2 table in a hole", 1 << 62, func(m *patient) { l1At(m, func(i uint64) uint64 { return 1<<36 + i<<16 }) }, ""},
		{"L1 entries far apart", 1 << 62, func(m *patient) {
			l1At(m, func(i uint64) uint64 {
				if i%8 != 0 {
					return 0
				}
				return 1<<36 + i<<(16+tallyPageBits)
			})
		}, ""},
		{"data far apart", 1 << 62, func(m *patient) {
			for i := range uint64(2 * 8192) {
				m.set(i, rnd.Uint64N(1<<39)<<16&l2OffsetMask+1<<40)
			}
		}, ""},
		{"a refcount table of one block", 1 << 62, func(m *patient) {
			m.set64(m.l1(), 0)
			m.set64(m.l1()+8, 0)
			m.set32(offRefTableClusters, maxRefTableBytes>>16)
			m.set64(offRefTableOffset, 1<<20)
			m.b = append(m.b, make([]byte, 1<<20+maxRefTableBytes-len(m.b))...)
			for i := range uint64(maxRefTableBytes / 8) {
				m.set64(1<<20+i*8, fullBlock)
			}
		}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := &patient{append([]byte(nil), fullImage(2).front...)}
			m.refcount(0, 0) // so that the others need not be right
			c.damage(m)
			src := sparseSource{m.b, c.size}
			d, err := Open(t.Context(), src, Options{})
			require.NoError(t, err)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			start := time.Now()
			err = d.CheckMap()
			if c.kind == "" {
				require.NoError(t, err)
			} else {
				require.ErrorIs(t, err, c.kind)
			}
			mapTime := time.Since(start)
			_, err = Check(t.Context(), src, CheckOptions{})
			require.NoError(t, err)
			runtime.ReadMemStats(&after)
			t.Logf("CheckMap %v, Check %v, %d MiB", mapTime, time.Since(start)-mapTime, (after.TotalAlloc-before.TotalAlloc)>>20)
			require.Less(t, time.Since(start), 20*time.Second)
			require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(400<<20))
		})
	}
}
