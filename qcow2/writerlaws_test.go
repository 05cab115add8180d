package qcow2

import (
	"bytes"
	"context"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/internal/disktest"
)

// FuzzWriter holds every image against this package's own reader and check:
// sound, of the same content, and the same bytes however many batches are in
// flight.
func FuzzWriter(f *testing.F) {
	for seed := range uint64(12) {
		f.Add(seed, uint8(seed), uint8(seed%7), uint8(seed%3), uint8(seed*5%11), uint8(10-seed%11), uint32(1+seed*300_007))
	}
	f.Fuzz(func(t *testing.T, seed uint64, clusterBits, refcountOrder, compression, zeros, soft uint8, size uint32) {
		o := WriterOptions{
			ClusterSize:  512 << (clusterBits % 13),
			RefcountBits: 1 << (refcountOrder % 7),
			Compression:  diskimage.Encoding(compression % 3),
			Size:         int64(size % (6 << 20)),
		}
		guest := guestData(o.Size, min(o.ClusterSize, 64<<10), mix{int(zeros % 11), int(soft % 11)}, seed)
		one := &recorder{prefix: o.ClusterSize, ordered: true}
		_, err := drive(one, o, guest, 1, 0)
		require.NoError(t, err)
		many := &recorder{prefix: o.ClusterSize}
		_, err = drive(many, o, guest, 3, seed)
		require.NoError(t, err)
		img := one.whole(t)
		require.True(t, bytes.Equal(img, many.whole(t)), "the bytes depend on the order")
		requireSound(t, img, guest)
	})
}

// requireSound reads an image back.
func requireSound(t testing.TB, img, guest []byte) {
	t.Helper()
	ctx := context.Background()
	src := diskimage.NewSource(bytes.NewReader(img), int64(len(img)))
	res, err := Check(ctx, src, CheckOptions{Report: func(f Finding) { t.Errorf("finding: %+v", f) }})
	require.NoError(t, err)
	require.Zero(t, res.Leaks+res.Corruptions+res.CheckErrors)
	d, err := Open(ctx, src, Options{})
	require.NoError(t, err)
	defer d.Close()
	if len(guest) > 0 { // of which the reader takes note
		require.Empty(t, d.Notes())
	}
	require.EqualValues(t, (len(guest)+511)&^511, d.Size())
	got := make([]byte, len(guest))
	_, err = d.ReadAt(got, 0)
	require.NoError(t, err)
	require.True(t, bytes.Equal(guest, got), "the content differs")
}

// A pipe is served in two passes: the first keeps the header only, the second
// emits it and then every byte behind it in order.
func TestWriterTwoPasses(t *testing.T) {
	for _, o := range []WriterOptions{
		{}, {Compression: diskimage.Deflate}, {Compression: diskimage.Zstd, ClusterSize: 4096}, {ClusterSize: 512, RefcountBits: 64},
	} {
		full, err := o.withDefaults()
		require.NoError(t, err)
		guest := guestData(5<<20+512, full.ClusterSize, mixed, 23)
		o.Size = int64(len(guest))
		file := &recorder{prefix: full.ClusterSize}
		_, err = drive(file, o, guest, 4, 1)
		require.NoError(t, err)

		var first, second pass
		_, err = drive(&first, o, guest, 2, 2)
		require.NoError(t, err)
		second.pipe = append(second.pipe, first.header...)
		second.ordered = true
		_, err = drive(&second, o, guest, 1, 3)
		require.NoError(t, err)
		require.Zero(t, second.skipped)
		require.True(t, bytes.Equal(file.whole(t), second.pipe))
	}
}

// A pass is an Output that keeps the header, and what comes in order.
type pass struct {
	header, pipe []byte
	ordered      bool
	skipped      int
}

func (p *pass) WriteAt(b []byte, off int64) (int, error) {
	switch {
	case off == 0:
		p.header = bytes.Clone(b)
	case !p.ordered:
	case off == int64(len(p.pipe)):
		p.pipe = append(p.pipe, b...)
	default:
		p.skipped++
	}
	return len(b), nil
}

// What the writer holds stays within its bounds: less than two clusters of
// streams, and few tables.
func TestWriterBounds(t *testing.T) {
	disktest.Alone(t)
	for _, cluster := range []int64{4 << 10, 64 << 10, 2 << 20} {
		w, err := NewWriter(discard{}, WriterOptions{Size: -1, ClusterSize: cluster, Compression: diskimage.Zstd})
		require.NoError(t, err)
		rnd := rand.New(rand.NewPCG(1, uint64(cluster)))
		b := w.NewBatch()
		tables, held := 0, 0
		span := cluster * cluster / 8 // of an L2 table
		for i := range int64(30) {
			off := i * max(span, diskimage.BatchSize)
			b.Reset(off, diskimage.BatchSize)
			clear(b.Buf)
			n := rnd.Int64N(int64(len(b.Buf)) / 2)
			for j := range b.Buf[:n] {
				b.Buf[j] = byte(rnd.Uint32() >> (24 + j>>15%8))
			}
			if i > 6 {
				clear(b.Buf[1:]) // next to nothing
				b.Buf[0] = 1
			}
			b.Blocks = append(b.Blocks, diskimage.Block{Off: off, Len: b.Len, Data: b.Buf})
			step(t, w, b)
			sum := 0
			for _, q := range w.held {
				sum += len(q.stream)
			}
			held, tables = max(held, sum), max(tables, len(w.tables))
		}
		require.Less(t, int64(held), 2*cluster)
		require.LessOrEqual(t, tables, maxWaiting+3)
		if cluster == 64<<10 {
			require.Greater(t, tables, maxWaiting, "the test does not reach the bound")
		}
		require.NoError(t, w.SetSize(30*max(span, diskimage.BatchSize)))
		require.NoError(t, w.Finish(context.Background()))
	}
}
