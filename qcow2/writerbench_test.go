package qcow2

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/internal/peer"
)

// TestWriterSizeOfTree compares sizes with the peer's on the files of a real
// tree, which DISKIMAGE_TREE names: at most 2 % more where nothing is
// compressed, 8 % where it is.
func TestWriterSizeOfTree(t *testing.T) {
	tree := os.Getenv("DISKIMAGE_TREE")
	if tree == "" {
		t.Skip("DISKIMAGE_TREE names no folder")
	}
	guest := treeData(t, tree, 64<<20)
	dir := t.TempDir()
	raw := filepath.Join(dir, "disk.raw")
	require.NoError(t, os.WriteFile(raw, guest, 0o666))
	for _, c := range []struct {
		o    WriterOptions
		args []string
		most float64
	}{
		{WriterOptions{}, nil, 1.02},
		{WriterOptions{ClusterSize: 4096}, []string{"-o", "cluster_size=4096"}, 1.02},
		{WriterOptions{Compression: diskimage.Deflate}, []string{"-c"}, 1.08},
		{WriterOptions{Compression: diskimage.Deflate, Window: 32768}, []string{"-c"}, 1.08},
		{WriterOptions{Compression: diskimage.Deflate, ClusterSize: 4096}, []string{"-c", "-o", "cluster_size=4096"}, 1.08},
		{WriterOptions{Compression: diskimage.Zstd}, []string{"-c", "-o", "compression_type=zstd"}, 1.08},
		{WriterOptions{Compression: diskimage.Zstd, ClusterSize: 2 << 20}, []string{"-c", "-o", "compression_type=zstd,cluster_size=2M"}, 1.08},
	} {
		r := &recorder{}
		c.o.Size = int64(len(guest))
		full, err := c.o.withDefaults()
		require.NoError(t, err)
		r.prefix = full.ClusterSize
		_, err = drive(r, c.o, guest, 2, 0)
		require.NoError(t, err)
		theirs := filepath.Join(dir, "theirs.qcow2")
		peer.Run(t, "qemu-img", append(append([]string{"convert", "-W", "-f", "raw", "-O", "qcow2"}, c.args...), raw, theirs)...)
		info, err := os.Stat(theirs)
		require.NoError(t, err)
		ratio := float64(len(r.bytes)) / float64(info.Size())
		t.Logf("%v, clusters of %d, window %d: %d bytes, %.4f of the peer's", full.Compression, full.ClusterSize, full.Window, len(r.bytes), ratio)
		require.Less(t, ratio, c.most)
		checkWithPeer(t, r.whole(t), guest)
	}
}

// treeData returns the content of a tree's files, each from a multiple of 4096
// on, with a hole now and then.
func treeData(t testing.TB, tree string, most int) []byte {
	var p []byte
	err := filepath.WalkDir(tree, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return nil
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return nil
		}
		p = append(p, data[:min(len(data), 4<<20)]...)
		p = append(p, make([]byte, -len(p)&4095)...)
		if len(p)%(1<<20) < 4096 {
			p = append(p, make([]byte, 256<<10)...)
		}
		if len(p) > most {
			return fs.SkipAll
		}
		return nil
	})
	require.NoError(t, err)
	return p[:min(most, len(p))]
}

// benchBatch returns a batch with a mix of data, and fills it for off.
func benchBatch(w *Writer) (b *diskimage.Batch, refill func(off int64)) {
	b = w.NewBatch()
	copy(b.Buf, guestData(diskimage.BatchSize, w.Unit(), mixed, 1))
	return b, func(off int64) {
		b.Reset(off, diskimage.BatchSize)
		b.Blocks = append(b.Blocks, diskimage.Block{Off: off, Len: b.Len, Data: b.Buf})
	}
}

func BenchmarkWriter(b *testing.B) {
	for _, cluster := range []int64{4 << 10, 64 << 10} {
		for _, enc := range []diskimage.Encoding{diskimage.Plain, diskimage.Deflate, diskimage.Zstd} {
			b.Run(fmt.Sprintf("%v/c%d", enc, cluster), func(b *testing.B) {
				benchmarkWriter(b, WriterOptions{Size: 1 << 42, ClusterSize: cluster, Compression: enc}, false)
			})
		}
	}
}

// BenchmarkPlace is the part that is done one batch at a time.
func BenchmarkPlace(b *testing.B) {
	for _, cluster := range []int64{512, 4 << 10, 64 << 10} {
		for _, enc := range []diskimage.Encoding{diskimage.Plain, diskimage.Deflate} {
			b.Run(fmt.Sprintf("%v/c%d", enc, cluster), func(b *testing.B) {
				benchmarkWriter(b, WriterOptions{Size: -1, ClusterSize: cluster, Compression: enc}, true)
			})
		}
	}
}

func benchmarkWriter(b *testing.B, o WriterOptions, placeOnly bool) {
	w, err := NewWriter(discard{}, o)
	require.NoError(b, err)
	batch, refill := benchBatch(w)
	b.SetBytes(diskimage.BatchSize)
	b.ReportAllocs()
	limit := int64(maxL1Bytes/8) << w.l2Bits() << w.clusterBits
	var off int64
	for b.Loop() {
		if off += diskimage.BatchSize; off >= limit {
			b.Skip("the disk is full")
		}
		if placeOnly {
			b.StopTimer()
		}
		refill(off)
		require.NoError(b, w.Encode(batch))
		if placeOnly {
			b.StartTimer()
		}
		require.NoError(b, w.Place(batch))
		if placeOnly {
			b.StopTimer()
		}
		require.NoError(b, w.Store(context.Background(), batch))
		if placeOnly {
			b.StartTimer()
		}
	}
}
