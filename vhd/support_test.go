package vhd

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage"
)

// source returns the bytes of a file as a Source.
func source(file []byte) diskimage.Source {
	return diskimage.NewSource(bytes.NewReader(file), int64(len(file)))
}

func open(t testing.TB, file []byte, o Options) *Disk {
	t.Helper()
	d, err := Open(context.Background(), source(file), o)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, d.Close()) })
	return d
}

// files is an opener over images in memory.
type files map[string][]byte

func (f files) OpenDisk(ctx context.Context, ref diskimage.Reference) (diskimage.VirtualDisk, error) {
	file, ok := f[ref.Name]
	if !ok {
		return nil, &fs.PathError{Op: "open", Path: ref.Name, Err: fs.ErrNotExist}
	}
	d, err := Open(ctx, source(file), Options{Name: ref.Name, Opener: f, Depth: ref.Depth})
	if err != nil {
		return nil, err
	}
	return d, nil
}

func (f files) OpenSource(context.Context, diskimage.Reference) (diskimage.Source, error) {
	return nil, fs.ErrInvalid
}

// patchwork returns guest bytes: data of several lengths, single sectors among
// it, zeros between, and untouched ranges.
func patchwork(seed uint64, size int64) []byte {
	rng := rand.New(rand.NewPCG(seed, 7))
	guest := make([]byte, size)
	for off := int64(0); off < size; {
		n := []int64{512, 4096, 64 << 10, 300 << 10, 3 << 20}[rng.IntN(5)]
		n = min(n, size-off)
		if rng.IntN(3) > 0 {
			for i := off; i < off+n; i += 8 {
				copy(guest[i:off+n], fmt.Sprintf("%08x", rng.Uint32()))
			}
		}
		off += n
	}
	return guest
}

// A recorder is an Output in memory that asserts the law of outputs: each byte
// is written at most once, and the prefix in one call and last.
type recorder struct {
	mu       sync.Mutex
	bytes    []byte
	written  []byte // 1 where a byte was written
	prefix   int64
	sealed   bool
	zeros    bool // unwritten bytes read as zeros
	ordered  bool // each write follows the one before
	end      int64
	failAt   int // number of the write that fails, from 1
	writes   int
	breaches []string
}

func (r *recorder) ZeroFilled() bool { return r.zeros }

func (r *recorder) WriteAt(p []byte, off int64) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.writes++; r.writes == r.failAt {
		return 0, os.ErrDeadlineExceeded
	}
	switch end := off + int64(len(p)); {
	case r.sealed:
		r.breach("a write at %#x after the front", off)
	case off < r.prefix && (off != 0 || end != r.prefix):
		r.breach("a write of %d at %#x inside the prefix", len(p), off)
	case off < r.prefix:
		r.sealed = true
	case r.ordered && off != max(r.end, r.prefix):
		r.breach("a write at %#x, not at %#x", off, max(r.end, r.prefix))
	}
	if r.end = off + int64(len(p)); r.end > int64(len(r.bytes)) {
		r.bytes = append(r.bytes, make([]byte, r.end-int64(len(r.bytes)))...)
		r.written = append(r.written, make([]byte, len(r.bytes)-len(r.written))...)
	}
	mark := r.written[off:r.end]
	if i := bytes.IndexByte(mark, 1); i >= 0 {
		r.breach("the byte at %#x is written twice", off+int64(i))
	}
	for i := range mark {
		mark[i] = 1
	}
	return copy(r.bytes[off:], p), nil
}

func (r *recorder) breach(format string, args ...any) {
	r.breaches = append(r.breaches, fmt.Sprintf(format, args...))
}

// drive gives a writer the guest bytes, batch by batch: those for which skip
// is not true.
func drive(w diskimage.Writer, guest []byte, skip func(off int64) bool) error {
	ctx := context.Background()
	b := w.NewBatch()
	for off := int64(0); off < int64(len(guest)); off += diskimage.BatchSize {
		b.Reset(off, min(diskimage.BatchSize, int64(len(guest))-off))
		n := int64(copy(b.Buf, guest[off:]))
		clear(b.Buf[n:])
		for at := int64(0); at < n; at += 64 << 10 {
			if skip == nil || !skip(off+at) {
				length := min((n-at+pieceSize-1)&^(pieceSize-1), 64<<10)
				b.Blocks = append(b.Blocks, diskimage.Block{Off: off + at, Len: length, Data: b.Buf[at : at+length]})
			}
		}
		if len(b.Blocks) == 0 {
			continue
		}
		for _, step := range []func() error{
			func() error { return w.Encode(b) },
			func() error { return w.Place(b) },
			func() error { return w.Store(ctx, b) },
		} {
			if err := step(); err != nil {
				return err
			}
		}
	}
	return w.Finish(ctx)
}

// write returns the image of the guest bytes, as a new file gets it.
func write(t testing.TB, o WriterOptions, guest []byte) []byte {
	t.Helper()
	if o.Size == 0 {
		o.Size = int64(len(guest))
	}
	r := &recorder{zeros: true}
	w, err := NewWriter(r, o)
	require.NoError(t, err)
	r.prefix = w.Prefix()
	require.NoError(t, drive(w, guest, nil))
	require.Empty(t, r.breaches)
	return r.bytes
}

// save puts a file into a new folder.
func save(t testing.TB, name string, file []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	require.NoError(t, os.WriteFile(path, file, 0o600))
	return path
}
