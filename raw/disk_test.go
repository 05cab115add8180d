package raw_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/internal/disktest"
	"github.com/diskimage-go/diskimage/internal/hostfile"
	"github.com/diskimage-go/diskimage/internal/peer"
	"github.com/diskimage-go/diskimage/raw"
	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
)

// pattern returns n bytes that no two places have alike for long.
func pattern(n int) []byte {
	p := make([]byte, n)
	rnd := rand.NewChaCha8([32]byte{1})
	rnd.Read(p)
	return p
}

// sparse returns n bytes, of which every other run of 128 KiB is zeros, and
// writes them to a file with holes there.
func sparse(t testing.TB, name string, n int) []byte {
	t.Helper()
	const run = 128 << 10
	p := pattern(n)
	f, err := os.Create(name)
	require.NoError(t, err)
	defer f.Close()
	for off := 0; off < n; off += run {
		end := min(off+run, n)
		if off/run%2 == 1 {
			clear(p[off:end])
			continue
		}
		_, err = f.WriteAt(p[off:end], int64(off))
		require.NoError(t, err)
	}
	require.NoError(t, f.Truncate(int64(n)))
	return p
}

func openFile(t testing.TB, name string) *raw.Disk {
	t.Helper()
	f, err := hostfile.Open(name)
	require.NoError(t, err)
	d, err := raw.Open(f, raw.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { d.Close() })
	return d
}

var sizes = []int{0, 1, 511, 512, 513, 4095, 4096, 4097, 1<<20 - 1, 1<<20 + 1}

func TestDiskConforms(t *testing.T) {
	for _, n := range sizes {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			want := pattern(n)
			r := bytes.NewReader(want)
			d, err := raw.Open(diskimage.NewSource(r, int64(n)), raw.Options{})
			require.NoError(t, err)
			disktest.ConformHost(t, d, want, func(int, int) io.ReaderAt { return r })
			require.NoError(t, d.Close())
		})
	}
}

func TestSparseFileConforms(t *testing.T) {
	for _, n := range append(sizes, 5<<20+77) {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			name := filepath.Join(t.TempDir(), "disk")
			want := sparse(t, name, n)
			f, err := hostfile.Open(name)
			require.NoError(t, err)
			d, err := raw.Open(f, raw.Options{})
			require.NoError(t, err)
			disktest.ConformHost(t, d, want, func(int, int) io.ReaderAt { return f })
			require.NoError(t, d.Close())
			_, err = f.ReadAt(make([]byte, 1), 0)
			if n > 0 {
				require.ErrorIs(t, err, os.ErrClosed, "closing the disk closes its file")
			}
		})
	}
}

func TestPartOfASource(t *testing.T) {
	all := pattern(10_000)
	src := diskimage.NewSource(bytes.NewReader(all), 10_000)
	for _, tt := range []struct {
		o    raw.Options
		want []byte
	}{
		{raw.Options{}, all},
		{raw.Options{Offset: 777}, all[777:]},
		{raw.Options{Size: 4096}, all[:4096]},
		{raw.Options{Offset: 777, Size: 4096}, all[777 : 777+4096]},
		{raw.Options{Offset: 10_000}, nil},
	} {
		d, err := raw.Open(src, tt.o)
		require.NoError(t, err, "%+v", tt.o)
		disktest.ConformHost(t, d, tt.want, func(int, int) io.ReaderAt { return src })
	}
	for _, o := range []raw.Options{{Offset: 10_001}, {Size: 10_001}, {Offset: 1, Size: 10_000}, {Offset: 1<<63 - 1, Size: 1<<63 - 1}} {
		_, err := raw.Open(src, o)
		require.ErrorIs(t, err, diskimage.ErrTruncated, "%+v", o)
	}
	for _, o := range []raw.Options{{Offset: -1}, {Size: -1}} {
		_, err := raw.Open(src, o)
		require.ErrorContains(t, err, "negative", "%+v", o)
	}
}

// TestPartOfASparseFile: holes are cut at the part's ends.
func TestPartOfASparseFile(t *testing.T) {
	name := filepath.Join(t.TempDir(), "disk")
	all := sparse(t, name, 2<<20)
	f, err := hostfile.Open(name)
	require.NoError(t, err)
	defer f.Close()
	for _, o := range []raw.Options{{Offset: 1000, Size: 1 << 20}, {Offset: 200_000, Size: 1000}, {Offset: 140_000}} {
		d, err := raw.Open(f, o)
		require.NoError(t, err)
		want := all[o.Offset:]
		if o.Size > 0 {
			want = want[:o.Size]
		}
		disktest.ConformHost(t, d, want, func(int, int) io.ReaderAt { return f })
	}
}

// TestSourceEndsEarly: bytes that are not there are an error, not zeros.
func TestSourceEndsEarly(t *testing.T) {
	d, err := raw.Open(diskimage.NewSource(bytes.NewReader(pattern(5000)), 8192), raw.Options{})
	require.NoError(t, err)
	p := make([]byte, 4096)
	n, err := d.ReadAt(p, 4096)
	require.Equal(t, 904, n)
	require.ErrorIs(t, err, diskimage.ErrTruncated)
	require.Equal(t, "raw: data at 0x1388: the file ends here, it should hold 8192 bytes", err.Error())
	n, err = d.ReadAt(p, 6000)
	require.Zero(t, n)
	require.ErrorIs(t, err, diskimage.ErrTruncated)
	require.NotErrorIs(t, err, io.EOF)
}

// failing is a source whose bytes or map cannot be had.
type failing struct{ end int64 }

var errBroken = errors.New("the cable is out")

func (failing) ReadAt([]byte, int64) (int, error) { return 0, errBroken }
func (failing) Size() int64                       { return 4096 }
func (f failing) NextRange(int64) (int64, bool, error) {
	if f.end < 0 {
		return 0, false, errBroken
	}
	return f.end, true, nil
}

func TestErrorsOfTheSource(t *testing.T) {
	d, err := raw.Open(failing{-1}, raw.Options{})
	require.NoError(t, err)
	_, err = d.ReadAt(make([]byte, 10), 0)
	require.ErrorIs(t, err, errBroken)
	_, err = d.NextExtent(0)
	require.ErrorIs(t, err, errBroken)

	d, err = raw.Open(failing{100}, raw.Options{})
	require.NoError(t, err)
	_, err = d.NextExtent(100)
	require.ErrorIs(t, err, diskimage.ErrCorrupt, "a range that ends where it starts")
	require.NoError(t, d.Close())

	_, err = raw.Open(diskimage.NewSource(bytes.NewReader(nil), -1), raw.Options{})
	require.Error(t, err)
}

// A mapLine is one line of `qemu-img map --output=json`.
type mapLine struct {
	Start, Length, Offset int64
	Present, Zero, Data   bool
}

// TestMapIsTheReferences: our extents are those of `qemu-img map`.
func TestMapIsTheReferences(t *testing.T) {
	peer.Find(t, "qemu-img")
	for _, n := range []int{512, 4096, 1 << 20, 5<<20 + 512} {
		name := filepath.Join(t.TempDir(), "disk")
		sparse(t, name, n)
		var want, got []mapLine
		out := peer.Run(t, "qemu-img", "map", "--output=json", "-f", "raw", name)
		require.NoError(t, json.Unmarshal([]byte(out), &want))
		d := openFile(t, name)
		for e, err := range diskimage.Extents(d, 0, d.Size()) {
			require.NoError(t, err)
			got = append(got, mapLine{e.Off, e.Len, e.Host, e.Kind != diskimage.Hole, e.IsZero(), e.Kind == diskimage.Data})
		}
		require.Empty(t, cmp.Diff(want, got))
	}
}

// TestDigestIsSha256sums: the bytes are those that sha256sum sees.
func TestDigestIsSha256sums(t *testing.T) {
	path, err := exec.LookPath("sha256sum")
	if err != nil {
		t.Skipf("sha256sum is not here: %v", err)
	}
	name := filepath.Join(t.TempDir(), "disk")
	sparse(t, name, 3<<20+123)
	d := openFile(t, name)
	h := sha256.New()
	_, err = io.Copy(h, io.NewSectionReader(d, 0, d.Size()))
	require.NoError(t, err)
	out, err := exec.Command(path, name).Output()
	require.NoError(t, err)
	require.True(t, strings.HasPrefix(string(out), hex.EncodeToString(h.Sum(nil))))
}
