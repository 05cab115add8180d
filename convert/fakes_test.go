package convert

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/klauspost/compress/flate"
	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage"
)

// A memDisk is a disk in memory with a map of its own making, and faults.
type memDisk struct {
	content []byte
	extents []diskimage.Extent
	streams map[int64][]byte // of compressed extents, by guest offset
	badFrom int64            // reads that touch [badFrom, badTo) fail
	badTo   int64
	reads   atomic.Int64
	onRead  func(off int64)
}

var errBadSector = errors.New("bad sector")

func (d *memDisk) Size() int64  { return int64(len(d.content)) }
func (d *memDisk) Close() error { return nil }

func (d *memDisk) ReadAt(p []byte, off int64) (int, error) {
	d.reads.Add(1)
	if d.onRead != nil {
		d.onRead(off)
	}
	if off >= d.Size() {
		return 0, io.EOF
	}
	if off < d.badTo && off+int64(len(p)) > d.badFrom {
		return 0, fmt.Errorf("at %d: %w", off, errBadSector)
	}
	n := copy(p, d.content[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (d *memDisk) NextExtent(off int64) (diskimage.Extent, error) {
	if off == d.Size() {
		return diskimage.Extent{}, io.EOF
	}
	i, _ := slices.BinarySearchFunc(d.extents, off, func(e diskimage.Extent, off int64) int {
		if e.End() <= off {
			return -1
		}
		return 1
	})
	return d.extents[i].Clip(off, d.Size()), nil
}

func (d *memDisk) ReadStored(e diskimage.Extent, buf []byte) (diskimage.Stored, error) {
	s, ok := d.streams[e.Off]
	if !ok {
		return diskimage.Stored{}, errors.New("no such unit")
	}
	// As from a file: followed by what is not the stream's.
	out := append(buf[:0], s...)
	return diskimage.Stored{Stream: append(out, 0xee, 0xee, 0xee)}, nil
}

// patchworkDisk makes a disk of pieces of all kinds, some of which lie about
// nothing but their cost: data that is zeros. Its compressed units are of 64
// KiB.
func patchworkDisk(seed uint64, size int64) *memDisk {
	source := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	rng := rand.New(source)
	d := &memDisk{content: make([]byte, size), streams: map[int64][]byte{}, badFrom: -1, badTo: -1}
	text := bytes.Repeat([]byte("the quick brown fox jumps over the lazy dog, "), 4096)
	for off := int64(0); off < size; {
		n := min(size-off, 512*(1+rng.Int64N(600)))
		e := diskimage.Extent{Off: off, Len: n, Host: -1}
		switch rng.IntN(7) {
		case 0:
			e.Kind = diskimage.Zero
		case 1, 2:
			e.Kind = diskimage.Hole
			if rng.IntN(8) == 0 {
				e.Len = min(size-off, 5<<20+512*rng.Int64N(1000))
			}
		case 3: // incompressible
			source.Read(d.content[off : off+n])
		case 4: // zeros stored as data, with a byte somewhere
			if rng.IntN(2) == 0 {
				d.content[off+rng.Int64N(n)] = 1
			}
		case 5:
			if pad := roundUp(off, 64<<10) - off; pad > 0 && size-off >= pad {
				d.extents = append(d.extents, diskimage.Extent{Off: off, Len: pad, Kind: diskimage.Hole, Host: -1})
				off += pad
			}
			if e.Off = off; size-off < 64<<10 {
				continue
			}
			e.Len, e.Stored = 64<<10, diskimage.Deflate
			copy(d.content[off:off+e.Len], text[rng.IntN(1000):])
			d.streams[off] = deflated(d.content[off : off+e.Len])
			e.HostLen = int64(len(d.streams[off])) + 3
		default:
			copy(d.content[off:off+e.Len], text[rng.IntN(1000):])
		}
		d.extents = append(d.extents, e)
		off += e.Len
	}
	return d
}

func deflated(p []byte) []byte {
	var b bytes.Buffer
	w, err := flate.NewWriterWindow(&b, 4096)
	if err != nil {
		panic(err)
	}
	w.Write(p)
	w.Close()
	return b.Bytes()
}

// A memOutput is an image in memory. Its zero value reads as zeros where
// nothing was written.
type memOutput struct {
	mu     sync.Mutex
	data   []byte
	log    []Range // what was written
	fail   int     // the write to fail, counted from 1; 0: none
	writes int
}

var errNoSpace = errors.New("no space left")

func (o *memOutput) WriteAt(p []byte, off int64) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.writes++; o.fail > 0 && o.writes >= o.fail {
		return 0, errNoSpace
	}
	if end := off + int64(len(p)); end > int64(len(o.data)) {
		o.data = append(o.data, make([]byte, end-int64(len(o.data)))...)
	}
	copy(o.data[off:], p)
	o.log = append(o.log, Range{off, int64(len(p))})
	return len(p), nil
}

// twice reports whether some byte was written twice.
func (o *memOutput) twice() bool {
	slices.SortFunc(o.log, func(a, b Range) int { return cmp.Compare(a.Off, b.Off) })
	for i := 1; i < len(o.log); i++ {
		if o.log[i-1].Off+o.log[i-1].Len > o.log[i].Off {
			return true
		}
	}
	return false
}

func (o *memOutput) Truncate(size int64) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if n := size - int64(len(o.data)); n > 0 {
		o.data = append(o.data, make([]byte, n)...)
	}
	o.data = o.data[:size]
	return nil
}

func (o *memOutput) ZeroFilled() bool { return true }
func (o *memOutput) Size() int64      { return int64(len(o.data)) }

func (o *memOutput) ReadAt(p []byte, off int64) (int, error) {
	return bytes.NewReader(o.data).ReadAt(p, off)
}

// A logWriter writes no image: it keeps what it was told, and can fail.
type logWriter struct {
	unit     int64
	failIn   string // "encode", "place", "store", "finish"
	failAt   int    // which call, from 0
	encodes  atomic.Int64
	stores   atomic.Int64
	places   int
	placed   []int64 // guest offsets of batches, in order
	mu       sync.Mutex
	content  map[int64][]byte // by batch
	finished bool
	aborts   int
}

var errInjected = errors.New("injected")

func (w *logWriter) Unit() int64 { return w.unit }

func (w *logWriter) NewBatch() *diskimage.Batch {
	return &diskimage.Batch{Buf: make([]byte, diskimage.BatchSize)}
}

func (w *logWriter) Encode(b *diskimage.Batch) error {
	if n := w.encodes.Add(1) - 1; w.failIn == "encode" && int(n) == w.failAt {
		return errInjected
	}
	for _, blk := range b.Blocks {
		if blk.Off%w.unit != 0 || blk.Len%w.unit != 0 || blk.Len == 0 || blk.Off < b.Off || blk.Off+blk.Len > b.Off+diskimage.BatchSize {
			return fmt.Errorf("block %d+%d breaks the law", blk.Off, blk.Len)
		}
	}
	return nil
}

func (w *logWriter) Place(b *diskimage.Batch) error {
	if w.places++; w.failIn == "place" && w.places-1 == w.failAt {
		return errInjected
	}
	w.placed = append(w.placed, b.Off)
	return nil
}

func (w *logWriter) Store(_ context.Context, b *diskimage.Batch) error {
	if n := w.stores.Add(1) - 1; w.failIn == "store" && int(n) == w.failAt {
		return errInjected
	}
	p := make([]byte, diskimage.BatchSize)
	for _, blk := range b.Blocks {
		copy(p[blk.Off-b.Off:], blk.Data)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.content == nil {
		w.content = map[int64][]byte{}
	}
	if w.content[b.Off] != nil {
		return fmt.Errorf("batch %d came twice", b.Off)
	}
	w.content[b.Off] = p
	return nil
}

func (w *logWriter) Finish(context.Context) error {
	if w.failIn == "finish" {
		return errInjected
	}
	w.finished = true
	return nil
}

func (w *logWriter) Abort() error {
	w.aborts++
	return nil
}

// disk returns the content that the writer was given.
func (w *logWriter) disk(size int64) []byte {
	p := make([]byte, roundUp(size, diskimage.BatchSize))
	for off, b := range w.content {
		copy(p[off:], b)
	}
	return p[:size]
}

func runInto(t testing.TB, ctx context.Context, w diskimage.Writer, d diskimage.VirtualDisk, s diskimage.Stream, o Options) (*Report, error) {
	t.Helper()
	r, err := newRun(d, s, o)
	require.NoError(t, err)
	if err := r.check(); err != nil {
		return nil, err
	}
	if err := r.convert(ctx, w); err != nil {
		return nil, err
	}
	return r.report(), nil
}
