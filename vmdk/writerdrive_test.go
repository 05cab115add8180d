package vmdk

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/internal/disktest"
)

// A recorder is an Output in memory that asserts the law of outputs: each byte
// is written at most once, the prefix in one call and last.
type recorder struct {
	mu       sync.Mutex
	bytes    []byte
	written  []byte // 1 where a byte was written
	prefix   int64
	sealed   bool
	ordered  bool  // writes must ascend
	end      int64 // of the last write
	writes   int
	failAt   int // number of the write that fails, from 1
	breaches []string
}

func (r *recorder) WriteAt(p []byte, off int64) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.writes++
	if r.writes == r.failAt {
		return 0, os.ErrDeadlineExceeded
	}
	end := off + int64(len(p))
	switch {
	case r.sealed:
		r.breach("a write at %#x after the prefix", off)
	case off < r.prefix && (off > 0 || end != r.prefix):
		r.breach("a write of %d at %#x inside the prefix", len(p), off)
	case off < r.prefix:
		r.sealed = true
	case r.ordered && off != max(r.end, r.prefix):
		r.breach("a write at %#x, not at %#x", off, r.end)
	}
	if r.end = end; end > int64(len(r.bytes)) {
		r.bytes = append(r.bytes, make([]byte, end-int64(len(r.bytes)))...)
		r.written = append(r.written, make([]byte, len(r.bytes)-len(r.written))...)
	}
	mark := r.written[off:end]
	if i := bytes.IndexByte(mark, 1); i >= 0 {
		r.breach("the byte at %#x is written twice", off+int64(i))
	}
	copy(mark, bytes.Repeat([]byte{1}, len(mark))) // much faster than a loop under the race detector
	return copy(r.bytes[off:], p), nil
}

func (r *recorder) breach(format string, args ...any) {
	r.breaches = append(r.breaches, fmt.Sprintf(format, args...))
}

// whole asserts that every byte was written, as for a pipe.
func (r *recorder) whole(t testing.TB) []byte {
	t.Helper()
	require.Empty(t, r.breaches)
	require.Equal(t, r.prefix > 0, r.sealed, "the prefix")
	require.Equal(t, -1, bytes.IndexByte(r.written, 0), "a byte is never written")
	return r.bytes
}

// record returns a recorder for an image with these options.
func record(t testing.TB, o WriterOptions) *recorder {
	t.Helper()
	w, err := NewWriter(discard{}, o)
	require.NoError(t, err)
	return &recorder{prefix: w.Prefix()}
}

// build writes a guest disk, with one batch at a time, and returns the image.
func build(t testing.TB, o WriterOptions, guest []byte) []byte {
	t.Helper()
	o.Size = int64(len(guest))
	r := record(t, o)
	r.ordered = true
	_, err := drive(r, o, guest, 1, 0)
	require.NoError(t, err)
	return r.whole(t)
}

// A discard is an Output that takes all and keeps nothing.
type discard struct{}

func (discard) WriteAt(p []byte, _ int64) (int, error) { return len(p), nil }

// drive writes a guest disk with so many batches in flight, which are encoded
// at the same time and stored in an order drawn from a seed.
func drive(out diskimage.Output, o WriterOptions, guest []byte, inFlight int, seed uint64) (*Writer, error) {
	w, err := NewWriter(out, o)
	if err != nil {
		return nil, err
	}
	defer w.Abort()
	if err := disktest.Drive(w, guest, inFlight, seed); err != nil {
		return w, err
	}
	return w, w.Finish(context.Background())
}

// A mix says how many of 10 grains are zeros and compressible; the others are
// not.
type mix struct{ zeros, soft int }

var (
	allZeros = mix{10, 0}
	allSoft  = mix{0, 10}
	allHard  = mix{0, 0}
	mixed    = mix{2, 5}
)

// guestData returns size bytes that depend on the arguments alone. The kind
// changes from one grain to the next.
func guestData(size, grain int64, m mix, seed uint64) []byte {
	rnd := rand.New(rand.NewPCG(seed, uint64(grain)))
	p := make([]byte, size)
	for off := int64(0); off < size; off += grain {
		c := p[off:min(off+grain, size)]
		noise := 0
		switch kind := rnd.IntN(10); {
		case kind < m.zeros:
			continue
		case kind < m.zeros+m.soft: // of a length between next to nothing and all
			for i := range c {
				c[i] = byte(i >> 5)
			}
			noise = rnd.IntN(len(c))
		default:
			noise = len(c)
		}
		for i := 0; i+8 <= noise; i += 8 {
			binary.LittleEndian.PutUint64(c[i:], rnd.Uint64())
		}
		c[0] |= 1
	}
	return p
}
