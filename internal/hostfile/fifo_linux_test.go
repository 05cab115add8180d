package hostfile

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestFIFOIsRefusedAtOnce: nobody writes to it, so opening it as a file would
// wait for ever.
func TestFIFOIsRefusedAtOnce(t *testing.T) {
	name := filepath.Join(t.TempDir(), "fifo")
	require.NoError(t, syscall.Mkfifo(name, 0o666))
	done := make(chan error, 1)
	go func() { _, err := Open(name); done <- err }()
	select {
	case err := <-done:
		require.ErrorContains(t, err, "is a FIFO")
	case <-time.After(10 * time.Second):
		t.Fatal("opening a FIFO waits")
	}
	// And were it put in a file's place after the look at it:
	f, err := os.OpenFile(name, os.O_RDONLY|openFlags, 0)
	require.NoError(t, err)
	defer f.Close()
	_, err = New(f)
	require.ErrorContains(t, err, "is a FIFO")
}

// loopDevice attaches a file to a loop device, or skips.
func loopDevice(t *testing.T, name string) string {
	t.Helper()
	out, err := exec.Command("losetup", "--find", "--show", name).CombinedOutput()
	if err != nil {
		t.Skipf("no loop device to be had: %v %s", err, out)
	}
	dev := strings.TrimSpace(string(out))
	t.Cleanup(func() { exec.Command("losetup", "--detach", dev).Run() })
	return dev
}

func TestBlockDevice(t *testing.T) {
	name := filepath.Join(t.TempDir(), "disk")
	data := make([]byte, 1<<20)
	copy(data[512:], "hello")
	write(t, name, data)
	dev := loopDevice(t, name)
	f := open(t, dev)
	require.EqualValues(t, 1<<20, f.Size())
	p := make([]byte, 5)
	_, err := f.ReadAt(p, 512)
	require.NoError(t, err)
	require.Equal(t, "hello", string(p))
	end, hole, err := f.NextRange(4096)
	require.NoError(t, err)
	require.False(t, hole)
	require.EqualValues(t, 1<<20, end)
	require.NoError(t, f.Changed())

	// Another node of the same device is the same disk.
	info, err := os.Stat(dev)
	require.NoError(t, err)
	node := filepath.Join(t.TempDir(), "node")
	if err := syscall.Mknod(node, syscall.S_IFBLK|0o600, int(info.Sys().(*syscall.Stat_t).Rdev)); err != nil {
		t.Skipf("no device node can be made: %v", err)
	}
	same, err := f.Same(node)
	require.NoError(t, err)
	require.True(t, same)
	same, err = f.Same("/dev/null")
	require.NoError(t, err)
	require.False(t, same)
}
