package atomicfile

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestUnnamedFileIsRefused: a removed file, by its name in /proc.
func TestUnnamedFileIsRefused(t *testing.T) {
	name := filepath.Join(t.TempDir(), "a")
	f, err := os.Create(name)
	require.NoError(t, err)
	defer f.Close()
	proc := fmt.Sprintf("/proc/self/fd/%d", f.Fd())

	g := create(t, proc, Options{}) // still there: a link like any other
	require.True(t, g.Resolved())
	require.Equal(t, name, g.Target())
	require.NoError(t, g.Abort())

	require.NoError(t, os.Remove(name))
	_, err = Create(proc, Options{})
	require.Error(t, err)
}

// TestFullDisk: errors of writing are told, and the old file stays.
func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Skipf("no file system to fill: %v", err)
	}
	defer syscall.Unmount(dir, 0)
	name := filepath.Join(dir, "a")
	require.NoError(t, os.WriteFile(name, []byte("old"), 0o666))
	f := create(t, name, Options{})
	_, err := f.WriteAt(make([]byte, 2<<20), 0)
	require.ErrorIs(t, err, syscall.ENOSPC)
	require.NoError(t, f.Abort())
	require.Equal(t, "old", content(t, name))
	require.Equal(t, []string{"a"}, entries(t, dir))
}

func TestBlockDevice(t *testing.T) {
	name := filepath.Join(t.TempDir(), "disk")
	require.NoError(t, os.WriteFile(name, []byte(strings.Repeat("o", 1<<20)), 0o666))
	out, err := exec.Command("losetup", "--find", "--show", name).CombinedOutput()
	if err != nil {
		t.Skipf("no loop device to be had: %v %s", err, out)
	}
	dev := strings.TrimSpace(string(out))
	defer exec.Command("losetup", "--detach", dev).Run()

	_, err = Create(dev, Options{})
	require.ErrorIs(t, err, ErrDevice)
	var pe *fs.PathError
	require.ErrorAs(t, err, &pe)
	require.Equal(t, dev, pe.Path)

	// What is in use is not overwritten even then.
	held, err := os.OpenFile(dev, os.O_RDONLY|syscall.O_EXCL, 0)
	require.NoError(t, err)
	_, err = Create(dev, Options{Force: true})
	require.ErrorIs(t, err, syscall.EBUSY)
	require.NoError(t, held.Close())

	f := create(t, dev, Options{Force: true})
	require.True(t, f.InPlace())
	require.False(t, f.ZeroFilled())
	require.Equal(t, dev, f.Name())
	put(t, f, "new")
	require.NoError(t, f.Truncate(1<<20))
	require.ErrorContains(t, f.Truncate(1<<20+1), "the image needs 1048577 bytes, the block device has 1048576")
	_, err = f.WriteAt([]byte("xy"), 1<<20-1)
	require.ErrorContains(t, err, "the block device has")
	require.NoError(t, f.Commit())
	require.Equal(t, "newo", content(t, dev)[:4])
	require.Len(t, content(t, dev), 1<<20)
	require.NoError(t, f.Abort())
	list := entries(t, filepath.Dir(dev))
	for _, n := range list {
		require.NotContains(t, n, tempMark)
	}
}
