package qcow2

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage/internal/peer"
)

// TestListsOfPeer reads a snapshot table and a bitmap directory that qemu-img
// wrote.
func TestListsOfPeer(t *testing.T) {
	name := filepath.Join(t.TempDir(), "a.qcow2")
	peer.Run(t, "qemu-img", "create", "-q", "-f", "qcow2", name, "1M")
	peer.Run(t, "qemu-img", "snapshot", "-c", "first", name)
	peer.Run(t, "qemu-img", "snapshot", "-c", "second", name)
	peer.Run(t, "qemu-img", "bitmap", "--add", "-g", "32k", name, "b0")
	peer.Run(t, "qemu-img", "bitmap", "--add", "--disable", name, "b1")
	b, err := os.ReadFile(name)
	require.NoError(t, err)
	src := source(b)
	h, err := readHeader(src)
	require.NoError(t, err)

	snapshots, err := readSnapshots(src, h)
	require.NoError(t, err)
	require.Len(t, snapshots, 2)
	require.Equal(t, "first", snapshots[0].Name)
	require.Equal(t, "2", snapshots[1].ID)
	require.EqualValues(t, 1<<20, snapshots[1].DiskSize)
	require.NoError(t, snapshots[1].validate(h, src.Size()))

	bitmaps, err := readBitmaps(src, h)
	require.NoError(t, err)
	require.Len(t, bitmaps, 2)
	require.Equal(t, "b0", bitmaps[0].Name)
	require.EqualValues(t, 32<<10, bitmaps[0].Granularity)
	require.True(t, bitmaps[0].Auto)
	require.False(t, bitmaps[1].Auto)
	require.False(t, bitmaps[1].InUse)
}
