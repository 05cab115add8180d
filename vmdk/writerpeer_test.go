package vmdk

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage/internal/peer"
)

// Every other reader takes what we write, and finds in it what was put in:
// QEMU, libvmdk and 7-Zip, of which the last two reject the streamOptimized
// images that QEMU itself writes.
func TestWriterPeers(t *testing.T) {
	sizes := []int64{1, 512, 64<<10 - 512, 64 << 10, 64<<10 + 512, 5<<20 + 100, 32<<20 - 512, 32 << 20, 32<<20 + 512}
	if testing.Short() {
		sizes = []int64{64<<10 + 512}
	}
	for _, kind := range []Subformat{MonolithicSparse, StreamOptimized} {
		for i, size := range sizes {
			m := []mix{mixed, allHard, allSoft, allZeros}[i%4]
			t.Run(fmt.Sprintf("%v/%d", kind, size), func(t *testing.T) {
				guest := guestData(size, defaultGrainSize, m, 5)
				checkWithPeers(t, build(t, WriterOptions{Subformat: kind, FileName: "image.vmdk"}, guest), guest)
			})
		}
	}
}

// Grains of other sizes than products make, and the version with zeroed grains.
func TestWriterPeerOfGrains(t *testing.T) {
	guest := guestData(5<<20+512, 4<<10, mixed, 6)
	for _, grain := range []int64{4 << 10, 128 << 10, 2 << 20} {
		img := build(t, WriterOptions{GrainSize: grain, ZeroedGrains: grain == 4<<10}, guest)
		dir := saved(t, img, guest)
		checkWithQEMU(t, dir)
		require.Contains(t, peer.Run(t, "qemu-img", "info", filepath.Join(dir, "image.vmdk")), "(5243392 bytes)")
	}
}

// saved writes an image and the raw disk, padded to sectors, to a folder.
func saved(t *testing.T, img, guest []byte) (dir string) {
	t.Helper()
	dir = t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "image.vmdk"), img, 0o666))
	padded := append(bytes.Clone(guest), make([]byte, -len(guest)&(sectorSize-1))...)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "disk.raw"), padded, 0o666))
	return dir
}

func checkWithPeers(t *testing.T, img, guest []byte) {
	t.Helper()
	dir := saved(t, img, guest)
	checkWithQEMU(t, dir)
	image := filepath.Join(dir, "image.vmdk")
	info := peer.Run(t, "vmdkinfo", image)
	require.Contains(t, info, fmt.Sprintf("(%d bytes)", roundUp(int64(len(guest)), sectorSize)))

	out := peer.Run(t, "7z", "x", "-y", "-o"+filepath.Join(dir, "out"), image)
	require.Contains(t, out, "Everything is Ok")
	got, err := os.ReadFile(filepath.Join(dir, "out", "image.img"))
	require.NoError(t, err)
	want, err := os.ReadFile(filepath.Join(dir, "disk.raw"))
	require.NoError(t, err)
	require.True(t, bytes.Equal(want, got), "7-Zip finds another disk")
}

func checkWithQEMU(t *testing.T, dir string) {
	t.Helper()
	image := filepath.Join(dir, "image.vmdk")
	require.Contains(t, peer.Run(t, "qemu-img", "check", "-f", "vmdk", image), "No errors were found on the image.\n")
	peer.Run(t, "qemu-img", "compare", "-f", "vmdk", "-F", "raw", image, filepath.Join(dir, "disk.raw"))
}
