package convert

import (
	"context"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/diskimage-go/diskimage"
	"github.com/stretchr/testify/require"
)

// A canary tells whether its file was opened.
type canary struct{ fd int }

func newCanary(t *testing.T, name string) canary {
	t.Helper()
	fd, err := syscall.InotifyInit1(syscall.IN_NONBLOCK | syscall.IN_CLOEXEC)
	require.NoError(t, err)
	t.Cleanup(func() { syscall.Close(fd) })
	_, err = syscall.InotifyAddWatch(fd, name, syscall.IN_OPEN)
	require.NoError(t, err)
	return canary{fd}
}

func (c canary) sang(t *testing.T) bool {
	t.Helper()
	var p [4096]byte
	n, err := syscall.Read(c.fd, p[:])
	if err == syscall.EAGAIN {
		return false
	}
	require.NoError(t, err)
	return n > 0
}

// A reference that is refused is not opened and then found wanting: it is not
// opened.
func TestCanariesAreNotOpened(t *testing.T) {
	ctx, dir := context.Background(), t.TempDir()
	name := put(t, layer{fill: 'c'}.bytes(), dir, "canary")
	inside := filepath.Join(dir, "inside")
	c := newCanary(t, name)

	put(t, layer{backing: "../canary", format: "qcow2"}.bytes(), inside, "middle")
	for _, l := range []layer{
		{backing: name, format: "raw"}, {backing: "../canary", format: "qcow2"}, {backing: "../canary"}, {dataFile: name},
		{backing: "middle", format: "qcow2"}, {backing: "middle"},
	} {
		top := put(t, l.bytes(), inside, "top")
		opener := dirOpener(t, inside)
		for _, o := range []OpenOptions{{}, {SkipExternal: true}, {SkipExternal: true, Opener: opener}, {Opener: opener}} {
			d, err := OpenFile(ctx, top, o)
			if o.SkipExternal {
				require.NoError(t, err)
				require.NoError(t, d.Close())
			} else {
				require.ErrorIs(t, err, diskimage.ErrExternal)
			}
			require.False(t, c.sang(t), "%+v", l)
		}
	}

	// The canary can sing.
	d, err := OpenFile(ctx, filepath.Join(inside, "middle"), OpenOptions{Opener: AnyOpener()})
	require.NoError(t, err)
	require.NoError(t, d.Close())
	require.True(t, c.sang(t))
}

// FIFOs, folders and devices inside the folder are not opened, and nobody
// waits for them.
func TestOpenerOpensFilesOnly(t *testing.T) {
	ctx, dir := context.Background(), t.TempDir()
	require.NoError(t, syscall.Mkfifo(filepath.Join(dir, "fifo"), 0o666))
	put(t, nil, dir, "folder", "x")
	names := map[string]string{"fifo": "is a FIFO", "folder": "is a folder"}
	if syscall.Mknod(filepath.Join(dir, "null"), syscall.S_IFCHR|0o666, 1<<8|3) == nil {
		names["null"] = "is a character device"
	}
	if syscall.Mknod(filepath.Join(dir, "loop"), syscall.S_IFBLK|0o666, 7<<8|250) == nil {
		names["loop"] = "is a block device"
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		opener := dirOpener(t, dir)
		for name, want := range names {
			for _, l := range []layer{{backing: name, format: "raw"}, {backing: name}, {dataFile: name}} {
				_, err := OpenFile(ctx, put(t, l.bytes(), dir, "top"), OpenOptions{Opener: opener})
				if err == nil {
					t.Errorf("%+v was opened", l)
				} else if !strings.Contains(err.Error(), want) {
					t.Errorf("%+v: %v", l, err)
				}
			}
			_, err := OpenFile(ctx, filepath.Join(dir, name), OpenOptions{})
			if name != "loop" && (err == nil || !strings.Contains(err.Error(), want)) {
				t.Errorf("%s itself: %v", name, err)
			}
		}
	}()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Fatal("somebody waits")
	}
}
