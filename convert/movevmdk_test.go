package convert

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/internal/peer"
	"github.com/diskimage-go/diskimage/vmdk"
)

var exported = Options{Format: VMDK, VMDK: vmdk.WriterOptions{Subformat: vmdk.StreamOptimized}}

// storedAt returns the compressed unit at a guest offset as it is stored, less
// what is padding in QCOW2 and the checksum in VMDK.
func storedAt(t *testing.T, file string, off int64) []byte {
	t.Helper()
	d, err := OpenFile(context.Background(), file, OpenOptions{})
	require.NoError(t, err)
	defer d.Close()
	e, err := d.NextExtent(off)
	require.NoError(t, err)
	require.Equal(t, diskimage.Deflate, e.Stored)
	stored, err := d.(diskimage.StoredReader).ReadStored(e, nil)
	require.NoError(t, err)
	res, err := newWorker().dec.Decode(make([]byte, e.Len), stored.Stream, e.Stored)
	require.NoError(t, err)
	return stored.Stream[:res.Used]
}

// convertFile converts a file, and has the report and the result checked.
func convertFile(t *testing.T, from, to string, o Options) *Report {
	t.Helper()
	format, err := ParseFormat(filepath.Ext(from)[1:])
	require.NoError(t, err)
	d, err := OpenFile(context.Background(), from, OpenOptions{Format: format})
	require.NoError(t, err)
	defer d.Close()
	o.Verify = !o.TrustStored
	rep, err := ToFile(context.Background(), to, d, o)
	require.NoError(t, err)
	peer.Run(t, "qemu-img", "check", "-q", to)
	peer.Run(t, "qemu-img", "compare", "-q", from, to)
	return rep
}

// Clusters that the reference compressed become grains as they are.
func TestClustersBecomeGrains(t *testing.T) {
	dir := t.TempDir()
	disk := put(t, mixedContent(40), dir, "disk.raw")
	zlib, stream := filepath.Join(dir, "zlib.qcow2"), filepath.Join(dir, "stream.vmdk")
	peer.Run(t, "qemu-img", "convert", "-c", "-f", "raw", "-O", "qcow2", disk, zlib)
	rep := convertFile(t, zlib, stream, exported)
	require.Equal(t, int64(20*grain), rep.Moved, "text and noise that comes twice")
	require.Equal(t, storedAt(t, zlib, 4*grain), storedAt(t, stream, 4*grain))

	// With other clusters there is nothing to move.
	small := filepath.Join(dir, "small.qcow2")
	peer.Run(t, "qemu-img", "convert", "-c", "-f", "raw", "-O", "qcow2", "-o", "cluster_size=4k", disk, small)
	rep = convertFile(t, small, filepath.Join(dir, "other.vmdk"), exported)
	require.Zero(t, rep.Moved)
}

// From VMDK to QCOW2 and back nothing is compressed a second time, whoever
// made the image, and the image is the first one again if it was ours.
func TestGrainsThereAndBack(t *testing.T) {
	dir := t.TempDir()
	disk := put(t, mixedContent(40), dir, "disk.raw")
	ours, theirs := filepath.Join(dir, "ours.vmdk"), filepath.Join(dir, "theirs.vmdk")
	convertFile(t, disk, ours, exported)
	peer.Run(t, "qemu-img", "convert", "-f", "raw", "-O", "vmdk", "-o", "subformat=streamOptimized", disk, theirs)
	for _, first := range []string{ours, theirs} {
		for _, trust := range []bool{false, true} {
			o := moving
			o.TrustStored = trust
			between, back := filepath.Join(dir, "between.qcow2"), filepath.Join(dir, "back.vmdk")
			there := convertFile(t, first, between, o)
			require.Equal(t, trust, there.Unverified > 0)
			o = exported
			o.VMDK.FileName = filepath.Base(ours)
			again := convertFile(t, between, back, o)
			require.GreaterOrEqual(t, there.Moved, int64(20*grain))
			require.Equal(t, int64(20*grain), again.Moved)
			require.Equal(t, storedAt(t, first, grain), storedAt(t, back, grain))
			if first == ours {
				require.Equal(t, readFile(t, ours), readFile(t, back))
			}
		}
	}
}

func readFile(t *testing.T, name string) []byte {
	t.Helper()
	p, err := os.ReadFile(name)
	require.NoError(t, err)
	return p
}
