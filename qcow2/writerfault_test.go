package qcow2

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/internal/disktest"
	"github.com/diskimage-go/diskimage/internal/freelist"
)

func TestWriterOptionErrors(t *testing.T) {
	const d, z = diskimage.Deflate, diskimage.Zstd
	for name, o := range map[string]WriterOptions{
		"size":                     {Size: -2},
		"version":                  {Version: 1},
		"cluster 256":              {ClusterSize: 256},
		"cluster 4 MiB":            {ClusterSize: 4 << 20},
		"cluster 1000":             {ClusterSize: 1000},
		"negative cluster":         {ClusterSize: math.MinInt64},
		"refcount 3":               {RefcountBits: 3},
		"refcount 128":             {RefcountBits: 128},
		"refcount 8 in version 2":  {RefcountBits: 8, Version: 2},
		"lazy in version 2":        {LazyRefcounts: true, Version: 2},
		"zstd in version 2":        {Compression: z, Version: 2},
		"unknown compression":      {Compression: 9},
		"level without":            {Level: 1},
		"window without":           {Window: 4096},
		"level 10 of the 4 KiB":    {Compression: d, Level: 10},
		"level 10":                 {Compression: d, Window: 32768, Level: 10},
		"window 8192":              {Compression: d, Window: 8192},
		"window of zstd":           {Compression: z, Window: 4096},
		"zstd level":               {Compression: z, Level: 23},
		"format without backing":   {BackingFormat: "raw"},
		"backing without format":   {BackingFile: "x"},
		"nul":                      {BackingFile: "x\x00y", BackingFormat: "raw"},
		"long format":              {BackingFile: "x", BackingFormat: strings.Repeat("f", 16)},
		"long name":                {BackingFile: strings.Repeat("f", 1024), BackingFormat: "raw"},
		"name beyond the cluster":  {BackingFile: strings.Repeat("f", 512-112-16-8+1), BackingFormat: "raw", ClusterSize: 512},
		"name beyond, version two": {BackingFile: strings.Repeat("f", 512-72-24-8+1), BackingFormat: "qcow2-9bytes", ClusterSize: 512, Version: 2},
	} {
		_, err := NewWriter(&recorder{}, o)
		require.ErrorIs(t, err, diskimage.ErrUnsupported, name)
	}
	_, err := NewWriter(&recorder{}, WriterOptions{BackingFile: strings.Repeat("f", 512-112-16-8), BackingFormat: "raw", ClusterSize: 512})
	require.NoError(t, err)
	for _, o := range []WriterOptions{{Size: 129 << 30, ClusterSize: 512}, {Size: math.MaxInt64}, {Size: math.MaxInt64, ClusterSize: 2 << 20}} {
		_, err := NewWriter(&recorder{}, o)
		require.ErrorIs(t, err, diskimage.ErrLimit)
		require.ErrorContains(t, err, "cluster")
	}
	_, err = NewWriter(&recorder{}, WriterOptions{Size: 128 << 30, ClusterSize: 512})
	require.NoError(t, err)
}

func TestWriterTakesStored(t *testing.T) {
	for _, c := range []struct {
		o    WriterOptions
		enc  diskimage.Encoding
		unit int64
		ok   bool
		most int
	}{
		{WriterOptions{}, diskimage.Deflate, 65536, false, 0},
		{WriterOptions{}, diskimage.Plain, 65536, false, 0},
		{WriterOptions{Compression: diskimage.Deflate}, diskimage.Deflate, 65536, true, 0},
		{WriterOptions{Compression: diskimage.Deflate, Window: 4096}, diskimage.Deflate, 65536, true, 4096},
		{WriterOptions{Compression: diskimage.Deflate, Window: 32768}, diskimage.Deflate, 65536, true, 0},
		{WriterOptions{Compression: diskimage.Deflate}, diskimage.Deflate, 4096, false, 0},
		{WriterOptions{Compression: diskimage.Deflate}, diskimage.Zstd, 65536, false, 0},
		{WriterOptions{Compression: diskimage.Zstd, ClusterSize: 4096}, diskimage.Zstd, 4096, true, 0},
	} {
		w, err := NewWriter(&recorder{}, c.o)
		require.NoError(t, err)
		terms, ok := w.TakesStored(c.enc, c.unit)
		require.Equal(t, c.ok, ok, "%+v", c)
		require.Equal(t, diskimage.StoredTerms{MaxDistance: c.most}, terms, "%+v", c)
	}
}

// Whoever breaks the rules gets an error, and no image.
func TestWriterMisuse(t *testing.T) {
	ctx := context.Background()
	data := make([]byte, diskimage.BatchSize)
	data[0], data[65536] = 1, 1
	block := func(off, n int64) diskimage.Block { return diskimage.Block{Off: off, Len: n, Data: data[:n]} }
	for name, bad := range map[string]diskimage.Block{
		"before the batch":  block(0, 65536),
		"beyond the batch":  block(4<<20, 65536),
		"over its end":      block(4<<20-65536, 131072),
		"empty":             {Off: 2 << 20},
		"half a cluster":    block(2<<20, 512),
		"misaligned":        block(2<<20+512, 65536),
		"short data":        {Off: 2 << 20, Len: 65536, Data: data[:512]},
		"hole":              {Off: 2 << 20, Len: 65536, Kind: diskimage.Hole},
		"foreign encoding":  {Off: 2 << 20, Len: 65536, Enc: diskimage.Zstd, Data: data[:100]},
		"two units":         {Off: 2 << 20, Len: 131072, Enc: diskimage.Deflate, Data: data[:100]},
		"stream of nothing": {Off: 2 << 20, Len: 65536, Enc: diskimage.Deflate},
		"stream too long":   {Off: 2 << 20, Len: 65536, Enc: diskimage.Deflate, Data: data[:65536]},
	} {
		w, err := NewWriter(&recorder{}, WriterOptions{Size: 8 << 20, Compression: diskimage.Deflate})
		require.NoError(t, err)
		b := w.NewBatch()
		b.Reset(2<<20, 2<<20)
		b.Blocks = append(b.Blocks, bad)
		require.Error(t, w.Encode(b), name)
		require.Error(t, w.Finish(ctx), name)
		require.NoError(t, w.Abort())
	}

	r := &recorder{}
	w, err := NewWriter(r, WriterOptions{Size: -1})
	require.NoError(t, err)
	b := w.NewBatch()
	b.Reset(2<<20, 2<<20)
	b.Blocks = append(b.Blocks, block(2<<20, 65536))
	require.Error(t, w.Place(b), "not encoded")
	require.Error(t, w.Store(ctx, b), "not placed")
	require.NoError(t, w.Encode(b))
	require.Error(t, w.Encode(b), "encoded twice")
	require.NoError(t, w.Place(b))
	require.Error(t, w.Finish(ctx), "the size is not known")
	require.ErrorContains(t, w.SetSize(1<<20), "beyond")
	require.NoError(t, w.SetSize(3<<20))
	require.NoError(t, w.SetSize(3<<20))
	require.Error(t, w.SetSize(4<<20))
	require.ErrorContains(t, w.Finish(ctx), "1 batches placed and 0 stored")
	require.NoError(t, w.Store(ctx, b))
	require.Error(t, w.Store(ctx, b), "stored twice")
	other, err := NewWriter(&recorder{}, WriterOptions{})
	require.NoError(t, err)
	require.Error(t, other.Encode(b), "of another writer")
	require.Error(t, other.Encode(&diskimage.Batch{}), "of no writer")
	require.NoError(t, w.Finish(ctx))
	require.Error(t, w.Finish(ctx))
	require.Error(t, w.SetSize(5<<20))
	require.Error(t, w.Encode(b))
	require.NoError(t, w.Abort())
	require.NoError(t, w.Abort())

	w, err = NewWriter(r, WriterOptions{Size: 1 << 20})
	require.NoError(t, err)
	require.NoError(t, w.Abort())
	require.NoError(t, w.Abort())
	require.Error(t, w.Finish(ctx))

	w, err = NewWriter(r, WriterOptions{Size: 2<<20 + 1})
	require.NoError(t, err)
	b = w.NewBatch()
	b.Reset(2<<20, 1)
	b.Blocks = append(b.Blocks, block(2<<20, 131072))
	require.NoError(t, w.Encode(b))
	require.ErrorContains(t, w.Place(b), "beyond the disk's end")

	w, err = NewWriter(r, WriterOptions{Size: 8 << 20})
	require.NoError(t, err)
	for _, off := range []int64{4 << 20, 2 << 20} {
		b := w.NewBatch()
		b.Reset(off, 2<<20)
		require.NoError(t, w.Encode(b))
		err = w.Place(b)
	}
	require.ErrorContains(t, err, "placed after")
}

// Every write that fails, fails the image; and so does a cancelled context.
func TestWriterFaults(t *testing.T) {
	const cluster, size = 4096, 5<<20 + 1
	guest := guestData(size, cluster, mixed, 11)
	o := WriterOptions{Size: size, ClusterSize: cluster, Compression: diskimage.Deflate}
	good := &recorder{prefix: cluster}
	_, err := drive(good, o, guest, 2, 0)
	require.NoError(t, err)
	require.Greater(t, good.writes, 6)
	for n := 1; n <= good.writes; n++ {
		r := &recorder{prefix: cluster, failAt: n}
		w, err := drive(r, o, guest, 2, 0)
		require.ErrorIs(t, err, os.ErrDeadlineExceeded, "write %d", n)
		require.ErrorContains(t, err, "qcow2: writing ")
		require.False(t, r.sealed)
		require.Error(t, w.Finish(context.Background()))
	}

	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	w, err := NewWriter(&recorder{}, o)
	require.NoError(t, err)
	b := w.NewBatch()
	b.Reset(0, diskimage.BatchSize)
	disktest.Fill(b, guest, cluster)
	require.NoError(t, w.Encode(b))
	require.NoError(t, w.Place(b))
	require.ErrorIs(t, w.Store(ctx, b), context.Canceled)
	require.Error(t, w.Finish(context.Background()))
}

// A disk whose data outgrows the refcount table is refused while it is placed.
func TestWriterRefcountTableLimit(t *testing.T) {
	w, err := NewWriter(&recorder{}, WriterOptions{Size: 64 << 30, ClusterSize: 512, RefcountBits: 64})
	require.NoError(t, err)
	require.NoError(t, w.refs.add(1, 1))
	err = w.refs.add(maxRefTableBytes/8*64, 1)
	require.ErrorIs(t, err, diskimage.ErrLimit)
	require.ErrorContains(t, err, "larger clusters")
}

// No count passes what its width holds.
func TestRefcountWidths(t *testing.T) {
	for order := range uint(maxRefcountOrder + 1) {
		var buffers freelist.List[[]byte]
		r := newRefcountWriter(geometry{clusterBits: 9, refcountOrder: order}, &buffers)
		require.Equal(t, uint64(math.MaxUint64)>>(64-1<<order), r.max)
		n := min(r.max, 1000)
		for range n {
			require.NoError(t, r.add(5, 2))
		}
		require.EqualValues(t, 0, r.count(4))
		require.EqualValues(t, n, r.count(5))
		require.EqualValues(t, n, r.count(6))
		require.EqualValues(t, 0, r.count(7))
		if n == r.max {
			require.Error(t, r.add(5, 1))
		}
	}
}

// An ableFile is a file with every ability that an Output can have.
type ableFile struct {
	*os.File
	calls []string
}

func (f *ableFile) ZeroFilled() bool { return true }

func (f *ableFile) Truncate(n int64) error {
	f.calls = append(f.calls, "truncate")
	return f.File.Truncate(n)
}
func (f *ableFile) Sync() error { f.calls = append(f.calls, "sync"); return nil }

func (f *ableFile) WriteAt(p []byte, off int64) (int, error) {
	if off == 0 {
		f.calls = append(f.calls, "header")
	}
	return f.File.WriteAt(p, off)
}

// The bytes are the same in a file that was longer, and is cut and synced.
func TestWriterOutputAbilities(t *testing.T) {
	guest := guestData(7<<20+512, 64<<10, mixed, 13)
	for _, enc := range []diskimage.Encoding{diskimage.Plain, diskimage.Deflate} {
		o := WriterOptions{Size: int64(len(guest)), Compression: enc}
		want := &recorder{prefix: 64 << 10}
		_, err := drive(want, o, guest, 1, 0)
		require.NoError(t, err)

		f, err := os.Create(filepath.Join(t.TempDir(), "image"))
		require.NoError(t, err)
		defer f.Close()
		require.NoError(t, f.Truncate(64<<20))
		able := &ableFile{File: f}
		_, err = drive(able, o, guest, 3, 3)
		require.NoError(t, err)
		require.Equal(t, []string{"truncate", "sync", "header", "sync"}, able.calls)
		got, err := os.ReadFile(f.Name())
		require.NoError(t, err)
		require.Equal(t, sha256.Sum256(want.whole(t)), sha256.Sum256(got))
	}
}

// TestWriterGolden holds the bytes of some images fast: they are the same on
// every machine. A change of an encoder changes them; nothing else may.
func TestWriterGolden(t *testing.T) {
	const d, z = diskimage.Deflate, diskimage.Zstd
	for _, c := range []struct {
		o    WriterOptions
		want string
	}{
		{WriterOptions{}, "96effc0ef85332cc"},
		{WriterOptions{Version: 2, ClusterSize: 4096}, "2260b74b0277b8f1"},
		{WriterOptions{ClusterSize: 512, RefcountBits: 1, Compression: d}, "39f8e3f249f9303a"},
		{WriterOptions{Compression: d}, "8220c40ba49bbca7"},
		{WriterOptions{Compression: d, Window: 32768, Level: 9}, "ea404a4affc88601"},
		{WriterOptions{Compression: z}, "6d10a6a0e81b6186"},
		{WriterOptions{Compression: z, ClusterSize: 2 << 20, Level: 1}, "088204602e7414f8"},
	} {
		full, err := c.o.withDefaults()
		require.NoError(t, err)
		guest := guestData(4<<20+513, full.ClusterSize, mixed, 17)
		c.o.Size = int64(len(guest))
		r := &recorder{prefix: full.ClusterSize}
		_, err = drive(r, c.o, guest, 2, 5)
		require.NoError(t, err)
		sum := sha256.Sum256(r.whole(t))
		if got := hex.EncodeToString(sum[:8]); got != c.want {
			t.Errorf("digest %s, not %s, of %+v", got, c.want, c.o)
		}
	}
}

// Once warm, a batch allocates next to nothing.
func TestWriterSteadyState(t *testing.T) {
	for _, enc := range []diskimage.Encoding{diskimage.Plain, diskimage.Deflate} {
		w, err := NewWriter(discard{}, WriterOptions{Size: 1 << 40, Compression: enc})
		require.NoError(t, err)
		guest := guestData(diskimage.BatchSize, 64<<10, mixed, 19)
		b := w.NewBatch()
		var off int64
		allocs := testing.AllocsPerRun(20, func() {
			b.Reset(off, diskimage.BatchSize)
			b.Blocks = append(b.Blocks, diskimage.Block{Off: off, Len: b.Len, Data: b.Buf})
			if off == 0 {
				copy(b.Buf, guest)
			}
			off += b.Len
			step(t, w, b)
		})
		require.LessOrEqual(t, allocs, 8.0, "%v", enc)
	}
}

// A discard is an Output that takes all and keeps nothing.
type discard struct{}

func (discard) WriteAt(p []byte, off int64) (int, error) { return len(p), nil }
