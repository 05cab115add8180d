package vmdk

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"hash/adler32"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/internal/codec"
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
			m := []mix{mixed, allHard, allSoft, allZeros, mixed, mixed, {9, 0}, allZeros, {8, 1}}[i]
			t.Run(fmt.Sprintf("%v/%d", kind, size), func(t *testing.T) {
				t.Parallel()
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

// Grains that are moved are in the image as they came, and read by all; the
// last begins in the disk and ends behind it.
func TestWriterPeerOfMovedGrains(t *testing.T) {
	const size, unit = 3*defaultGrainSize + sectorSize, defaultGrainSize
	guest := guestData(size, unit, allSoft, 7)
	enc, err := codec.NewEncoder(codec.EncoderOptions{Encoding: diskimage.Deflate, Window: 4096, Level: 9})
	require.NoError(t, err)
	o := WriterOptions{Subformat: StreamOptimized, Size: size, FileName: "image.vmdk"}
	r := record(t, o)
	w, err := NewWriter(r, o)
	require.NoError(t, err)
	b := w.NewBatch()
	b.Reset(0, size)
	copy(b.Buf, guest)
	var streams [][]byte
	for off := int64(0); off < size; off += unit {
		blk := diskimage.Block{Off: off, Len: unit, Data: b.Buf[off:][:unit]}
		if off != unit { // which is encoded anew
			blk.Adler32 = adler32.Checksum(blk.Data)
			blk.Enc, blk.Data = diskimage.Deflate, enc.Encode(nil, blk.Data)
			streams = append(streams, blk.Data)
		}
		b.Blocks = append(b.Blocks, blk)
	}
	step(t, w, b)
	require.NoError(t, w.Finish(context.Background()))
	img := r.whole(t)
	for _, s := range streams {
		require.Equal(t, 1, bytes.Count(img, s))
	}
	checkWithPeers(t, img, guest)
}

// A child shows its parent, through QEMU, wherever it says nothing.
func TestWriterPeerOfParent(t *testing.T) {
	const size = 5 << 20
	below := guestData(size, defaultGrainSize, allSoft, 8)
	parent := build(t, WriterOptions{CID: 0x1234567}, below)
	for _, zeroed := range []bool{false, true} {
		o := WriterOptions{Size: size, ParentHint: "parent.vmdk", ParentCID: 0x1234567, ZeroedGrains: zeroed}
		r := record(t, o)
		w, err := NewWriter(r, o)
		require.NoError(t, err)
		b := w.NewBatch()
		b.Reset(2<<20, diskimage.BatchSize)
		copy(b.Buf, "of the child")
		b.Blocks = append(b.Blocks,
			diskimage.Block{Off: b.Off, Len: w.Unit(), Data: b.Buf[:w.Unit()]},
			diskimage.Block{Off: b.Off + 4*w.Unit(), Len: 3 * w.Unit(), Kind: diskimage.Zero})
		step(t, w, b)
		require.NoError(t, w.Finish(context.Background()))

		guest := bytes.Clone(below)
		copy(guest[b.Off:], b.Buf[:w.Unit()])
		clear(guest[b.Off+4*w.Unit():][:3*w.Unit()])
		dir := saved(t, r.whole(t), guest)
		require.NoError(t, os.WriteFile(filepath.Join(dir, "parent.vmdk"), parent, 0o666))
		checkWithQEMU(t, dir)
	}
}

// A disk of 3 GiB with next to nothing on it takes next to nothing.
func TestWriterPeerOfSparseDisk(t *testing.T) {
	const size = 3 << 30
	for kind, most := range map[Subformat]int{MonolithicSparse: 1 << 20, StreamOptimized: 100 << 10} {
		o := WriterOptions{Size: size, Subformat: kind}
		r := record(t, o)
		w, err := NewWriter(r, o)
		require.NoError(t, err)
		dir := saved(t, nil, nil)
		raw, err := os.OpenFile(filepath.Join(dir, "disk.raw"), os.O_WRONLY, 0)
		require.NoError(t, err)
		defer raw.Close()
		require.NoError(t, raw.Truncate(size))
		for _, off := range []int64{0, 2 << 30, size - diskimage.BatchSize} {
			b := w.NewBatch()
			b.Reset(off, diskimage.BatchSize)
			at := diskimage.BatchSize - w.Unit()
			b.Buf[len(b.Buf)-1] = 1
			b.Blocks = append(b.Blocks, diskimage.Block{Off: off + at, Len: w.Unit(), Data: b.Buf[at:]})
			step(t, w, b)
			_, err := raw.WriteAt([]byte{1}, off+diskimage.BatchSize-1)
			require.NoError(t, err)
		}
		require.NoError(t, w.Finish(context.Background()))
		img := r.whole(t)
		require.Less(t, len(img), most)
		require.NoError(t, os.WriteFile(filepath.Join(dir, "image.vmdk"), img, 0o666))
		checkWithQEMU(t, dir)
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
	want, err := os.ReadFile(filepath.Join(dir, "disk.raw"))
	require.NoError(t, err)
	require.Equal(t, fmt.Sprintf("%x\n", sha256.Sum256(want)), peer.Run(t, systemPython, "-c", libvmdkDigest, image), "libvmdk finds another disk")

	// Without -t it goes on to open what the guest disk looks like.
	out := peer.Run(t, "7z", "x", "-tvmdk", "-y", "-o"+filepath.Join(dir, "out"), image)
	require.Contains(t, out, "Everything is Ok")
	got, err := os.ReadFile(filepath.Join(dir, "out", "image.img"))
	require.NoError(t, err)
	require.True(t, bytes.Equal(want, got), "7-Zip finds another disk")
}

// systemPython is the one that Debian's python3-libvmdk is for.
const systemPython = "/usr/bin/python3"

// libvmdkDigest prints the SHA-256 of the guest disk as libvmdk reads it.
const libvmdkDigest = `
import hashlib, pyvmdk, sys
h = pyvmdk.handle()
h.open(sys.argv[1])
h.open_extent_data_files()
left, digest = h.get_media_size(), hashlib.sha256()
while left:
    data = h.read_buffer(min(left, 1 << 20))
    digest.update(data)
    left -= len(data)
print(digest.hexdigest())
`

func checkWithQEMU(t *testing.T, dir string) {
	t.Helper()
	image := filepath.Join(dir, "image.vmdk")
	require.Contains(t, peer.Run(t, "qemu-img", "check", "-f", "vmdk", image), "No errors were found on the image.\n")
	peer.Run(t, "qemu-img", "compare", "-f", "vmdk", "-F", "raw", image, filepath.Join(dir, "disk.raw"))
}
