package qcow2

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/internal/peer"
)

func source(b []byte) diskimage.Source {
	return diskimage.NewSource(bytes.NewReader(b), int64(len(b)))
}

// TestHeaderOfPeer reads headers that qemu-img wrote.
func TestHeaderOfPeer(t *testing.T) {
	name := filepath.Join(t.TempDir(), "a.qcow2")
	peer.Run(t, "qemu-img", "create", "-q", "-f", "qcow2", "-b", "base.raw", "-F", "raw", "-u",
		"-o", "cluster_size=32k,extended_l2=on,compression_type=zstd,refcount_bits=1,lazy_refcounts=on", name, "1000k")
	b, err := os.ReadFile(name)
	require.NoError(t, err)
	h, err := readHeader(source(b))
	require.NoError(t, err)
	require.EqualValues(t, 3, h.version)
	require.EqualValues(t, 1000<<10, h.size)
	require.EqualValues(t, 32<<10, h.clusterSize())
	require.EqualValues(t, 11, h.l2Bits())
	require.EqualValues(t, 16, h.entrySize())
	require.Equal(t, 1, h.refcountBits())
	require.Equal(t, diskimage.Zstd, h.encoding())
	require.EqualValues(t, compatLazyRefcounts, h.compatible)
	require.Equal(t, "base.raw", h.backingName)
	require.Equal(t, "raw", h.backingFormat)
	require.Equal(t, "dirty bit", h.featureName(featureIncompatible, 0))
	require.Empty(t, h.notes)

	// The unknown bit is named by the table, and before any other fault.
	binary.BigEndian.PutUint64(b[offIncompatible:], 1<<62)
	_, err = readHeader(source(b))
	require.ErrorIs(t, err, diskimage.ErrUnsupported)
	require.ErrorContains(t, err, "bit 62")
}
