package raw_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/internal/atomicfile"
	"github.com/diskimage-go/diskimage/internal/disktest"
	"github.com/diskimage-go/diskimage/internal/hostfile"
	"github.com/diskimage-go/diskimage/raw"
	"github.com/stretchr/testify/require"
)

func allocated(t *testing.T, name string) int64 {
	t.Helper()
	info, err := os.Stat(name)
	require.NoError(t, err)
	return info.Sys().(*syscall.Stat_t).Blocks * 512
}

// TestFileIsSparse: zeros take no space, unless they are to be allocated.
func TestFileIsSparse(t *testing.T) {
	const size = 16<<20 + 100
	disk := make([]byte, size)
	for off := 0; off < size; off += 1 << 20 { // one unit of each MiB
		copy(disk[off:], pattern(raw.Unit))
	}
	copy(disk[8<<20:10<<20], pattern(2<<20)) // and a long run
	for _, allocate := range []bool{false, true} {
		name := filepath.Join(t.TempDir(), "disk")
		f, err := atomicfile.Create(name, atomicfile.Options{Unsynced: true})
		require.NoError(t, err)
		w, err := raw.NewWriter(f, raw.WriterOptions{Size: size, AllocateZeros: allocate})
		require.NoError(t, err)
		writeAll(t, w, disk, 64<<10, 2, nil)
		require.NoError(t, w.Finish(t.Context()))
		require.NoError(t, f.Sync())
		require.NoError(t, f.Commit())
		require.NoError(t, exec.Command("sync", name).Run()) // delayed allocation
		got, err := os.ReadFile(name)
		require.NoError(t, err)
		require.True(t, bytes.Equal(disk, got))
		if allocate {
			require.GreaterOrEqual(t, allocated(t, name), int64(size))
		} else {
			require.Less(t, allocated(t, name), int64(3<<20))
		}
	}
}

// TestBlockDevice writes over a used one, in place, and reads it.
func TestBlockDevice(t *testing.T) {
	name := filepath.Join(t.TempDir(), "disk")
	const size = 6 << 20
	require.NoError(t, os.WriteFile(name, bytes.Repeat([]byte("used"), size/4), 0o666))
	out, err := exec.Command("losetup", "--find", "--show", name).CombinedOutput()
	if err != nil {
		t.Skipf("no loop device to be had: %v %s", err, out)
	}
	dev := strings.TrimSpace(string(out))
	defer exec.Command("losetup", "--detach", dev).Run()

	f, err := atomicfile.Create(dev, atomicfile.Options{Force: true})
	require.NoError(t, err)
	defer f.Abort()
	_, err = raw.NewWriter(f, raw.WriterOptions{Size: size + 512})
	require.ErrorContains(t, err, "the image needs 6291968 bytes", "before anything is written")

	disk := pattern(5<<20 + 1536)
	clear(disk[1<<20 : 5<<20])
	w, err := raw.NewWriter(f, raw.WriterOptions{Size: int64(len(disk))})
	require.NoError(t, err)
	writeAll(t, w, disk, 64<<10, 1, func(off int64) bool { return off == diskimage.BatchSize })
	require.NoError(t, w.Finish(t.Context()))
	require.NoError(t, f.Commit())

	src, err := hostfile.Open(dev)
	require.NoError(t, err)
	defer src.Close()
	require.EqualValues(t, size, src.Size())
	d, err := raw.Open(src, raw.Options{Size: int64(len(disk))})
	require.NoError(t, err)
	disktest.Conform(t, d, disk)
	rest := make([]byte, 4)
	_, err = src.ReadAt(rest, int64(len(disk)))
	require.NoError(t, err)
	require.Equal(t, "used", string(rest), "what lies behind the image stays")
}

// TestSourceChanges: a disk knows of it by its file.
func TestSourceChanges(t *testing.T) {
	name := filepath.Join(t.TempDir(), "disk")
	disk := sparse(t, name, 1<<20)
	d := openFile(t, name)
	require.NoError(t, d.Changed())
	require.NoError(t, os.Truncate(name, 300_000))
	require.ErrorIs(t, d.Changed(), diskimage.ErrChanged)
	p := make([]byte, 1<<20)
	n, err := d.ReadAt(p, 0)
	require.ErrorIs(t, err, diskimage.ErrChanged)
	require.Equal(t, disk[:n], p[:n])

	d, err = raw.Open(diskimage.NewSource(bytes.NewReader(disk), 1<<20), raw.Options{})
	require.NoError(t, err)
	require.NoError(t, d.Changed(), "who cannot tell says nothing")
}
