package qcow2

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/internal/disktest"
	"github.com/diskimage-go/diskimage/internal/peer"
)

// A recorder is an Output in memory that asserts the law of outputs: each byte
// is written at most once, the first cluster in one call and last.
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
	switch end := off + int64(len(p)); {
	case r.sealed:
		r.breach("a write at %#x after the header", off)
	case off == 0 && end != r.prefix || off > 0 && off < r.prefix:
		r.breach("a write of %d at %#x inside the prefix", len(p), off)
	case off == 0:
		r.sealed = true
	case r.ordered && off != max(r.end, r.prefix):
		r.breach("a write at %#x, not at %#x", off, r.end)
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

// whole asserts that every byte was written, as for a pipe.
func (r *recorder) whole(t testing.TB) []byte {
	t.Helper()
	require.Empty(t, r.breaches)
	require.True(t, r.sealed, "no header")
	require.Equal(t, -1, bytes.IndexByte(r.written, 0), "a byte is never written")
	return r.bytes
}

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
	if o.Size < 0 {
		if err := w.SetSize(int64(len(guest))); err != nil {
			return w, err
		}
	}
	return w, w.Finish(context.Background())
}

// A mix says how many of 10 clusters are zeros and compressible; the others
// are not.
type mix struct{ zeros, soft int }

var (
	allZeros = mix{10, 0}
	allSoft  = mix{0, 10}
	allHard  = mix{0, 0}
	mixed    = mix{2, 5}
)

// guestData returns size bytes that depend on the arguments alone. The kind
// changes from one cluster to the next.
func guestData(size, cluster int64, m mix, seed uint64) []byte {
	rnd := rand.New(rand.NewPCG(seed, uint64(cluster)))
	p := make([]byte, size)
	for off := int64(0); off < size; off += cluster {
		c := p[off:min(off+cluster, size)]
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

// checkWithPeer writes an image and the raw disk, and has the peer find the
// image sound and both the same.
func checkWithPeer(t *testing.T, img, guest []byte) {
	t.Helper()
	dir := t.TempDir()
	image, raw := filepath.Join(dir, "image.qcow2"), filepath.Join(dir, "disk.raw")
	require.NoError(t, os.WriteFile(image, img, 0o666))
	padded := append(guest[:len(guest):len(guest)], make([]byte, -len(guest)&511)...)
	require.NoError(t, os.WriteFile(raw, padded, 0o666))
	out := peer.Run(t, "qemu-img", "check", "-f", "qcow2", image)
	require.Contains(t, out, "No errors were found on the image.\n")
	peer.Run(t, "qemu-img", "compare", "-f", "qcow2", "-F", "raw", image, raw)
}
