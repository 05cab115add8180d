package convert

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage"
)

// A full disk leaves what stood there, and nothing else.
func TestSetOnFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=3m"); err != nil {
		t.Skipf("no file system to fill: %v", err)
	}
	defer syscall.Unmount(dir, 0)
	d := patchworkDisk(5, 8<<20)
	for i := range d.content {
		d.content[i] |= 1
	}
	d.extents = []diskimage.Extent{{Len: d.Size(), Host: -1}}
	for i, kind := range setKinds {
		name := filepath.Join(dir, fmt.Sprintf("%d.vmdk", i))
		_, err := ToFile(t.Context(), name, d, toVMDK(kind))
		require.ErrorIs(t, err, syscall.ENOSPC)
		require.Empty(t, names(t, dir))

		require.NoError(t, os.WriteFile(name, []byte("the old one"), 0o640))
		o := toVMDK(kind)
		o.Force = true
		_, err = ToFile(t.Context(), name, d, o)
		require.ErrorIs(t, err, syscall.ENOSPC)
		require.Equal(t, map[string]string{filepath.Base(name): "the old one"}, names(t, dir))
		require.NoError(t, os.Remove(name))
	}
}
