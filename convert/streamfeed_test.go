package convert

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/internal/zero"
)

// A deck is a disk whose grains come in any order, compressed or not.
type deck struct {
	content  []byte
	grain    int64
	order    []int64 // of grains
	anyOrder bool
	next     int
}

// shuffled returns a disk's grains that are not zeros, shuffled.
func shuffled(seed uint64, content []byte, grain int64) *deck {
	d := &deck{content: content, grain: grain}
	for off := int64(0); off < int64(len(content)); off += grain {
		if !zero.Is(content[off:min(off+grain, int64(len(content)))]) {
			d.order = append(d.order, off)
		}
	}
	rand.New(rand.NewPCG(seed, 0)).Shuffle(len(d.order), func(i, j int) { d.order[i], d.order[j] = d.order[j], d.order[i] })
	return d
}

func (d *deck) Size() int64  { return int64(len(d.content)) }
func (d *deck) Close() error { return nil }
func (d *deck) AnyOrder()    { d.anyOrder = true }

var errOrder = errors.New("out of order")

func (d *deck) NextBlock(buf []byte) (diskimage.Block, error) {
	if d.next == len(d.order) {
		return diskimage.Block{}, io.EOF
	}
	off := d.order[d.next]
	if !d.anyOrder && d.next > 0 && off < d.order[d.next-1] {
		return diskimage.Block{}, errOrder
	}
	d.next++
	p := d.content[off:min(off+d.grain, d.Size())]
	b := diskimage.Block{Off: off, Len: int64(len(p))}
	if off/d.grain%3 > 0 {
		b.Data = buf[:copy(buf, p)]
	} else {
		b.Enc, b.Data = diskimage.Deflate, deflated(p)
	}
	return b, nil
}

// Grains in any order make the same raw file as the disk does, whoever works.
func TestScatteredStream(t *testing.T) {
	ctx := context.Background()
	for _, grain := range []int64{4096, 64 << 10, 2 << 20} {
		for _, size := range []int64{4096, 64<<10 + 512, 9<<20 + 7} {
			for _, workers := range []int{1, 8} {
				t.Run(fmt.Sprintf("%d of %d, %d workers", size, grain, workers), func(t *testing.T) {
					t.Parallel()
					content := patchworkDisk(uint64(size), size).content
					var out memOutput
					o := Options{Workers: workers, Verify: true}
					rep, err := StreamToOutput(ctx, &out, shuffled(uint64(grain), content, grain), o)
					require.NoError(t, err)
					require.True(t, bytes.Equal(content, out.data))
					require.True(t, rep.Verified)
					require.False(t, out.twice())
				})
			}
		}
	}
}

// A file that takes its bytes in any order has the holes that it has when they
// come in order.
func TestScatteredStreamToFile(t *testing.T) {
	content := patchworkDisk(77, 9<<20).content
	name := filepath.Join(t.TempDir(), "disk.raw")
	rep, err := StreamToFile(context.Background(), name, shuffled(77, content, 64<<10), Options{Verify: true})
	require.NoError(t, err)
	require.True(t, rep.Verified)
	got, err := os.ReadFile(name)
	require.NoError(t, err)
	require.True(t, bytes.Equal(content, got))
}

// Verification finds a byte that was changed on the way, whatever the order.
func TestScatteredStreamIsVerified(t *testing.T) {
	content := bytes.Repeat([]byte("grain..."), 1<<20)
	for _, grain := range []int64{4096, 64 << 10} {
		out := &lossy{at: 3<<20 + 17}
		_, err := StreamToOutput(context.Background(), out, shuffled(5, content, grain), Options{Verify: true})
		require.ErrorContains(t, err, "differs from the source")
	}
}

// A lossy output changes a byte that is written to it.
type lossy struct {
	memOutput
	at int64
}

func (o *lossy) WriteAt(p []byte, off int64) (int, error) {
	if off <= o.at && o.at < off+int64(len(p)) {
		p = bytes.Clone(p)
		p[o.at-off]++
	}
	return o.memOutput.WriteAt(p, off)
}

// What needs the order is told to the stream, which refuses.
func TestOrderIsNeeded(t *testing.T) {
	ctx := context.Background()
	content := patchworkDisk(3, 9<<20).content
	for name, o := range map[string]Options{
		"digest": {Digest: true}, "allocated": {AllocateZeros: true}, "qcow2": {Format: QCOW2}, "ascending": {Ascending: true},
	} {
		for _, workers := range []int{1, 8} {
			o.Workers = workers
			_, err := StreamToOutput(ctx, &memOutput{}, shuffled(3, content, 64<<10), o)
			require.ErrorIs(t, err, errOrder, name)
		}
	}
	_, err := StreamToOutput(ctx, &plainOutput{}, shuffled(3, content, 64<<10), Options{})
	require.ErrorIs(t, err, errOrder, "an output whose every byte is to be written")
}

// A plainOutput promises nothing of bytes that were not written.
type plainOutput struct{ o memOutput }

func (o *plainOutput) WriteAt(p []byte, off int64) (int, error) { return o.o.WriteAt(p, off) }

// Blocks that share a unit of the target would lose bytes: they are refused.
func TestScatteredStreamOfPartsOfUnits(t *testing.T) {
	content := bytes.Repeat([]byte("grain..."), 1<<10)
	_, err := StreamToOutput(context.Background(), &memOutput{}, shuffled(5, content, 512), Options{})
	require.ErrorContains(t, err, "is no whole unit")
}
