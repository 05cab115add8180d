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
	"strings"
	"sync"
	"testing"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/internal/peer"
	"github.com/diskimage-go/diskimage/internal/zero"
	"github.com/diskimage-go/diskimage/raw"
	"github.com/stretchr/testify/require"
)

// A chunkDisk tells its extents in chunks, of which each has its kind.
type chunkDisk struct {
	content []byte
	size    int64 // if larger: the rest is a hole
	chunk   int64
	kinds   map[int64]diskimage.Extent // by the chunk's number: Kind and Stored; default: data
	unread  [2]int64                   // reading this range fails
	unmap   int64                      // telling the extent at this offset fails, if not 0

	mu   sync.Mutex
	read map[int64]bool // chunks that were read
}

var errBad = errors.New("bad sector")

func (d *chunkDisk) Close() error { return nil }
func (d *chunkDisk) Size() int64  { return max(d.size, int64(len(d.content))) }

func (d *chunkDisk) ReadAt(p []byte, off int64) (int, error) {
	d.mu.Lock()
	if d.read == nil {
		d.read = map[int64]bool{}
	}
	for i := off / d.chunk; i*d.chunk < off+int64(len(p)); i++ {
		d.read[i] = true
	}
	d.mu.Unlock()
	if off < d.unread[1] && off+int64(len(p)) > d.unread[0] {
		return 0, errBad
	}
	return bytes.NewReader(d.content).ReadAt(p, off)
}

func (d *chunkDisk) NextExtent(off int64) (diskimage.Extent, error) {
	switch {
	case off == d.Size():
		return diskimage.Extent{}, io.EOF
	case off == d.unmap && off > 0:
		return diskimage.Extent{}, errBad
	case off >= int64(len(d.content)):
		return diskimage.Extent{Off: off, Len: d.Size() - off, Kind: diskimage.Hole, Host: -1}, nil
	}
	i := off / d.chunk
	e := d.kinds[i]
	e.Off, e.Host = off, -1
	e.Len = min((i+1)*d.chunk, int64(len(d.content))) - off
	return e, nil
}

// randomDisk has chunks of all kinds; some zeros are stored as data.
func randomDisk(r *rand.Rand, content []byte, chunk int64) *chunkDisk {
	d := &chunkDisk{content: content, chunk: chunk, kinds: map[int64]diskimage.Extent{}}
	for i := int64(0); i*chunk < int64(len(content)); i++ {
		if zero.Is(content[i*chunk : min((i+1)*chunk, int64(len(content)))]) {
			d.kinds[i] = diskimage.Extent{Kind: diskimage.Kind(r.IntN(3))}
		} else if r.IntN(4) == 0 {
			d.kinds[i] = diskimage.Extent{Stored: diskimage.Deflate}
		}
	}
	return d
}

func randomContent(r *rand.Rand, size int) []byte {
	p := make([]byte, size)
	for off := 0; off < size; {
		n := min(1+r.IntN(200_000), size-off)
		if r.IntN(2) == 0 {
			fill := 1 + byte(r.IntN(255))
			for i := range n {
				p[off+i] = fill
			}
		}
		off += n
	}
	return p
}

// The result is that of comparing byte by byte, for any number of workers.
func TestCompareIsBytesEqual(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 30 {
		x := randomContent(r, 1+r.IntN(4<<20))
		y := bytes.Clone(x)
		if r.IntN(3) == 0 {
			y = append(y, make([]byte, r.IntN(1<<20))...)
		}
		for range r.IntN(4) {
			y[r.IntN(len(y))]++
		}
		want := int64(-1)
		for i := range y {
			if i < len(x) && x[i] != y[i] || i >= len(x) && y[i] != 0 {
				want = int64(i)
				break
			}
		}
		a := randomDisk(r, x, 512<<r.IntN(12))
		b := randomDisk(r, y, 512<<r.IntN(12))
		if r.IntN(2) == 0 {
			a, b = b, a
		}
		for _, workers := range []int{1, 3, 8} {
			got, err := Compare(context.Background(), a, b, CompareOptions{Workers: workers})
			require.NoError(t, err)
			require.Equal(t, &Comparison{Identical: want < 0, SizesDiffer: len(x) != len(y), FirstDifference: want, StatusDiffers: -1}, got)
		}
		for i, d := range []*chunkDisk{a, b} {
			for n := range d.read {
				require.Zero(t, d.kinds[n].Kind, "disk %d: chunk %d holds zeros and was read", i, n)
			}
		}
	}
}

func TestCompareStrict(t *testing.T) {
	p := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	other := bytes.Clone(p)
	other[300_000]++
	plain := func(p []byte, kinds ...any) *chunkDisk {
		d := &chunkDisk{content: p, chunk: 65536, kinds: map[int64]diskimage.Extent{}}
		for i := 0; i < len(kinds); i += 2 {
			d.kinds[int64(kinds[i].(int))] = kinds[i+1].(diskimage.Extent)
		}
		return d
	}
	zeros := make([]byte, 1<<20)
	hole, zero := diskimage.Extent{Kind: diskimage.Hole}, diskimage.Extent{Kind: diskimage.Zero}
	packed, zstd := diskimage.Extent{Stored: diskimage.Deflate}, diskimage.Extent{Stored: diskimage.Zstd}
	for name, tc := range map[string]struct {
		a, b *chunkDisk
		want Comparison
	}{
		"the same":             {plain(p), plain(p), Comparison{Identical: true, FirstDifference: -1, StatusDiffers: -1}},
		"both compressed":      {plain(p, 3, packed), plain(p, 3, zstd), Comparison{Identical: true, FirstDifference: -1, StatusDiffers: -1}},
		"one compressed":       {plain(p, 3, packed), plain(p), Comparison{FirstDifference: -1, StatusDiffers: 3 << 16}},
		"hole and zero":        {plain(zeros, 5, hole), plain(zeros, 5, zero), Comparison{FirstDifference: -1, StatusDiffers: 5 << 16}},
		"data and zero":        {plain(zeros), plain(zeros, 15, zero), Comparison{FirstDifference: -1, StatusDiffers: 15 << 16}},
		"sizes":                {plain(p), &chunkDisk{content: p, size: 1<<20 + 1, chunk: 65536}, Comparison{SizesDiffer: true, FirstDifference: -1, StatusDiffers: -1}},
		"content, then status": {plain(p, 9, packed), plain(other), Comparison{FirstDifference: 300_000, StatusDiffers: -1}},
		"status, then content": {plain(p, 2, packed), plain(other), Comparison{FirstDifference: -1, StatusDiffers: 2 << 16}},
		"both at once":         {plain(p, 4, packed), plain(other), Comparison{FirstDifference: -1, StatusDiffers: 4 << 16}},
	} {
		t.Run(name, func(t *testing.T) {
			for _, workers := range []int{1, 8} {
				got, err := Compare(context.Background(), tc.a, tc.b, CompareOptions{Strict: true, Workers: workers})
				require.NoError(t, err)
				require.Equal(t, &tc.want, got)
			}
		})
	}
}

func TestCompareErrors(t *testing.T) {
	p := bytes.Repeat([]byte("0123456789abcdef"), 1<<18)
	early, late := bytes.Clone(p), bytes.Clone(p)
	early[1<<20]++
	late[3<<20]++
	whole := func(p []byte) *chunkDisk { return &chunkDisk{content: p, chunk: 1 << 19} }
	for _, workers := range []int{1, 8} {
		o := CompareOptions{Workers: workers}
		bad := whole(p)
		bad.unread = [2]int64{5 << 19, 5<<19 + 1}
		for _, other := range [][]byte{p, late} {
			_, err := Compare(context.Background(), whole(other), bad, o)
			var e *CompareError
			require.ErrorAs(t, err, &e)
			require.ErrorIs(t, err, errBad)
			require.Equal(t, CompareError{Second: true, Off: 2 << 20, Err: errBad}, *e)
			require.EqualError(t, err, "second disk: read at guest offset 0x200000: bad sector")
			_, err = Compare(context.Background(), bad, whole(other), o)
			require.ErrorContains(t, err, "first disk: read at guest offset 0x200000")
		}
		got, err := Compare(context.Background(), bad, whole(early), o)
		require.NoError(t, err)
		require.EqualValues(t, 1<<20, got.FirstDifference)

		unknown := whole(p)
		unknown.unmap = 3 << 19
		_, err = Compare(context.Background(), unknown, whole(late), o)
		require.EqualError(t, err, "first disk: tell what is stored at guest offset 0x180000: bad sector")

		// A disk whose bytes end before its size.
		short := whole(p)
		_, err = Compare(context.Background(), &lyingDisk{short}, &lyingDisk{whole(p)}, o)
		require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	}
	_, err := Compare(context.Background(), whole(p), whole(p), CompareOptions{Workers: -1})
	require.Error(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err = Compare(ctx, whole(p), whole(p), CompareOptions{})
	require.ErrorIs(t, err, context.Canceled)
}

// A lyingDisk says that it is longer, and all data.
type lyingDisk struct{ *chunkDisk }

func (d *lyingDisk) Size() int64 { return d.chunkDisk.Size() + 1 }

func (d *lyingDisk) NextExtent(off int64) (diskimage.Extent, error) {
	return diskimage.Extent{Off: off, Len: d.Size() - off, Host: -1}, nil
}

// Holes cost nothing, however large.
func TestCompareHuge(t *testing.T) {
	a := &chunkDisk{content: []byte("data"), size: 1<<63 - 1, chunk: 65536}
	b := &chunkDisk{content: []byte("data\x00\x00"), size: 1 << 60, chunk: 512}
	var last int64
	got, err := Compare(context.Background(), a, b, CompareOptions{Progress: func(off, size int64) {
		require.Greater(t, off, last)
		require.Equal(t, int64(1<<63-1), size)
		last = off
	}})
	require.NoError(t, err)
	require.True(t, got.Identical)
	require.True(t, got.SizesDiffer)
	require.Equal(t, int64(1<<63-1), last)
}

// What qemu-img says of two images is what we say.
func TestComparePeer(t *testing.T) {
	dir := t.TempDir()
	name := func(s string) string { return filepath.Join(dir, s) }
	qemuIO := func(image string, cmds ...string) {
		args := []string{"-f", strings.TrimPrefix(filepath.Ext(image), ".")}
		for _, c := range cmds {
			args = append(args, "-c", c)
		}
		peer.Run(t, "qemu-io", append(args, name(image))...)
	}
	variant := func(from, to string, cmds ...string) {
		peer.Run(t, "cp", "--sparse=auto", name(from), name(to))
		if len(cmds) > 0 {
			qemuIO(to, cmds...)
		}
	}
	peer.Run(t, "qemu-img", "create", "-q", "-f", "raw", name("a.raw"), "10M")
	qemuIO("a.raw", "write -q -P 1 0 64k", "write -q -P 2 1M 128k", "write -q -P 3 7M 1M")
	peer.Run(t, "qemu-img", "convert", "-f", "raw", "-O", "qcow2", name("a.raw"), name("a.qcow2"))
	peer.Run(t, "qemu-img", "convert", "-c", "-f", "raw", "-O", "qcow2", name("a.raw"), name("c.qcow2"))
	variant("a.qcow2", "same.qcow2")
	variant("a.qcow2", "zero.qcow2", "write -q -z 5M 64k")
	variant("a.qcow2", "near.qcow2", "write -q -P 9 1050000 1")
	variant("a.qcow2", "far.qcow2", "write -q -P 9 9M 5")
	variant("a.raw", "near.raw", "write -q -P 9 1050000 1", "write -q -P 9 6M 1k")
	variant("a.raw", "long.raw")
	require.NoError(t, os.Truncate(name("long.raw"), 11<<20))
	variant("long.raw", "tail.raw", "write -q -P 9 11000001 1")
	images := []string{"a.raw", "a.qcow2", "c.qcow2", "same.qcow2", "zero.qcow2", "near.qcow2", "far.qcow2", "near.raw", "long.raw", "tail.raw"}
	for _, x := range []string{"a.raw", "a.qcow2", "long.raw"} {
		for _, y := range images {
			for _, strict := range []bool{false, true} {
				args := []string{"compare", "-f", filepath.Ext(x)[1:], "-F", filepath.Ext(y)[1:]}
				if strict {
					args = append(args, "-s")
				}
				want, code := peer.Try(t, "qemu-img", append(args, name(x), name(y))...)
				if strict && strings.Contains(want, "status") {
					// It also takes the last call of a walk for a status of its own, and
					// may find a difference before there is one.
					want = "Strict mode: status mismatch\n"
				}
				require.Equal(t, fmt.Sprint(code, " ", want), comparePeerText(t, name(x), name(y), strict), "%s %s strict=%v", x, y, strict)
			}
		}
	}
}

// comparePeerText compares and says so in the words of qemu-img.
func comparePeerText(t *testing.T, x, y string, strict bool) string {
	a, err := OpenFile(context.Background(), x, OpenOptions{})
	require.NoError(t, err)
	defer a.Close()
	b, err := OpenFile(context.Background(), y, OpenOptions{})
	require.NoError(t, err)
	defer b.Close()
	got, err := Compare(context.Background(), a, b, CompareOptions{Strict: strict})
	require.NoError(t, err)
	var warning string
	if got.SizesDiffer && !strict && (got.Identical || got.FirstDifference >= min(a.Size(), b.Size())) {
		warning = "Warning: Image size mismatch!\n"
	}
	switch {
	case got.Identical:
		return "0 " + warning + "Images are identical.\n"
	case strict && got.SizesDiffer:
		return "1 Strict mode: Image size mismatch!\n"
	case got.StatusDiffers >= 0:
		return "1 Strict mode: status mismatch\n"
	}
	return fmt.Sprintf("1 %sContent mismatch at offset %d!\n", warning, got.FirstDifference&^511) // it counts sectors
}

func ExampleCompare() {
	open := func(s string) diskimage.VirtualDisk {
		d, err := raw.Open(diskimage.NewSource(strings.NewReader(s), int64(len(s))), raw.Options{})
		if err != nil {
			panic(err)
		}
		return d
	}
	for _, s := range []string{"a guest disk", "a guest disk\x00\x00", "a guest dish"} {
		c, err := Compare(context.Background(), open("a guest disk"), open(s), CompareOptions{})
		if err != nil {
			panic(err)
		}
		fmt.Println(c.Identical, c.SizesDiffer, c.FirstDifference)
	}
	// Output:
	// true false -1
	// true true -1
	// false false 11
}
