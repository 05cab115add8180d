package hostfile

import (
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/diskimage-go/diskimage"
	"github.com/stretchr/testify/require"
)

func write(t *testing.T, name string, data []byte) string {
	t.Helper()
	require.NoError(t, os.WriteFile(name, data, 0o666))
	return name
}

func open(t *testing.T, name string) *File {
	t.Helper()
	f, err := Open(name)
	require.NoError(t, err)
	t.Cleanup(func() { f.Close() })
	return f
}

func TestReadAt(t *testing.T) {
	f := open(t, write(t, filepath.Join(t.TempDir(), "a"), []byte("0123456789")))
	require.EqualValues(t, 10, f.Size())
	for _, tt := range []struct {
		off  int64
		n    int
		want string
		err  error
	}{
		{0, 10, "0123456789", nil},
		{3, 4, "3456", nil},
		{8, 4, "89", io.EOF},
		{10, 1, "", io.EOF},
		{99, 1, "", io.EOF},
		{10, 0, "", nil},
	} {
		p := make([]byte, tt.n)
		n, err := f.ReadAt(p, tt.off)
		require.Equal(t, tt.err, err, "%d at %d", tt.n, tt.off)
		require.Equal(t, tt.want, string(p[:n]), "%d at %d", tt.n, tt.off)
	}
	_, err := f.ReadAt(make([]byte, 1), -1)
	require.Error(t, err)
	require.NotErrorIs(t, err, io.EOF)
}

// TestSizeIsThatOfOpening: what is appended later is not seen.
func TestSizeIsThatOfOpening(t *testing.T) {
	name := write(t, filepath.Join(t.TempDir(), "a"), []byte("0123"))
	f := open(t, name)
	require.NoError(t, f.Changed())
	write(t, name, []byte("0123456789"))
	p := make([]byte, 10)
	n, err := f.ReadAt(p, 0)
	require.Equal(t, io.EOF, err)
	require.Equal(t, "0123", string(p[:n]))
	require.ErrorIs(t, f.Changed(), diskimage.ErrChanged)
}

// TestShrunkFileIsNoZeros: a file that was cut off is an error that says
// where, by reading and by asking for holes.
func TestShrunkFileIsNoZeros(t *testing.T) {
	name := write(t, filepath.Join(t.TempDir(), "a"), make([]byte, 100_000))
	f := open(t, name)
	require.NoError(t, os.Truncate(name, 70_000))
	n, err := f.ReadAt(make([]byte, 100), 69_950)
	require.Equal(t, 50, n)
	require.ErrorIs(t, err, diskimage.ErrChanged)
	var e *diskimage.Error
	require.ErrorAs(t, err, &e)
	require.EqualValues(t, 70_000, e.Off)
	require.Contains(t, err.Error(), name)

	_, err = f.ReadAt(make([]byte, 100), 80_000)
	require.ErrorIs(t, err, diskimage.ErrChanged)
	if tellsHoles {
		_, _, err = f.NextRange(80_000)
		require.ErrorIs(t, err, diskimage.ErrChanged)
	}
	require.ErrorIs(t, f.Changed(), diskimage.ErrChanged)
}

func TestChangedByTime(t *testing.T) {
	name := write(t, filepath.Join(t.TempDir(), "a"), []byte("0123"))
	f := open(t, name)
	require.NoError(t, os.Chtimes(name, time.Time{}, time.Unix(1, 0)))
	require.ErrorIs(t, f.Changed(), diskimage.ErrChanged)
}

func TestRefused(t *testing.T) {
	dir := t.TempDir()
	_, err := Open(dir)
	require.ErrorContains(t, err, "is a folder")
	var pe *fs.PathError
	require.ErrorAs(t, err, &pe)
	require.Equal(t, dir, pe.Path)

	_, err = Open(filepath.Join(dir, "none"))
	require.ErrorIs(t, err, fs.ErrNotExist)

	if runtime.GOOS == "windows" {
		return
	}
	_, err = Open("/dev/zero")
	require.ErrorContains(t, err, "is a character device")

	loop := filepath.Join(dir, "loop")
	require.NoError(t, os.Symlink(loop, loop))
	_, err = Open(loop)
	require.Error(t, err)

	sock := filepath.Join(dir, "s")
	l, err := net.Listen("unix", sock)
	if err == nil {
		defer l.Close()
		_, err = Open(sock)
		require.ErrorContains(t, err, "is a socket")
	}

	r, w, err := os.Pipe()
	require.NoError(t, err)
	defer r.Close()
	defer w.Close()
	_, err = New(r)
	require.ErrorContains(t, err, "is a FIFO")
}

// TestHoles checks the map of a sparse file against what was written, and that
// every hole reads as zeros.
func TestHoles(t *testing.T) {
	name := filepath.Join(t.TempDir(), "a")
	o, err := os.Create(name)
	require.NoError(t, err)
	defer o.Close()
	const size = 64<<20 + 777
	for _, off := range []int64{0, 1 << 20, 40 << 20} {
		_, err = o.WriteAt([]byte{1, 2, 3}, off)
		require.NoError(t, err)
	}
	require.NoError(t, o.Truncate(size))

	f := open(t, name)
	var holes int64
	for off := int64(0); off < size; {
		end, hole, err := f.NextRange(off)
		require.NoError(t, err)
		require.Greater(t, end, off)
		require.LessOrEqual(t, end, int64(size))
		if hole {
			holes += end - off
			for _, w := range []int64{0, 1 << 20, 40 << 20} {
				require.False(t, off <= w && w < end, "data at %d lies in the hole [%d, %d)", w, off, end)
			}
			mid, hole, err := f.NextRange(off + (end-off)/2)
			require.NoError(t, err)
			require.True(t, hole)
			require.Equal(t, end, mid)
		}
		off = end
	}
	if runtime.GOOS == "linux" && !f.noHoles.Load() {
		require.Greater(t, holes, int64(60<<20))
	}
	for _, off := range []int64{-1, size, size + 1} {
		_, _, err = f.NextRange(off)
		require.Error(t, err)
	}
}

// TestHolesWhileReading: seeking disturbs neither reading nor other seeking.
func TestHolesWhileReading(t *testing.T) {
	name := filepath.Join(t.TempDir(), "a")
	o, err := os.Create(name)
	require.NoError(t, err)
	defer o.Close()
	const step, steps = 128 << 10, 64 // data in every other step, its number in each byte
	for i := 0; i < steps; i += 2 {
		b := make([]byte, step)
		for j := range b {
			b[j] = byte(i + 1)
		}
		_, err = o.WriteAt(b, int64(i)*step)
		require.NoError(t, err)
	}
	require.NoError(t, o.Truncate(step*steps))
	f := open(t, name)
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(1, uint64(g)))
			p := make([]byte, 512)
			for range 300 {
				i := rnd.Int64N(steps)
				off := i*step + rnd.Int64N(step-512)
				end, hole, err := f.NextRange(off)
				if err != nil || end <= off || hole && (i%2 == 0 || end != (i+1)*step) {
					t.Errorf("NextRange(%d) = %d, %t, %v", off, end, hole, err)
				}
				want := byte(0)
				if i%2 == 0 {
					want = byte(i + 1)
				}
				if _, err := f.ReadAt(p, off); err != nil || p[0] != want || p[511] != want {
					t.Errorf("ReadAt(%d) = %d..%d, %v; want %d", off, p[0], p[511], err, want)
				}
			}
		})
	}
	wg.Wait()
}

func TestSame(t *testing.T) {
	dir := t.TempDir()
	a := write(t, filepath.Join(dir, "a"), []byte("x"))
	b := write(t, filepath.Join(dir, "b"), []byte("x"))
	f := open(t, a)
	for _, tt := range []struct {
		name string
		make func(name string) error
		want bool
	}{
		{"a", nil, true},
		{"b", nil, false},
		{"none", nil, false},
		{"hard", func(n string) error { return os.Link(a, n) }, true},
		{"soft", func(n string) error { return os.Symlink(a, n) }, true},
		{"other", func(n string) error { return os.Symlink(b, n) }, false},
		{"dangling", func(n string) error { return os.Symlink("none", n) }, false},
	} {
		name := filepath.Join(dir, tt.name)
		if tt.make != nil {
			if err := tt.make(name); err != nil {
				t.Logf("%s: %v", tt.name, err) // links need a right on Windows
				continue
			}
		}
		same, err := f.Same(name)
		require.NoError(t, err, tt.name)
		require.Equal(t, tt.want, same, tt.name)
	}
}

func TestCloseThenRead(t *testing.T) {
	f := open(t, write(t, filepath.Join(t.TempDir(), "a"), []byte("0123")))
	require.NoError(t, f.Close())
	_, err := f.ReadAt(make([]byte, 1), 0)
	require.True(t, errors.Is(err, os.ErrClosed), "%v", err)
}
