package qcow2

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/internal/codec"
	"github.com/diskimage-go/diskimage/internal/disktest"
	"github.com/diskimage-go/diskimage/internal/peer"
	"github.com/diskimage-go/diskimage/internal/zero"
)

// TestWriterAgainstPeer writes every kind of image and has the peer check it
// and compare its content.
func TestWriterAgainstPeer(t *testing.T) {
	peer.Find(t, "qemu-img")
	const z, d = diskimage.Zstd, diskimage.Deflate
	for _, cluster := range []int64{512, 4096, 64 << 10, 2 << 20} {
		size := min(max(2000*cluster, 2500<<10), 5<<20) + 1000
		for i, o := range []WriterOptions{
			{Version: 2}, {RefcountBits: 1}, {RefcountBits: 2}, {RefcountBits: 4}, {RefcountBits: 8}, {RefcountBits: 32}, {RefcountBits: 64},
			{Version: 2, Compression: d}, {Compression: d, Window: 32768, Level: 3, RefcountBits: 1},
			{Compression: d, RefcountBits: 2}, {Compression: d, RefcountBits: 4}, {Compression: d, RefcountBits: 8},
			{Compression: z, LazyRefcounts: true}, {Compression: z, Level: 1, RefcountBits: 64},
			{Compression: d, AllocateZeros: true}, {AllocateZeros: true},
		} {
			if cluster == 2<<20 && i%3 != 0 || cluster == 4096 && i%2 != 0 { // the others show enough
				continue
			}
			o.ClusterSize = cluster
			t.Run(fmt.Sprintf("c%d_v%d_r%d_%v_l%d_z%v", cluster, o.Version, o.RefcountBits, o.Compression, o.Level, o.AllocateZeros), func(t *testing.T) {
				t.Parallel()
				writeAndCheck(t, o, guestData(size, cluster, mixed, uint64(cluster)))
			})
		}
	}
}

func TestWriterSizes(t *testing.T) {
	peer.Find(t, "qemu-img")
	for cluster, sizes := range map[int64][]int64{
		512:      {0, 1, 511, 512, 513},
		64 << 10: {65535, 65537, 4 << 20},
		2 << 20:  {1, 2<<20 + 1},
	} {
		for _, size := range sizes {
			for _, enc := range []diskimage.Encoding{diskimage.Plain, diskimage.Deflate} {
				t.Run(fmt.Sprintf("c%d_%d_%v", cluster, size, enc), func(t *testing.T) {
					t.Parallel()
					writeAndCheck(t, WriterOptions{ClusterSize: cluster, Compression: enc}, guestData(size, cluster, allSoft, uint64(size)))
				})
			}
		}
	}
}

func TestWriterPatterns(t *testing.T) {
	peer.Find(t, "qemu-img")
	for i, m := range []mix{allZeros, allSoft, allHard, {9, 1}, {0, 9}} {
		for _, enc := range []diskimage.Encoding{diskimage.Plain, diskimage.Deflate, diskimage.Zstd} {
			cluster := []int64{4096, 64 << 10}[(i+int(enc))%2]
			t.Run(fmt.Sprintf("%v_%v_c%d", m, enc, cluster), func(t *testing.T) {
				t.Parallel()
				writeAndCheck(t, WriterOptions{ClusterSize: cluster, Compression: enc}, guestData(3<<20, cluster, m, uint64(i)))
			})
		}
	}
}

// A table with one short piece each, so that many tables wait for pieces that
// are kept back.
func TestWriterManyTablesWait(t *testing.T) {
	guest := make([]byte, 12<<20)
	for off := 0; off < len(guest); off += 32 << 10 {
		guest[off] = 1
	}
	for _, o := range []WriterOptions{{ClusterSize: 512}, {ClusterSize: 4096}, {ClusterSize: 512, RefcountBits: 2}} {
		o.Compression = diskimage.Deflate
		writeAndCheck(t, o, guest)
	}
	// With large clusters the pieces of many batches fit one: tables of 8 MiB each.
	guest = make([]byte, 100<<20)
	for off := 0; off < len(guest); off += 8 << 20 {
		guest[off] = 1
	}
	r := &recorder{prefix: 8192, ordered: true}
	_, err := drive(r, WriterOptions{Size: int64(len(guest)), ClusterSize: 8192, Compression: diskimage.Zstd}, guest, 1, 0)
	require.NoError(t, err)
	checkWithPeer(t, r.whole(t), guest)
}

// writeAndCheck writes a disk in one order and in another.
func writeAndCheck(t *testing.T, o WriterOptions, guest []byte) {
	t.Helper()
	o.Size = int64(len(guest))
	one := &recorder{prefix: o.ClusterSize, ordered: true}
	w, err := drive(one, o, guest, 1, 0)
	require.NoError(t, err)
	img := one.whole(t)
	require.Equal(t, len(guest)%512 != 0, len(w.Notes()) == 1)

	o.Size = -1
	many := &recorder{prefix: o.ClusterSize}
	_, err = drive(many, o, guest, 5, 42)
	require.NoError(t, err)
	require.True(t, bytes.Equal(img, many.whole(t)), "the bytes depend on the order")

	allocated := int64(0)
	for off := int64(0); off < int64(len(guest)); off += o.ClusterSize {
		if o.AllocateZeros || !zero.Is(guest[off:min(off+o.ClusterSize, int64(len(guest)))]) {
			allocated += o.ClusterSize
		}
	}
	most, err := MaxSize(int64(len(guest)), allocated, o)
	require.NoError(t, err)
	require.LessOrEqual(t, int64(len(img)), most)
	if allocated == int64(len(guest)) && o.Compression == diskimage.Plain {
		require.Equal(t, most, int64(len(img)))
	}
	checkWithPeer(t, img, guest)
}

// TestWriterBacking writes an overlay whose zeros hide the image below.
func TestWriterBacking(t *testing.T) {
	const size = 4<<20 + 512
	below := guestData(size, 4096, allHard, 7)
	for _, o := range []WriterOptions{
		{}, {Version: 2}, {Version: 2, Compression: diskimage.Deflate}, {Compression: diskimage.Zstd}, {AllocateZeros: true},
		{ClusterSize: 512}, {ClusterSize: 2 << 20},
	} {
		o.Size, o.BackingFile, o.BackingFormat = size, "below.raw", "raw"
		t.Run(fmt.Sprintf("c%d_v%d_%v_z%v", o.ClusterSize, o.Version, o.Compression, o.AllocateZeros), func(t *testing.T) {
			full, err := o.withDefaults()
			require.NoError(t, err)
			guest := guestData(size, full.ClusterSize, mix{5, 3}, 9)
			r := &recorder{prefix: full.ClusterSize, ordered: true}
			w, err := NewWriter(r, o)
			require.NoError(t, err)
			b := w.NewBatch()
			for off := int64(0); off < size; off += diskimage.BatchSize {
				b.Reset(off, min(diskimage.BatchSize, size-off))
				disktest.Fill(b, guest, w.Unit())
				switch off { // the second half of the first batch shows what is below; the second batch is said to be zeros
				case 0:
					half := int64(diskimage.BatchSize / 2)
					if w.Unit() <= half {
						b.Blocks = b.Blocks[:len(b.Blocks)/2]
						copy(guest[half:2*half], below[half:])
					}
				case diskimage.BatchSize:
					clear(guest[off : off+b.Len])
					b.Blocks = append(b.Blocks[:0], diskimage.Block{Off: off, Len: diskimage.BatchSize, Kind: diskimage.Zero})
				}
				step(t, w, b)
			}
			require.NoError(t, w.Finish(context.Background()))
			img := r.whole(t)
			most, err := MaxSize(size, size, o)
			require.NoError(t, err)
			require.LessOrEqual(t, int64(len(img)), most)

			dir := t.TempDir()
			require.NoError(t, os.WriteFile(filepath.Join(dir, "below.raw"), below, 0o666))
			require.NoError(t, os.WriteFile(filepath.Join(dir, "disk.raw"), guest, 0o666))
			image := filepath.Join(dir, "image.qcow2")
			require.NoError(t, os.WriteFile(image, img, 0o666))
			peer.Run(t, "qemu-img", "check", image)
			peer.Run(t, "qemu-img", "compare", image, filepath.Join(dir, "disk.raw"))
			info := peer.Run(t, "qemu-img", "info", image)
			require.Contains(t, info, "backing file: below.raw")
			require.Contains(t, info, "backing file format: raw")
		})
	}
}

// step takes a batch through all its steps.
func step(t testing.TB, w *Writer, b *diskimage.Batch) {
	t.Helper()
	require.NoError(t, w.Encode(b))
	require.NoError(t, w.Place(b))
	require.NoError(t, w.Store(context.Background(), b))
}

// TestWriterMoves hands over streams as they are: the image is the one that
// the writer makes when it compresses the same clusters itself.
func TestWriterMoves(t *testing.T) {
	const cluster, size = 64 << 10, 5 << 20
	guest := guestData(size, cluster, mixed, 3)
	for _, enc := range []diskimage.Encoding{diskimage.Deflate, diskimage.Zstd} {
		o := WriterOptions{Size: size, ClusterSize: cluster, Compression: enc}
		want := &recorder{prefix: cluster}
		_, err := drive(want, o, guest, 1, 0)
		require.NoError(t, err)

		coder, err := codec.NewEncoder(codec.EncoderOptions{Encoding: enc})
		require.NoError(t, err)
		got := &recorder{prefix: cluster, ordered: true}
		w, err := NewWriter(got, o)
		require.NoError(t, err)
		_, ok := w.TakesStored(enc, cluster)
		require.True(t, ok)
		b := w.NewBatch()
		moved := 0
		for off := int64(0); off < size; off += diskimage.BatchSize {
			b.Reset(off, min(diskimage.BatchSize, size-off))
			disktest.Fill(b, guest, cluster)
			for i := range b.Blocks {
				blk := &b.Blocks[i]
				stream := coder.Encode(nil, blk.Data)
				if len(stream) <= cluster-512 && !zero.Is(blk.Data) {
					blk.Enc, blk.Data = enc, stream
					moved++
				}
			}
			step(t, w, b)
		}
		require.Positive(t, moved)
		require.NoError(t, w.Finish(context.Background()))
		require.True(t, bytes.Equal(want.whole(t), got.whole(t)))
	}
}

// Batches of zeros only, however they are said, leave no trace.
func TestWriterSkippedBatches(t *testing.T) {
	const cluster, size = 4096, 32 << 20
	guest := make([]byte, size)
	copy(guest[6<<20:], guestData(3<<20, cluster, mixed, 5))
	copy(guest[24<<20:], guestData(1<<20, cluster, mixed, 6))
	o := WriterOptions{Size: size, ClusterSize: cluster, Compression: diskimage.Deflate}
	want := &recorder{prefix: cluster}
	_, err := drive(want, o, guest, 3, 1)
	require.NoError(t, err)

	got := &recorder{prefix: cluster}
	w, err := NewWriter(got, o)
	require.NoError(t, err)
	b := w.NewBatch()
	for off := int64(0); off < size; off += diskimage.BatchSize {
		b.Reset(off, diskimage.BatchSize)
		disktest.Fill(b, guest, cluster)
		if zero.Is(b.Buf) {
			if off%(4<<20) == 0 {
				continue
			}
			b.Blocks = append(b.Blocks[:0], diskimage.Block{Off: off, Len: b.Len, Kind: diskimage.Zero})
		}
		step(t, w, b)
	}
	require.NoError(t, w.Finish(context.Background()))
	require.True(t, bytes.Equal(want.whole(t), got.whole(t)))
}

// An empty disk costs its L1 table, however large it is.
func TestWriterHugeDisk(t *testing.T) {
	start := time.Now()
	r := &recorder{prefix: 64 << 10}
	w, err := drive(r, WriterOptions{Size: 0}, nil, 1, 0)
	require.NoError(t, err)
	require.NotNil(t, w)

	r = &recorder{prefix: 64 << 10}
	w, err = NewWriter(r, WriterOptions{Size: 64 << 40})
	require.NoError(t, err)
	b := w.NewBatch()
	b.Reset(64<<40-diskimage.BatchSize, diskimage.BatchSize)
	b.Blocks = append(b.Blocks, diskimage.Block{Off: 64<<40 - 65536, Len: 65536, Data: bytes.Repeat([]byte{7}, 65536)})
	step(t, w, b)
	require.NoError(t, w.Finish(context.Background()))
	require.Less(t, time.Since(start), 5*time.Second)
	require.Less(t, len(r.whole(t)), 2<<20)

	image := filepath.Join(t.TempDir(), "image.qcow2")
	require.NoError(t, os.WriteFile(image, r.bytes, 0o666))
	peer.Run(t, "qemu-img", "check", image)
	peer.Run(t, "qemu-io", "-f", "qcow2", "-r", "-c", "read -P 7 70368744112128 65536", image)
}
