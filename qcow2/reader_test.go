package qcow2_test

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/internal/disktest"
	"github.com/diskimage-go/diskimage/internal/imagetest"
	"github.com/diskimage-go/diskimage/qcow2"
)

func openBytes(t testing.TB, b []byte, o qcow2.Options) *qcow2.Disk {
	t.Helper()
	d, err := qcow2.Open(t.Context(), imagetest.Source(b), o)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, d.Close()) })
	return d
}

// TestShapes reads images of every shape, with a cache of any size.
func TestShapes(t *testing.T) {
	for i, q := range imagetest.Shapes() {
		if disktest.Race && i%3 != 1 {
			continue // they take long, and all of them the same paths
		}
		m := q.Build()
		d := openBytes(t, m.Bytes, qcow2.Options{CacheBytes: []int64{0, 1, 4096}[i%3]})
		t.Run(fmt.Sprintf("v%d-%d-extended=%v", q.Version, q.ClusterBits, q.ExtendedL2), func(t *testing.T) {
			disktest.ConformHost(t, d, m.Guest, func(int, int) io.ReaderAt { return bytes.NewReader(m.Bytes) })
		})
		require.Empty(t, d.Notes())
	}
}

// TestTableRules holds the rules of L1 and L2 entries, one bit after the other.
func TestTableRules(t *testing.T) {
	disktest.Alone(t)
	refused := func(t *testing.T, m *imagetest.Image, kind diskimage.ErrorKind, text string) {
		t.Helper()
		d := openBytes(t, m.Bytes, qcow2.Options{})
		_, err := d.NextExtent(0)
		require.ErrorIs(t, err, kind)
		require.ErrorContains(t, err, text)
		n, err := d.ReadAt(make([]byte, 100), 0)
		require.Zero(t, n)
		require.ErrorIs(t, err, kind)
	}
	const corrupt = diskimage.ErrCorrupt
	for bit := range 64 {
		standard, extended := shape{Clusters: one(imagetest.Plain)}, shape{Clusters: one(imagetest.Plain), ExtendedL2: true}
		if bit < 9 || bit >= 56 && bit < 63 {
			m := standard.Build()
			m.SetL1(0, m.Get64(m.L1)|1<<bit)
			refused(t, m, corrupt, "l1 table: entry 0")
		}
		if bit >= 1 && bit < 9 || bit >= 56 && bit < 62 {
			m := standard.Build()
			m.SetL2(0, m.Get64(m.L2[0])|1<<bit)
			refused(t, m, corrupt, "reserved bits")
		}
		if bit < 9 || bit >= 56 && bit < 62 {
			m := extended.Build()
			m.SetL2(0, m.Get64(m.L2[0])|1<<bit)
			refused(t, m, corrupt, "reserved bits")
		}
		if bit >= 56 && bit < 61 { // of a compressed cluster's offset: clusters of 512 bytes have them
			m := shape{ClusterBits: 9, Clusters: one(imagetest.Packed)}.Build()
			m.SetL2(0, m.Get64(m.L2[0])|1<<bit)
			refused(t, m, corrupt, "above bit 55")
		}
		if bit < 32 {
			m := extended.Build()
			m.SetL2Bitmap(0, 1<<bit|1<<(bit+32))
			refused(t, m, corrupt, fmt.Sprintf("subcluster %d is both", bit))
			m = extended.Build()
			m.SetL2(0, 0)
			m.SetL2Bitmap(0, 1<<bit)
			refused(t, m, corrupt, fmt.Sprintf("subcluster %d is allocated in a cluster that is not", bit))
		}
		m := shape{Clusters: one(imagetest.Packed), ExtendedL2: true}.Build()
		m.SetL2Bitmap(0, 1<<bit)
		refused(t, m, corrupt, "a compressed cluster with subclusters")
	}
	m := shape{Clusters: one(imagetest.ZerosReserved)}.Build()
	m.SetL2(0, m.Get64(m.L2[0])|512)
	refused(t, m, corrupt, "not the start of a cluster")

	m = shape{Clusters: one(imagetest.Plain)}.Build()
	m.SetL1(0, uint64(m.L1)|imagetest.Copied)
	refused(t, m, corrupt, "overlaps the l1 table")

	// COPIED is a matter of refcounts, but never of what is not there or compressed.
	m = shape{Clusters: one(imagetest.Plain)}.Build()
	m.SetL2(0, m.Get64(m.L2[0])&^imagetest.Copied)
	require.Equal(t, m.Guest, read(t, openBytes(t, m.Bytes, qcow2.Options{})))
	m.SetL2(0, imagetest.Copied)
	refused(t, m, corrupt, "the COPIED flag is set")
	m.SetL1(0, imagetest.Copied)
	refused(t, m, corrupt, "the COPIED flag is set")
	m = shape{Clusters: one(imagetest.Packed)}.Build()
	m.SetL2(0, m.Get64(m.L2[0])|imagetest.Copied)
	refused(t, m, corrupt, "of a compressed cluster")
}

// TestFileEnds holds which part of an image may be missing: what is of no disk.
func TestFileEnds(t *testing.T) {
	plain := shape{Size: 100_000, Clusters: []imagetest.Cluster{{Kind: imagetest.Plain, Data: bytes.Repeat([]byte{1}, 65536)}, {Kind: imagetest.Plain, Data: bytes.Repeat([]byte{2}, 65536)}}}
	m := plain.Build()
	used := m.Host(1) + 100_000 - 65536
	d := openBytes(t, m.Bytes[:used], qcow2.Options{})
	require.Equal(t, m.Guest, read(t, d))
	require.NoError(t, disktest.TryWalk(d))

	d = openBytes(t, m.Bytes[:used-1], qcow2.Options{})
	require.ErrorIs(t, disktest.TryWalk(d), diskimage.ErrTruncated)
	n, err := d.ReadAt(make([]byte, 100_000), 0)
	require.Equal(t, 99_999, n)
	require.ErrorIs(t, err, diskimage.ErrTruncated)

	// Where a compressed stream ends is known to the sector: all behind its
	// last byte may be missing, and its last byte may not.
	for _, useZstd := range []bool{false, true} {
		stream := imagetest.Compress(make([]byte, 65536), useZstd)
		m = shape{Zstd: useZstd, Clusters: []imagetest.Cluster{{Kind: imagetest.Packed, Stream: stream}}}.Build()
		host := int64(m.Get64(m.L2[0]) & (1<<54 - 1))
		d = openBytes(t, m.Bytes[:host+int64(len(stream))], qcow2.Options{})
		require.Equal(t, m.Guest, read(t, d))
		e, err := d.NextExtent(0)
		require.NoError(t, err)
		require.EqualValues(t, len(stream), e.HostLen)
		d = openBytes(t, m.Bytes[:host+int64(len(stream))-1], qcow2.Options{})
		_, err = d.ReadAt(make([]byte, 1), 0)
		require.ErrorIs(t, err, diskimage.ErrTruncated)
		require.ErrorContains(t, err, "guest offset 0x0")
	}
}

// TestStreams reads compressed clusters that are odd and right.
func TestStreams(t *testing.T) {
	data := bytes.Repeat([]byte("some text "), 6554)[:65536]
	frames := append(imagetest.Compress(data[:1000], true), imagetest.Compress(data[1000:], true)...)
	for name, q := range map[string]shape{
		"two zstd frames":     {Zstd: true, Clusters: []imagetest.Cluster{{Kind: imagetest.Packed, Data: data, Stream: frames}}},
		"bytes behind zstd":   {Zstd: true, Clusters: []imagetest.Cluster{{Kind: imagetest.Packed, Data: data, Stream: append(imagetest.Compress(data, true), frames...)}}},
		"bytes behind a unit": {Clusters: []imagetest.Cluster{{Kind: imagetest.Packed, Data: data, Stream: append(imagetest.Compress(data, false), "whatever follows"...)}}},
		"straddling":          {ClusterBits: 9, Clusters: packedNoise(64)},
	} {
		m := q.Build()
		require.Equal(t, m.Guest, read(t, openBytes(t, m.Bytes, qcow2.Options{})), name)
	}
}

// packedNoise returns clusters of 512 bytes that hardly compress.
func packedNoise(n int) (all []imagetest.Cluster) {
	rnd := rand.New(rand.NewPCG(1, 3))
	for range n {
		p := make([]byte, 512)
		for i := range p[:440] {
			p[i] = byte(rnd.Uint32())
		}
		all = append(all, imagetest.Cluster{Kind: imagetest.Packed, Data: p})
	}
	return all
}

// TestReadStored holds that only a whole unit is handed over.
func TestReadStored(t *testing.T) {
	m := shape{Clusters: append(one(imagetest.Packed), one(imagetest.Plain)...)}.Build()
	d := openBytes(t, m.Bytes, qcow2.Options{})
	e, err := d.NextExtent(0)
	require.NoError(t, err)
	_, err = d.ReadStored(e, nil)
	require.NoError(t, err)
	_, err = d.ReadStored(e.Clip(0, 32<<10), nil)
	require.Error(t, err)
	_, err = d.ReadStored(e.Clip(32<<10, 32<<10), nil)
	require.Error(t, err)
	e, err = d.NextExtent(64 << 10)
	require.NoError(t, err)
	_, err = d.ReadStored(e, nil)
	require.Error(t, err)
}

// TestSalvage holds that a damaged image can be read around its damage, that
// what is damaged never reads, and that the notes are bounded.
func TestSalvage(t *testing.T) {
	m := shape{ClusterBits: 9, Clusters: bytesOf(1000)}.Build()
	good := bytes.Clone(m.Guest)
	bad := map[int64]bool{}
	for i := int64(70); i < 1000; i += 3 {
		m.SetL2(i, m.Get64(m.L2Entry(i))|1<<60)
		bad[i] = true
	}
	m.SetL1(0, 1<<40|imagetest.Copied) // 64 clusters
	for i := range int64(64) {
		bad[i] = true
	}
	m.Put64(imagetest.Incompatible, 1<<1)

	_, err := qcow2.Open(t.Context(), imagetest.Source(m.Bytes), qcow2.Options{})
	require.ErrorIs(t, err, diskimage.ErrCorrupt)
	d := openBytes(t, m.Bytes, qcow2.Options{Salvage: true})
	require.Contains(t, texts(d), "marked corrupt")
	for _, e := range disktest.Walk(t, d) {
		for off := e.Off; off < e.End(); off += 512 {
			require.Equal(t, bad[off/512], e.Host < 0, "%+v", e)
			p := make([]byte, 512)
			_, err := d.ReadAt(p, off)
			if bad[off/512] {
				require.Error(t, err)
				require.Equal(t, diskimage.Data, e.Kind)
			} else {
				require.NoError(t, err)
				require.Equal(t, good[off:off+512], p)
			}
		}
	}
	notes := d.Notes()
	require.Contains(t, notes[1].Text, "l1 table: entry 0")
	require.Contains(t, notes[2].Text, "entry 6")
	require.Len(t, notes, 101)
	require.Equal(t, notes, d.Notes())
}

func bytesOf(n int) (all []imagetest.Cluster) {
	for i := range n {
		all = append(all, imagetest.Cluster{Kind: imagetest.Plain, Data: []byte(fmt.Sprint(i))})
	}
	return all
}

// TestOpenIsCheap opens a disk of 64 TiB in little memory.
func TestOpenIsCheap(t *testing.T) {
	b := shape{Size: 64 << 40}.Build().Bytes
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	d := openBytes(t, b, qcow2.Options{})
	require.NoError(t, disktest.TryWalk(d))
	_, err := d.ReadAt(make([]byte, 1000), 64<<40-1000)
	require.NoError(t, err)
	runtime.ReadMemStats(&after)
	require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(3<<20))
}

// TestNoAllocations holds that walking and reading allocate nothing once warm.
func TestNoAllocations(t *testing.T) {
	for _, q := range imagetest.Shapes() {
		d := openBytes(t, q.Build().Bytes, qcow2.Options{})
		require.NoError(t, disktest.TryWalk(d))
		off := int64(0)
		require.Zero(t, testing.AllocsPerRun(300, func() {
			e, err := d.NextExtent(off)
			if err != nil {
				t.Fatal(err)
			}
			if off = e.End(); off == d.Size() {
				off = 0
			}
		}))
	}
}

// TestCacheIsBounded reads all over a disk whose tables outgrow the cache,
// from many goroutines, and holds the cache against its bound.
func TestCacheIsBounded(t *testing.T) {
	m := shape{ClusterBits: 9, Clusters: bytesOf(20_000)}.Build()
	d := openBytes(t, m.Bytes, qcow2.Options{CacheBytes: 8 << 10})
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(g), 1))
			p := make([]byte, 3000)
			for range 500 {
				off := rnd.IntN(len(m.Guest) - len(p))
				if _, err := d.ReadAt(p, int64(off)); err != nil || !bytes.Equal(p, m.Guest[off:off+len(p)]) {
					t.Errorf("ReadAt %d: %v", off, err)
					return
				}
			}
		})
	}
	wg.Wait()
	require.LessOrEqual(t, qcow2.CacheUsed(d), int64(8<<10))
}

// TestSharedSubclusters has two neighbours with extended L2 entries share one
// host cluster, as its refcount allows: they are no run of two.
func TestSharedSubclusters(t *testing.T) {
	all := ^uint32(0)
	first, second := bytes.Repeat([]byte{1}, 16<<10), bytes.Repeat([]byte{2}, 16<<10)
	m := imagetest.QCOW2{ClusterBits: 14, ExtendedL2: true, Clusters: []imagetest.Cluster{
		{Kind: imagetest.Subclusters, Data: first, Alloc: all}, {Kind: imagetest.Subclusters, Data: second, Alloc: all},
	}}.Build()
	m.SetRefcount(m.Host(0)>>14, 2)
	m.SetL2(0, uint64(m.Host(0)))
	m.SetL2(1, uint64(m.Host(0)))
	d, err := qcow2.Open(t.Context(), imagetest.Source(m.Bytes), qcow2.Options{})
	require.NoError(t, err)
	disktest.Conform(t, d, append(first, first...))
}
