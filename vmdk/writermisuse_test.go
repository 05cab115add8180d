package vmdk

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage"
)

// Whoever breaks the rules gets an error, and no image.
func TestWriterBadBlocks(t *testing.T) {
	ctx := context.Background()
	data := make([]byte, diskimage.BatchSize)
	data[0], data[65536] = 1, 1
	block := func(off, n int64) diskimage.Block { return diskimage.Block{Off: off, Len: n, Data: data[:n]} }
	for name, bad := range map[string]diskimage.Block{
		"before the batch":  block(0, 65536),
		"beyond the batch":  block(4<<20, 65536),
		"over its end":      block(4<<20-65536, 131072),
		"empty":             {Off: 2 << 20},
		"half a grain":      block(2<<20, 512),
		"misaligned":        block(2<<20+512, 65536),
		"short data":        {Off: 2 << 20, Len: 65536, Data: data[:512]},
		"hole":              {Off: 2 << 20, Len: 65536, Kind: diskimage.Hole},
		"foreign encoding":  {Off: 2 << 20, Len: 65536, Enc: diskimage.Zstd, Data: data[:100]},
		"two units":         {Off: 2 << 20, Len: 131072, Enc: diskimage.Deflate, Data: data[:100]},
		"stream of nothing": {Off: 2 << 20, Len: 65536, Enc: diskimage.Deflate},
		"stream too long":   {Off: 2 << 20, Len: 65536, Enc: diskimage.Deflate, Data: data[:65536]},
	} {
		w, err := NewWriter(discard{}, WriterOptions{Size: 8 << 20, Subformat: StreamOptimized})
		require.NoError(t, err)
		b := w.NewBatch()
		b.Reset(2<<20, 2<<20)
		b.Blocks = append(b.Blocks, bad)
		require.ErrorContains(t, w.Encode(b), "vmdk: writer: ", name)
		require.ErrorContains(t, w.Finish(ctx), "given up", name)
		require.NoError(t, w.Abort())
	}
	w, err := NewWriter(discard{}, WriterOptions{Size: 8 << 20})
	require.NoError(t, err)
	b := w.NewBatch()
	b.Reset(0, 2<<20)
	b.Blocks = append(b.Blocks, diskimage.Block{Len: 65536, Enc: diskimage.Deflate, Data: data[:100]})
	require.ErrorContains(t, w.Encode(b), "cannot be moved")
}

func TestWriterMisuse(t *testing.T) {
	ctx := context.Background()
	data := []byte{0: 1, 65535: 0}
	batch := func(w *Writer, off int64) *diskimage.Batch {
		b := w.NewBatch()
		b.Reset(off, 65536)
		b.Blocks = append(b.Blocks, diskimage.Block{Off: off, Len: 65536, Data: data})
		return b
	}
	for _, kind := range []Subformat{MonolithicSparse, StreamOptimized} {
		w, err := NewWriter(discard{}, WriterOptions{Size: 3 << 20, Subformat: kind})
		require.NoError(t, err)
		b := batch(w, 2<<20)
		require.Error(t, w.Place(b), "not encoded")
		require.Error(t, w.Store(ctx, b), "not placed")
		require.NoError(t, w.Encode(b))
		require.Error(t, w.Encode(b), "encoded twice")
		require.NoError(t, w.Place(b))
		require.ErrorContains(t, w.Finish(ctx), "1 batches placed and 0 stored")
		require.NoError(t, w.Store(ctx, b))
		require.Error(t, w.Store(ctx, b), "stored twice")
		other, err := NewWriter(discard{}, WriterOptions{Size: 1, Subformat: kind})
		require.NoError(t, err)
		require.Error(t, other.Encode(b), "of another writer")
		require.Error(t, other.Encode(&diskimage.Batch{}), "of no writer")
		require.NoError(t, w.Finish(ctx))
		require.Error(t, w.Finish(ctx))
		require.Error(t, w.Encode(b))
		require.NoError(t, w.Abort())
		require.NoError(t, w.Abort())

		w, err = NewWriter(discard{}, WriterOptions{Size: 1 << 20, Subformat: kind})
		require.NoError(t, err)
		require.NoError(t, w.Abort())
		require.Error(t, w.Finish(ctx))

		w, err = NewWriter(discard{}, WriterOptions{Size: 2 << 20, Subformat: kind})
		require.NoError(t, err)
		b = batch(w, 2<<20)
		require.NoError(t, w.Encode(b))
		require.ErrorContains(t, w.Place(b), "beyond the disk's end")

		w, err = NewWriter(discard{}, WriterOptions{Size: 8 << 20, Subformat: kind})
		require.NoError(t, err)
		for _, off := range []int64{4 << 20, 2 << 20} {
			b := batch(w, off)
			require.NoError(t, w.Encode(b))
			err = w.Place(b)
		}
		require.ErrorContains(t, err, "placed after")

		for _, bad := range []*diskimage.Batch{{Off: 1}, {Off: -diskimage.BatchSize}, {Off: 1<<63 - diskimage.BatchSize}, {Len: diskimage.BatchSize + 1}, {Len: -1}} {
			w, err = NewWriter(discard{}, WriterOptions{Size: 8 << 20, Subformat: kind})
			require.NoError(t, err)
			bad.Plan = w.NewBatch().Plan
			require.Error(t, w.Encode(bad))
		}
	}
}

// A sparse file whose sectors outgrow 32 bits is refused while it is placed.
func TestWriterFileLimit(t *testing.T) {
	data := []byte{0: 1, 65535: 0}
	for kind, room := range map[Subformat]int64{MonolithicSparse: 65536, StreamOptimized: 512} {
		for _, short := range []int64{0, sectorSize} {
			w, err := NewWriter(discard{}, WriterOptions{Size: 3 << 20, Subformat: kind})
			require.NoError(t, err)
			b := w.NewBatch()
			b.Reset(0, 65536)
			b.Blocks = append(b.Blocks, diskimage.Block{Len: 65536, Data: data})
			require.NoError(t, w.Encode(b))
			if l, ok := w.layout.(*streamOptimized); ok {
				l.front = nil
			}
			w.files[0].end = maxSparseBytes - room + short
			err = w.Place(b)
			if short == 0 {
				require.NoError(t, err, kind)
				continue
			}
			require.ErrorIs(t, err, diskimage.ErrLimit, kind)
			require.ErrorContains(t, err, "2 TiB")
		}
	}
}
