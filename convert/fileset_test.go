package convert

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

	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/internal/atomicfile"
	"github.com/diskimage-go/diskimage/internal/peer"
	"github.com/diskimage-go/diskimage/vmdk"
)

var setKinds = []vmdk.Subformat{vmdk.MonolithicFlat, vmdk.TwoGbMaxExtentFlat, vmdk.TwoGbMaxExtentSparse}

func toVMDK(kind vmdk.Subformat) Options {
	return Options{Format: VMDK, VMDK: vmdk.WriterOptions{Subformat: kind}}
}

// names returns the names in a folder, and the text of each file that is no
// image.
func names(t *testing.T, dir string) map[string]string {
	t.Helper()
	list, err := os.ReadDir(dir)
	require.NoError(t, err)
	got := map[string]string{}
	for _, e := range list {
		got[e.Name()] = ""
		if info, err := e.Info(); err == nil && info.Size() < 20 {
			text, err := os.ReadFile(filepath.Join(dir, e.Name()))
			require.NoError(t, err)
			got[e.Name()] = string(text)
		}
	}
	return got
}

func filesCalled(list ...string) map[string]string {
	got := map[string]string{}
	for _, name := range list {
		got[name] = ""
	}
	return got
}

// A disk with data at both sides of where extents meet becomes a set of which
// QEMU reads the same disk; overwriting it must be forced, and what is left of a
// larger one is told.
func TestSetToFile(t *testing.T) {
	if testing.Short() {
		t.Skip("disks of 4 GiB")
	}
	const gib2 = 2 << 30
	size := int64(2*gib2 + 1<<20)
	d := &spotDisk{size: size, spots: []int64{0, gib2 - 4096, gib2, 2*gib2 + 1<<20 - 512}}
	files := map[vmdk.Subformat]map[string]string{
		vmdk.MonolithicFlat:       filesCalled("x.vmdk", "x-flat.vmdk"),
		vmdk.TwoGbMaxExtentFlat:   filesCalled("x.vmdk", "x-f001.vmdk", "x-f002.vmdk", "x-f003.vmdk"),
		vmdk.TwoGbMaxExtentSparse: filesCalled("x.vmdk", "x-s001.vmdk", "x-s002.vmdk", "x-s003.vmdk"),
	}
	for _, kind := range setKinds {
		t.Run(kind.String(), func(t *testing.T) {
			dir := t.TempDir()
			name, o := filepath.Join(dir, "x.vmdk"), toVMDK(kind)
			o.Verify = true
			rep, err := ToFile(t.Context(), name, d, o)
			require.NoError(t, err)
			require.True(t, rep.Verified)
			require.Equal(t, size, rep.Size)
			require.Equal(t, files[kind], names(t, dir))
			raw := filepath.Join(t.TempDir(), "raw")
			_, err = ToFile(t.Context(), raw, d, Options{})
			require.NoError(t, err)
			peer.Run(t, "qemu-img", "compare", "-f", "vmdk", "-F", "raw", name, raw)

			_, err = ToFile(t.Context(), name, d, o)
			require.ErrorIs(t, err, atomicfile.ErrExists)
			small := &spotDisk{size: gib2, spots: []int64{4096}}
			o.Force = true
			rep, err = ToFile(t.Context(), name, small, o)
			require.NoError(t, err)
			require.Equal(t, files[kind], names(t, dir))
			if kind == vmdk.MonolithicFlat {
				require.Empty(t, rep.Notes)
			} else {
				require.Len(t, rep.Notes, 1)
				require.Regexp(t, `are left, 2 of them: x-.002.vmdk to x-.003.vmdk`, rep.Notes[0].Text)
			}
			require.Contains(t, peer.Run(t, "qemu-img", "info", name), "virtual size: 2 GiB")
		})
	}
}

// A spotDisk is a disk of holes with 512 bytes of data here and there.
type spotDisk struct {
	size  int64
	spots []int64
}

func (d *spotDisk) Size() int64  { return d.size }
func (d *spotDisk) Close() error { return nil }

func (d *spotDisk) ReadAt(p []byte, off int64) (int, error) {
	n := int(min(int64(len(p)), d.size-off))
	clear(p[:n])
	for _, at := range d.spots {
		for i := max(at, off); i < min(at+512, off+int64(n)); i++ {
			p[i-off] = byte(i) | 1
		}
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (d *spotDisk) NextExtent(off int64) (diskimage.Extent, error) {
	if off == d.size {
		return diskimage.Extent{}, io.EOF
	}
	end := d.size
	for _, at := range d.spots {
		switch {
		case at <= off && off < at+512:
			return diskimage.Extent{Off: off, Len: at + 512 - off, Host: -1}, nil
		case at > off:
			end = min(end, at)
		}
	}
	return diskimage.Extent{Off: off, Len: end - off, Kind: diskimage.Hole, Host: -1}, nil
}

// What fails leaves nothing behind, and what stood there as it was.
func TestSetFailures(t *testing.T) {
	bad := patchworkDisk(5, 8<<20)
	bad.badFrom, bad.badTo = 3<<20, 3<<20+1
	bad.extents = []diskimage.Extent{{Len: bad.Size(), Host: -1}}
	for _, kind := range setKinds {
		for _, workers := range []int{1, 4} {
			o := toVMDK(kind)
			o.Workers = workers
			dir := t.TempDir()
			name := filepath.Join(dir, "x.vmdk")
			_, err := ToFile(t.Context(), name, bad, o)
			require.ErrorIs(t, err, errBadSector)
			require.Empty(t, names(t, dir))

			ctx, cancel := context.WithCancelCause(t.Context())
			why := errors.New("enough")
			d := patchworkDisk(5, 8<<20)
			d.onRead = func(off int64) {
				if off > 4<<20 {
					cancel(why)
				}
			}
			_, err = ToFile(ctx, name, d, o)
			require.ErrorIs(t, err, why)
			require.Empty(t, names(t, dir))

			require.NoError(t, os.WriteFile(name, []byte("the old one"), 0o640))
			extents, err := vmdk.ExtentNames(vmdk.WriterOptions{Size: bad.Size(), Subformat: kind, FileName: "x.vmdk"})
			require.NoError(t, err)
			for _, extent := range extents {
				require.NoError(t, os.WriteFile(filepath.Join(dir, extent), []byte("its extent"), 0o640))
			}
			before := names(t, dir)
			o.Force = true
			_, err = ToFile(t.Context(), name, bad, o)
			require.ErrorIs(t, err, errBadSector)
			require.Equal(t, before, names(t, dir))
		}
	}
}

// memFiles is a Creator of outputs in memory, of which one may fail.
type memFiles struct {
	mu    sync.Mutex
	files map[string]*memOutput
	fail  int
}

func (m *memFiles) Create(name string) (diskimage.Output, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.files == nil {
		m.files = map[string]*memOutput{}
	}
	m.files[name] = &memOutput{fail: m.fail}
	return m.files[name], nil
}

// A caller's own Creator gets what the files get, by any number of workers.
func TestSetToOutput(t *testing.T) {
	d := patchworkDisk(7, 5<<20+1000)
	for _, kind := range setKinds {
		o := toVMDK(kind)
		dir := t.TempDir()
		_, err := ToFile(t.Context(), filepath.Join(dir, "disk.vmdk"), d, o)
		require.NoError(t, err)
		for _, workers := range []int{1, 2, 8} {
			files := &memFiles{}
			var out memOutput
			o.Workers, o.VMDK.Creator, o.Digest, o.Verify = workers, files, true, true
			rep, err := ToOutput(t.Context(), &out, d, o)
			require.NoError(t, err)
			require.True(t, rep.Verified)
			files.files["disk.vmdk"] = &out
			var written int64
			for name, f := range files.files {
				want, err := os.ReadFile(filepath.Join(dir, name))
				require.NoError(t, err)
				require.True(t, bytes.Equal(want, f.data), "%v, %d workers: %s", kind, workers, name)
				require.False(t, f.twice())
				for _, r := range f.log {
					written += r.Len
				}
			}
			require.Len(t, names(t, dir), len(files.files))
			require.Equal(t, written, rep.Written)
		}
		for fail := 1; ; fail++ {
			o.VMDK.Creator = &memFiles{fail: fail}
			var out memOutput
			if _, err := ToOutput(t.Context(), &out, d, o); err == nil {
				require.Greater(t, fail, 2)
				break
			}
			require.Zero(t, out.writes, "there is a descriptor")
		}
	}
}

func TestSetRefusals(t *testing.T) {
	d := patchworkDisk(7, 1<<20)
	dir := t.TempDir()
	for _, kind := range setKinds {
		o := toVMDK(kind)
		_, err := ToWriter(t.Context(), io.Discard, d, o)
		require.ErrorContains(t, err, fmt.Sprintf("a %v image consists of several files", kind))
		require.ErrorContains(t, err, "streamOptimized")
		_, err = ToOutput(t.Context(), &memOutput{}, d, o)
		require.ErrorContains(t, err, "creator")
		o.VMDK.Creator = &memFiles{}
		_, err = ToFile(t.Context(), filepath.Join(dir, "x.vmdk"), d, o)
		require.ErrorContains(t, err, "Creator")
		o.Verify, o.VMDK.Creator = true, writeOnly{}
		_, err = ToOutput(t.Context(), &memOutput{}, d, o)
		require.ErrorContains(t, err, "cannot be read back")
	}
	require.Empty(t, names(t, dir))
	if os.Symlink("y.vmdk", filepath.Join(dir, "x.vmdk")) == nil {
		o := toVMDK(vmdk.MonolithicFlat)
		o.Force = true
		_, err := ToFile(t.Context(), filepath.Join(dir, "x.vmdk"), d, o)
		require.ErrorContains(t, err, "symbolic link")
	}
}

// writeOnly is a Creator of outputs that cannot be read.
type writeOnly struct{ diskimage.Output }

func (u writeOnly) Create(string) (diskimage.Output, error) { return u, nil }
