package raw_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/internal/atomicfile"
	"github.com/diskimage-go/diskimage/internal/peer"
	"github.com/diskimage-go/diskimage/raw"
	"github.com/stretchr/testify/require"
)

// memory is an output that records what it is asked for: bytes written twice
// fail the test, and bytes never written show as 0xa5.
type memory struct {
	t        testing.TB
	mu       sync.Mutex
	p        []byte
	seen     []byte // 1 of each byte that was written
	calls    []string
	failFrom int64 // writing at or beyond it fails; 0: never
	short    bool
}

var errFull = errors.New("no space left")

func (m *memory) WriteAt(p []byte, off int64) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.failFrom > 0 && off+int64(len(p)) > m.failFrom {
		return 0, errFull
	}
	if m.short {
		return len(p) - 1, nil
	}
	m.calls = append(m.calls, fmt.Sprintf("write %d+%d", off, len(p)))
	m.grow(off + int64(len(p)))
	seen := m.seen[off : off+int64(len(p))]
	if i := bytes.IndexByte(seen, 1); i >= 0 {
		m.t.Errorf("byte %d is written twice", off+int64(i))
	}
	copy(seen, bytes.Repeat([]byte{1}, len(p)))
	copy(m.p[off:], p)
	return len(p), nil
}

func (m *memory) grow(n int64) {
	if more := int(n) - len(m.p); more > 0 {
		m.p = append(m.p, bytes.Repeat([]byte{0xa5}, more)...)
		m.seen = append(m.seen, make([]byte, more)...)
	}
}

// What else an output can do.
type (
	zeroFilled struct{ *memory }
	truncates  struct{ *memory }
	all        struct{ *memory }
)

func (zeroFilled) ZeroFilled() bool { return true }
func (all) ZeroFilled() bool        { return true }
func (m *memory) truncate(n int64) error {
	m.calls = append(m.calls, fmt.Sprintf("truncate %d", n))
	m.grow(n)
	m.p, m.seen = m.p[:n], m.seen[:n]
	return nil
}
func (m truncates) Truncate(n int64) error { return m.truncate(n) }
func (m all) Truncate(n int64) error       { return m.truncate(n) }
func (m all) Sync() error                  { m.calls = append(m.calls, "sync"); return nil }

// image returns what the output reads as.
func (m *memory) image(zeros bool) []byte {
	p := bytes.Clone(m.p)
	for zeros {
		i := bytes.IndexByte(m.seen, 0)
		if i < 0 {
			break
		}
		n := bytes.IndexByte(m.seen[i:], 1)
		if n < 0 {
			n = len(p) - i
		}
		clear(p[i : i+n])
		copy(m.seen[i:i+n], bytes.Repeat([]byte{1}, n))
	}
	return p
}

// fillBatch sets b to the guest range at off, clipped to the disk, as package
// convert does: the last unit filled up, each block in its place.
func fillBatch(b *diskimage.Batch, disk []byte, off int64, block int64) {
	n := min(diskimage.BatchSize, int64(len(disk))-off)
	b.Reset(off, n)
	copy(b.Buf, disk[off:off+n])
	padded := (n + raw.Unit - 1) / raw.Unit * raw.Unit
	clear(b.Buf[n:padded])
	for at := int64(0); at < padded; at += block {
		end := min(at+block, padded)
		b.Blocks = append(b.Blocks, diskimage.Block{Off: off + at, Len: end - at, Data: b.Buf[at:end]})
	}
}

// writeAll puts a disk through a writer, leaving out the batches that skip
// names, several at once if workers is more than one.
func writeAll(t testing.TB, w *raw.Writer, disk []byte, block int64, workers int, skip func(off int64) bool) {
	t.Helper()
	var free, inFlight []*diskimage.Batch
	for range workers {
		free = append(free, w.NewBatch())
	}
	flush := func() {
		var wg sync.WaitGroup
		errs := make([]error, len(inFlight))
		for i, b := range inFlight {
			wg.Go(func() { errs[i] = w.Store(t.Context(), b) })
		}
		wg.Wait()
		require.NoError(t, errors.Join(errs...))
		free, inFlight = append(free, inFlight...), inFlight[:0]
	}
	for off := int64(0); off < int64(len(disk)); off += diskimage.BatchSize {
		if skip != nil && skip(off) {
			continue
		}
		b := free[len(free)-1]
		free = free[:len(free)-1]
		fillBatch(b, disk, off, block)
		require.NoError(t, w.Encode(b))
		require.NoError(t, w.Place(b))
		if inFlight = append(inFlight, b); len(inFlight) == workers {
			flush()
		}
	}
	flush()
}

// guests are disks with zeros in all the wrong places.
func guests() map[string][]byte {
	m := map[string][]byte{}
	for _, n := range append(sizes, diskimage.BatchSize, diskimage.BatchSize+1) {
		p := pattern(n)
		if n < 1<<20 {
			m[fmt.Sprintf("data %d", n)] = bytes.Clone(p)
			m[fmt.Sprintf("zeros %d", n)] = make([]byte, n)
		}
		for off := 0; off < n; off += 3 * raw.Unit { // every third unit
			clear(p[off:min(off+raw.Unit, n)])
		}
		m[fmt.Sprintf("mixed %d", n)] = p
		p = pattern(n)
		clear(p[n/2:])
		m[fmt.Sprintf("half %d", n)] = p
	}
	big := pattern(7<<20 + 12345)
	clear(big[1<<20 : 5<<20]) // a whole batch, and parts of its neighbours
	clear(big[7<<20-100:])
	m["big"] = big
	return m
}

func TestWriter(t *testing.T) {
	type output struct {
		name string
		make func(m *memory) diskimage.Output
		zero bool
	}
	outputs := []output{
		{"plain", func(m *memory) diskimage.Output { return m }, false},
		{"zero-filled", func(m *memory) diskimage.Output { return zeroFilled{m} }, true},
		{"truncates", func(m *memory) diskimage.Output { return truncates{m} }, false},
		{"all", func(m *memory) diskimage.Output { return all{m} }, true},
	}
	for name, disk := range guests() {
		for _, out := range outputs {
			for _, allocate := range []bool{false, true} {
				for _, known := range []bool{true, false} {
					m := &memory{t: t}
					o := raw.WriterOptions{Size: int64(len(disk)), AllocateZeros: allocate}
					if !known {
						o.Size = -1
					}
					w, err := raw.NewWriter(out.make(m), o)
					require.NoError(t, err)
					writeAll(t, w, disk, 64<<10, 1, nil)
					if !known {
						require.NoError(t, w.SetSize(int64(len(disk))))
					}
					require.NoError(t, w.Finish(t.Context()))
					require.NoError(t, w.Abort())
					what := fmt.Sprintf("%s to %s, allocate %t, size known %t", name, out.name, allocate, known)
					got := m.image(out.zero && !allocate)
					require.Len(t, got, len(disk), what)
					require.True(t, bytes.Equal(disk, got), what)
				}
			}
		}
	}
}

// TestGapsAreZeros: ranges in no batch, in no block, and in blocks of kind
// Zero are written where they must be, however the batches are stored.
func TestGapsAreZeros(t *testing.T) {
	disk := pattern(9 * diskimage.BatchSize / 2)
	const bs = diskimage.BatchSize
	clear(disk[:bs])
	clear(disk[2*bs : 4*bs])
	skip := func(off int64) bool { return off < bs || off >= 2*bs && off < 4*bs }
	for _, workers := range []int{1, 4} {
		m := &memory{t: t}
		w, err := raw.NewWriter(m, raw.WriterOptions{Size: int64(len(disk))})
		require.NoError(t, err)
		writeAll(t, w, disk, bs, workers, skip)
		require.NoError(t, w.Finish(t.Context()))
		require.True(t, bytes.Equal(disk, m.p))
	}

	m := &memory{t: t}
	w, err := raw.NewWriter(m, raw.WriterOptions{Size: bs})
	require.NoError(t, err)
	b := w.NewBatch()
	b.Reset(0, bs)
	data := pattern(raw.Unit)
	b.Blocks = append(b.Blocks,
		diskimage.Block{Off: 4096, Len: 4096, Kind: diskimage.Zero},
		diskimage.Block{Off: 3 * 4096, Len: 4096, Data: data})
	require.NoError(t, w.Encode(b))
	require.NoError(t, w.Place(b))
	require.NoError(t, w.Store(t.Context(), b))
	require.NoError(t, w.Finish(t.Context()))
	want := make([]byte, bs)
	copy(want[3*4096:], data)
	require.True(t, bytes.Equal(want, m.p))
}

// TestOrderOfWrites: ascending, one for neighbours in the buffer, the length
// at the end, then synced.
func TestOrderOfWrites(t *testing.T) {
	disk := pattern(2*diskimage.BatchSize + 5000)
	clear(disk[8192 : 8192+4096])
	m := &memory{t: t}
	w, err := raw.NewWriter(all{m}, raw.WriterOptions{Size: int64(len(disk))})
	require.NoError(t, err)
	writeAll(t, w, disk, 64<<10, 1, nil)
	require.NoError(t, w.Finish(t.Context()))
	require.Equal(t, []string{"truncate 4199304", "write 0+8192", "write 12288+2084864", "write 2097152+2097152",
		"write 4194304+5000", "truncate 4199304", "sync"}, m.calls)
}

func TestWriterRefuses(t *testing.T) {
	_, err := raw.NewWriter(&memory{t: t}, raw.WriterOptions{Size: -2})
	require.ErrorContains(t, err, "option Size")

	const bs = diskimage.BatchSize
	data := pattern(2 * bs)
	for name, tt := range map[string]struct {
		off, n int64
		blocks []diskimage.Block
	}{
		"a batch that is too long":           {0, bs + 1, nil},
		"a batch below 0":                    {-bs, bs, nil},
		"a block that does not start a unit": {0, bs, []diskimage.Block{{Off: 1, Len: 4096, Data: data[:4096]}}},
		"a block before the batch":           {bs, bs, []diskimage.Block{{Off: 0, Len: 4096, Data: data[:4096]}}},
		"a block behind the batch":           {0, bs, []diskimage.Block{{Off: bs, Len: 4096, Data: data[:4096]}}},
		"a block that outgrows the batch":    {0, bs, []diskimage.Block{{Off: 4096, Len: bs, Data: data[:bs]}}},
		"blocks that overlap":                {0, bs, []diskimage.Block{{Off: 0, Len: 8192, Data: data[:8192]}, {Off: 4096, Len: 4096, Data: data[:4096]}}},
		"an empty block":                     {0, bs, []diskimage.Block{{Off: 0, Len: 0}}},
		"a block with too few bytes":         {0, bs, []diskimage.Block{{Off: 0, Len: 8192, Data: data[:4096]}}},
		"deflate":                            {0, bs, []diskimage.Block{{Off: 0, Len: 4096, Enc: diskimage.Deflate, Data: data[:100]}}},
		"zstd":                               {0, bs, []diskimage.Block{{Off: 0, Len: 4096, Enc: diskimage.Zstd, Data: data[:100]}}},
		"a unit beyond the disk":             {bs, bs, []diskimage.Block{{Off: bs + 8192, Len: 4096, Data: data[:4096]}}},
		"data beyond the disk":               {bs, bs, []diskimage.Block{{Off: bs + 4096, Len: 4096, Data: data[:4096]}}},
	} {
		t.Run(name, func(t *testing.T) {
			w, err := raw.NewWriter(&memory{t: t}, raw.WriterOptions{Size: bs + 4096 + 100})
			require.NoError(t, err)
			b := w.NewBatch()
			b.Reset(tt.off, tt.n)
			b.Blocks = append(b.Blocks, tt.blocks...)
			require.Error(t, w.Encode(b))
		})
	}

	w, err := raw.NewWriter(&memory{t: t}, raw.WriterOptions{Size: -1})
	require.NoError(t, err)
	require.Error(t, w.SetSize(-1))
	b := w.NewBatch()
	fillBatch(b, data, bs, bs)
	require.NoError(t, w.Encode(b))
	require.NoError(t, w.Place(b))
	require.Error(t, w.Place(b), "batches ascend")
	other := &diskimage.Batch{}
	require.Error(t, w.Encode(other), "a batch of another writer")
	require.Error(t, w.Place(other))
	require.Error(t, w.Store(t.Context(), other))
	require.ErrorContains(t, w.Finish(t.Context()), "size is not known")

	w, err = raw.NewWriter(&memory{t: t}, raw.WriterOptions{Size: -1})
	require.NoError(t, err)
	fillBatch(b, data, 0, bs)
	require.NoError(t, w.Encode(b))
	require.NoError(t, w.Place(b))
	require.NoError(t, w.Store(t.Context(), b))
	require.NoError(t, w.SetSize(100))
	require.Error(t, w.SetSize(101), "another size")
	require.Error(t, w.Finish(t.Context()), "data beyond the size")
	require.Error(t, w.Finish(t.Context()), "a second time")
}

func TestErrorsOfTheOutput(t *testing.T) {
	disk := pattern(diskimage.BatchSize)
	clear(disk[1<<20:])
	for _, m := range []*memory{{t: t, failFrom: 1000}, {t: t, failFrom: 1<<20 + 1000}, {t: t, short: true}} {
		w, err := raw.NewWriter(m, raw.WriterOptions{Size: int64(len(disk))})
		require.NoError(t, err)
		b := w.NewBatch()
		fillBatch(b, disk, 0, 64<<10)
		require.NoError(t, w.Encode(b))
		require.NoError(t, w.Place(b))
		err = w.Store(t.Context(), b)
		if m.short {
			require.ErrorIs(t, err, io.ErrShortWrite)
		} else {
			require.ErrorIs(t, err, errFull)
		}
		require.NoError(t, w.Abort())
	}
}

// TestCancel: nothing is written, and nothing synced, after the context ends.
func TestCancel(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	m := &memory{t: t}
	w, err := raw.NewWriter(m, raw.WriterOptions{Size: diskimage.BatchSize})
	require.NoError(t, err)
	b := w.NewBatch()
	fillBatch(b, pattern(diskimage.BatchSize), 0, 64<<10)
	require.NoError(t, w.Encode(b))
	require.NoError(t, w.Place(b))
	require.ErrorIs(t, w.Store(ctx, b), context.Canceled)
	require.Empty(t, m.calls)
	require.ErrorIs(t, w.Finish(ctx), context.Canceled)
	require.Empty(t, m.calls)
}

// TestReferenceReadsIt: qemu-img compares the file equal to what went in, and
// maps its zeros as zeros.
func TestReferenceReadsIt(t *testing.T) {
	peer.Find(t, "qemu-img")
	dir := t.TempDir()
	src, dst := filepath.Join(dir, "src"), filepath.Join(dir, "dst")
	disk := sparse(t, src, 9<<20+512)
	f, err := atomicfile.Create(dst, atomicfile.Options{Unsynced: true})
	require.NoError(t, err)
	defer f.Abort()
	w, err := raw.NewWriter(f, raw.WriterOptions{Size: int64(len(disk))})
	require.NoError(t, err)
	writeAll(t, w, disk, 64<<10, 4, nil)
	require.NoError(t, w.Finish(t.Context()))
	require.NoError(t, f.Commit())
	peer.Run(t, "qemu-img", "compare", "-s", "-f", "raw", "-F", "raw", src, dst)
	require.Equal(t, peer.Run(t, "qemu-img", "map", "--output=json", "-f", "raw", src),
		peer.Run(t, "qemu-img", "map", "--output=json", "-f", "raw", dst))
	got, err := os.ReadFile(dst)
	require.NoError(t, err)
	require.True(t, bytes.Equal(disk, got))
}
