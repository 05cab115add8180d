package convert

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/klauspost/compress/flate"
	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/internal/peer"
	"github.com/diskimage-go/diskimage/qcow2"
	"github.com/diskimage-go/diskimage/raw"
	"github.com/diskimage-go/diskimage/vhd"
	"github.com/diskimage-go/diskimage/vmdk"
)

// targets are the kinds of image that the tests below make.
var targets = map[string]Options{
	"raw":             {Format: Raw},
	"raw allocated":   {Format: Raw, AllocateZeros: true},
	"qcow2":           {Format: QCOW2},
	"qcow2 allocated": {Format: QCOW2, AllocateZeros: true},
	"qcow2 v2":        {Format: QCOW2, QCOW2: qcow2.WriterOptions{Version: 2}},
	"qcow2 512":       {Format: QCOW2, QCOW2: qcow2.WriterOptions{ClusterSize: 512}},
	"qcow2 2M":        {Format: QCOW2, QCOW2: qcow2.WriterOptions{ClusterSize: 2 << 20}},
	"qcow2 deflate":   {Format: QCOW2, QCOW2: qcow2.WriterOptions{Compression: diskimage.Deflate}},
	"qcow2 zstd":      {Format: QCOW2, QCOW2: qcow2.WriterOptions{Compression: diskimage.Zstd}},
	"qcow2 zstd 4k":   {Format: QCOW2, QCOW2: qcow2.WriterOptions{Compression: diskimage.Zstd, ClusterSize: 4096}},
	"vmdk":            {Format: VMDK, VMDK: vmdk.WriterOptions{FileName: "disk.vmdk"}},
	"vmdk allocated":  {Format: VMDK, VMDK: vmdk.WriterOptions{FileName: "disk.vmdk"}, AllocateZeros: true},
	"vmdk stream":     {Format: VMDK, VMDK: vmdk.WriterOptions{FileName: "disk.vmdk", Subformat: vmdk.StreamOptimized}},
	"vpc":             {Format: VHD},
	"vpc allocated":   {Format: VHD, AllocateZeros: true},
	"vpc 4k":          {Format: VHD, VHD: vhd.WriterOptions{BlockSize: 4096}},
	"vpc fixed":       {Format: VHD, VHD: vhd.WriterOptions{Type: vhd.Fixed}},
	"vmdk stream all": {Format: VMDK, VMDK: vmdk.WriterOptions{FileName: "disk.vmdk", Subformat: vmdk.StreamOptimized, Level: 1}, AllocateZeros: true},
}

// guest returns an image file's guest disk, read back.
func guest(t testing.TB, name string, f Format) []byte {
	t.Helper()
	d, err := OpenFile(context.Background(), name, OpenOptions{Format: f, RawAnyway: true})
	require.NoError(t, err)
	defer d.Close()
	p, err := io.ReadAll(io.NewSectionReader(d, 0, d.Size()))
	require.NoError(t, err)
	return p
}

// Any number of workers, a file, a pipe and memory give the same bytes, which
// read as the source, here and by the reference.
func TestEveryWayOutGivesTheSameBytes(t *testing.T) {
	ctx := context.Background()
	for name, o := range targets {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for i, size := range []int64{0, 512, 5<<20 + 1000} {
				if size == 0 && o.Format == VMDK {
					continue // there are no such
				}
				d := patchworkDisk(uint64(i)+100, size)
				want := append(d.content, make([]byte, roundUp(size, 512)-size)...)
				if o.Format == Raw {
					want = want[:size]
				}
				dir := t.TempDir()
				var first []byte
				for _, workers := range []int{1, 2, 8} {
					o := o
					o.Workers, o.Verify, o.Digest, o.Unsynced = workers, true, true, workers > 1
					file := filepath.Join(dir, fmt.Sprintf("%d.img", workers))
					rep, err := ToFile(ctx, file, d, o)
					require.NoError(t, err)
					require.True(t, rep.Verified)
					require.Equal(t, int64(len(want)), rep.Size)
					sum := sha256.Sum256(d.content)
					require.Equal(t, sum[:], rep.Digest)
					require.Equal(t, sum[:], rep.OutputDigest)
					got, err := os.ReadFile(file)
					require.NoError(t, err)
					if first == nil {
						first = got
						require.True(t, bytes.Equal(want, guest(t, file, o.Format)), "size %d", size)
					}
					require.True(t, bytes.Equal(first, got), "size %d, %d workers", size, workers)

					o.Verify = false
					var pipe bytes.Buffer
					rep, err = ToWriter(ctx, &pipe, d, o)
					require.NoError(t, err)
					require.True(t, bytes.Equal(first, pipe.Bytes()), "a pipe, size %d, %d workers", size, workers)
					require.Equal(t, int64(pipe.Len()), rep.Written)

					o.Verify = true
					var mem memOutput
					_, err = ToOutput(ctx, &mem, d, o)
					require.NoError(t, err)
					require.True(t, bytes.Equal(first, mem.data), "memory, size %d, %d workers", size, workers)
					require.False(t, mem.twice(), "a byte was written twice")
				}
				// A fixed disk of no bytes is a footer, in which qemu-img sees a dynamic one's.
				if o.Format != Raw && (o.VHD.Type != vhd.Fixed || size > 0) {
					file := filepath.Join(dir, "1.img")
					if o.Format != VHD { // which it does not check
						peer.Run(t, "qemu-img", "check", "-q", file)
					}
					src := filepath.Join(dir, "src.raw")
					require.NoError(t, os.WriteFile(src, want, 0o600))
					peer.Run(t, "qemu-img", "compare", "-q", "-f", o.Format.String(), "-F", "raw", file, src)
				}
			}
		})
	}
}

// From a pipe of unknown length comes what comes from a file; for a VMDK and a
// VHD the length must be known.
func TestStreamGivesTheSameBytes(t *testing.T) {
	ctx := context.Background()
	for name, o := range targets {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, size := range []int64{1, 4096, 3<<20 + 7} {
				known := int64(-1)
				if o.Format == VMDK || o.Format == VHD {
					known = size
					_, err := StreamToOutput(ctx, &memOutput{}, raw.NewStream(bytes.NewReader([]byte{1}), -1), o)
					require.ErrorIs(t, err, diskimage.ErrUnsupported)
				}
				content := patchworkDisk(uint64(size), size).content
				disk, err := raw.Open(diskimage.NewSource(bytes.NewReader(content), size), raw.Options{})
				require.NoError(t, err)
				var want, got memOutput
				_, err = ToOutput(ctx, &want, disk, o)
				require.NoError(t, err)
				for _, workers := range []int{1, 4} {
					o := o
					o.Workers, o.Verify, o.Digest, o.Unsynced = workers, true, true, workers > 1
					got = memOutput{}
					// An io.Reader that gives what it has, as a pipe does.
					rep, err := StreamToOutput(ctx, &got, raw.NewStream(io.MultiReader(bytes.NewReader(content[:size/3]), bytes.NewReader(content[size/3:])), known), o)
					require.NoError(t, err)
					require.True(t, bytes.Equal(want.data, got.data), "size %d, %d workers", size, workers)
					sum := sha256.Sum256(content)
					require.Equal(t, sum[:], rep.Digest)
					require.Equal(t, sum[:], rep.OutputDigest)
				}
			}
		})
	}
}

// Compressed units of the target's codec are moved; what comes out is sound.
func TestCompressedUnitsAreMoved(t *testing.T) {
	d := patchworkDisk(42, 32<<20)
	dir := t.TempDir()
	file := filepath.Join(dir, "moved.qcow2")
	o := Options{Format: QCOW2, QCOW2: qcow2.WriterOptions{Compression: diskimage.Deflate}, Verify: true}
	rep, err := ToFile(context.Background(), file, d, o)
	require.NoError(t, err)
	require.Equal(t, int64(len(d.streams))<<16, rep.Moved)
	require.True(t, bytes.Equal(d.content, guest(t, file, QCOW2)))
	peer.Run(t, "qemu-img", "check", "-q", file)
	peer.Run(t, "qemu-img", "convert", "-O", "raw", file, file+".raw")
	got, err := os.ReadFile(file + ".raw")
	require.NoError(t, err)
	require.True(t, bytes.Equal(d.content, got))
}

// A stream with matches from farther away than the target's window is encoded
// anew, and one of zeros is dropped.
func TestUnitsThatAreNotMoved(t *testing.T) {
	content := make([]byte, 128<<10)
	rand.NewChaCha8([32]byte{}).Read(content[:8192])
	copy(content[16384:], content[:8192])
	far, err := flate.NewWriter(nil, 6)
	require.NoError(t, err)
	d := &memDisk{content: content, streams: map[int64][]byte{}, badFrom: -1, badTo: -1}
	for off := int64(0); off < 128<<10; off += 64 << 10 {
		var b bytes.Buffer
		far.Reset(&b)
		far.Write(content[off : off+64<<10])
		require.NoError(t, far.Close())
		d.streams[off] = b.Bytes()
		d.extents = append(d.extents, diskimage.Extent{Off: off, Len: 64 << 10, Stored: diskimage.Deflate, HostLen: int64(b.Len()) + 3})
	}
	for window, moved := range map[int]int64{4096: 0, 32 << 10: 64 << 10} {
		var out memOutput
		o := Options{Format: QCOW2, QCOW2: qcow2.WriterOptions{Compression: diskimage.Deflate, Window: window}, Verify: true}
		rep, err := ToOutput(context.Background(), &out, d, o)
		require.NoError(t, err)
		require.Equal(t, moved, rep.Moved)
	}
}

// A damaged stream is not moved on.
func TestDamagedUnitIsNotMoved(t *testing.T) {
	d := patchworkDisk(42, 32<<20)
	for off, s := range d.streams {
		d.streams[off] = s[:len(s)/2]
		break
	}
	o := Options{Format: QCOW2, QCOW2: qcow2.WriterOptions{Compression: diskimage.Deflate, Window: 32 << 10}}
	_, err := ToOutput(context.Background(), &memOutput{}, d, o)
	require.ErrorContains(t, err, "damaged")
}

// A failure leaves the folder as it was, and what stood under the name whole.
func TestFailureLeavesWhatStoodThere(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "disk.qcow2")
	require.NoError(t, os.WriteFile(name, []byte("the old one"), 0o640))
	d := patchworkDisk(5, 8<<20)
	d.badFrom, d.badTo = 3<<20, 3<<20+1
	d.extents = []diskimage.Extent{{Len: d.Size(), Host: -1}}
	for _, workers := range []int{1, 4} {
		_, err := ToFile(context.Background(), name, d, Options{Format: QCOW2, Workers: workers})
		require.ErrorIs(t, err, errBadSector)
		entries, err := os.ReadDir(dir)
		require.NoError(t, err)
		require.Len(t, entries, 1)
		old, err := os.ReadFile(name)
		require.NoError(t, err)
		require.Equal(t, "the old one", string(old))
	}
}

// A target larger than its source ends in zeros; a smaller one is refused.
func TestTargetSize(t *testing.T) {
	d := patchworkDisk(8, 1<<20)
	var out memOutput
	rep, err := ToOutput(context.Background(), &out, d, Options{Size: 3 << 20})
	require.NoError(t, err)
	require.Equal(t, int64(3<<20), rep.Size)
	require.Equal(t, append(bytes.Clone(d.content), make([]byte, 2<<20)...), out.data)
	_, err = ToOutput(context.Background(), &out, d, Options{Size: 1 << 19})
	require.ErrorContains(t, err, "cannot hold")
}

// A disk in which there is an image is noted: importers refuse such disks.
func TestImageInsideTheDiskIsNoted(t *testing.T) {
	var inner, outer memOutput
	_, err := ToOutput(context.Background(), &inner, patchworkDisk(4, 1<<20), Options{Format: QCOW2})
	require.NoError(t, err)
	d, err := raw.Open(diskimage.NewSource(&inner, inner.Size()), raw.Options{})
	require.NoError(t, err)
	rep, err := ToOutput(context.Background(), &outer, d, Options{Format: QCOW2})
	require.NoError(t, err)
	require.Contains(t, rep.Notes, diskimage.Note{Text: "the guest disk's own content is qcow2"})
	rep, err = ToWriter(context.Background(), io.Discard, d, Options{Format: QCOW2})
	require.NoError(t, err)
	require.Contains(t, rep.Notes, diskimage.Note{Text: "the guest disk's own content is qcow2"})
}
