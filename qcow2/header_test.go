package qcow2

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/internal/imagetest"
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

// FuzzHeader reads any first cluster. Whatever is accepted is in its range.
func FuzzHeader(f *testing.F) {
	f.Add(make([]byte, 112), int64(0))
	for _, q := range imagetest.Shapes() {
		if b := q.Build().Bytes; q.ClusterBits <= 12 {
			f.Add(b[:1<<q.ClusterBits], int64(len(b)))
		}
	}
	f.Fuzz(func(t *testing.T, b []byte, size int64) {
		size = max(size, int64(len(b)))
		h, err := readHeader(diskimage.NewSource(padded(b), size))
		if err != nil {
			require.NotEmpty(t, err.Error())
			return
		}
		require.True(t, h.l1Size == 0 || int64(h.l1Offset)+int64(h.l1Size)*8 <= size)
		require.LessOrEqual(t, h.l1Entries(h.size), uint64(h.l1Size))
		require.LessOrEqual(t, h.clusterSize(), int64(2<<20))
		require.LessOrEqual(t, h.refcountBits(), 64)
		_, _ = readSnapshots(diskimage.NewSource(padded(b), size), h)
		_, _ = readBitmaps(diskimage.NewSource(padded(b), size), h)
	})
}

// padded reads as zeros behind its end.
type padded []byte

func (b padded) ReadAt(p []byte, off int64) (int, error) {
	n := 0
	if off < int64(len(b)) {
		n = copy(p, b[off:])
	}
	clear(p[n:])
	return len(p), nil
}
