package convert

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/internal/peer"
	"github.com/diskimage-go/diskimage/qcow2"
	"github.com/diskimage-go/diskimage/vhd"
	"github.com/diskimage-go/diskimage/vmdk"
	"github.com/stretchr/testify/require"
)

// peerMeasure returns what qemu-img measures; bitmaps is -1 where it does not
// say.
func peerMeasure(t *testing.T, args ...string) (required, fully, bitmaps int64) {
	t.Helper()
	var m struct {
		Required int64  `json:"required"`
		Fully    int64  `json:"fully-allocated"`
		Bitmaps  *int64 `json:"bitmaps"`
	}
	out := peer.Run(t, "qemu-img", append([]string{"measure", "--output=json"}, args...)...)
	require.NoError(t, json.Unmarshal([]byte(out), &m))
	if m.Bitmaps == nil {
		return m.Required, m.Fully, -1
	}
	return m.Required, m.Fully, *m.Bitmaps
}

// measureCases are options, and how qemu-img has them.
var measureCases = []struct {
	o    MeasureOptions
	args []string
}{
	{MeasureOptions{}, []string{"-O", "raw"}},
	{MeasureOptions{Format: QCOW2}, []string{"-O", "qcow2"}},
	{MeasureOptions{Format: QCOW2, QCOW2: qcow2.WriterOptions{Version: 2}}, []string{"-O", "qcow2", "-o", "compat=0.10"}},
	{MeasureOptions{Format: QCOW2, QCOW2: qcow2.WriterOptions{ClusterSize: 512}}, []string{"-O", "qcow2", "-o", "cluster_size=512"}},
	{MeasureOptions{Format: QCOW2, QCOW2: qcow2.WriterOptions{ClusterSize: 2 << 20}}, []string{"-O", "qcow2", "-o", "cluster_size=2M"}},
	{MeasureOptions{Format: QCOW2, QCOW2: qcow2.WriterOptions{RefcountBits: 1}}, []string{"-O", "qcow2", "-o", "refcount_bits=1"}},
	{MeasureOptions{Format: QCOW2, QCOW2: qcow2.WriterOptions{RefcountBits: 64, ClusterSize: 4096}}, []string{"-O", "qcow2", "-o", "refcount_bits=64,cluster_size=4k"}},
	{MeasureOptions{Format: QCOW2, QCOW2: qcow2.WriterOptions{LazyRefcounts: true}}, []string{"-O", "qcow2", "-o", "lazy_refcounts=on"}},
	{MeasureOptions{Format: QCOW2, QCOW2: qcow2.WriterOptions{Compression: diskimage.Zstd}}, []string{"-O", "qcow2", "-o", "compression_type=zstd"}},
	{MeasureOptions{Format: QCOW2, QCOW2: qcow2.WriterOptions{BackingFile: "x", BackingFormat: "raw"}}, []string{"-O", "qcow2", "-o", "backing_file=x,backing_fmt=raw"}},
}

func TestMeasurePeer(t *testing.T) {
	dir := t.TempDir()
	name := func(s string) string { return filepath.Join(dir, s) }
	peer.Run(t, "qemu-img", "create", "-q", "-f", "raw", name("a.raw"), "100M")
	peer.Run(t, "qemu-io", "-f", "raw", "-c", "write -q -P 1 0 4k", "-c", "write -q -P 2 1000k 100k", "-c", "write -q -P 3 65M 9M", name("a.raw"))
	peer.Run(t, "qemu-img", "convert", "-f", "raw", "-O", "qcow2", name("a.raw"), name("a.qcow2"))
	peer.Run(t, "qemu-img", "convert", "-c", "-f", "raw", "-O", "qcow2", "-o", "cluster_size=4k", name("a.raw"), name("c.qcow2"))
	peer.Run(t, "qemu-img", "create", "-q", "-f", "qcow2", "-o", "compat=0.10", name("v2.qcow2"), "1T")
	peer.Run(t, "qemu-img", "create", "-q", "-f", "qcow2", name("bitmaps.qcow2"), "1T")
	peer.Run(t, "qemu-img", "bitmap", "--add", name("bitmaps.qcow2"), "b0")
	peer.Run(t, "qemu-img", "bitmap", "--add", "-g", "512", name("bitmaps.qcow2"), "a bitmap with a longer name")
	inUse, err := os.ReadFile(name("bitmaps.qcow2"))
	require.NoError(t, err)
	directory := binary.BigEndian.Uint64(inUse[bytes.Index(inUse, []byte("\x23\x85\x28\x75"))+8+16:])
	inUse[directory+15] |= 1
	put(t, inUse, dir, "inuse.qcow2")
	peer.Run(t, "qemu-img", "create", "-q", "-f", "qcow2", "-b", name("a.qcow2"), "-F", "qcow2", name("top.qcow2"), "200M")
	peer.Run(t, "qemu-io", "-f", "qcow2", "-c", "write -q -z 65M 1M", "-c", "write -q -P 4 150M 1M", name("top.qcow2"))
	peer.Run(t, "qemu-img", "create", "-q", "-f", "raw", name("empty.raw"), "1536")

	for _, image := range []string{"a.raw", "a.qcow2", "c.qcow2", "v2.qcow2", "bitmaps.qcow2", "inuse.qcow2", "top.qcow2", "empty.raw"} {
		format, err := ParseFormat(filepath.Ext(image)[1:])
		require.NoError(t, err)
		d, err := OpenFile(context.Background(), name(image), OpenOptions{Format: format, Opener: AnyOpener()})
		require.NoError(t, err)
		for i, tc := range measureCases {
			if i > 3 && image != "a.qcow2" && image != "top.qcow2" {
				continue // the options have been seen
			}
			want := [3]int64{}
			want[0], want[1], want[2] = peerMeasure(t, append(tc.args, "-f", format.String(), name(image))...)
			m, err := Measure(context.Background(), d, tc.o)
			if tc.o.QCOW2.ClusterSize == 512 && d.Size() >= 1<<40 {
				require.ErrorIs(t, err, diskimage.ErrLimit) // qemu-img measures what it does not create
				continue
			}
			require.NoError(t, err)
			require.Equal(t, want, [3]int64{m.Required, m.FullyAllocated, m.Bitmaps}, "%s %v", image, tc.args)
		}
		require.NoError(t, d.Close())
	}
	for _, size := range []int64{1000, 10<<30 + 12345} {
		for _, tc := range measureCases {
			m, err := MeasureSize(size, tc.o)
			if err != nil {
				require.ErrorIs(t, err, diskimage.ErrLimit)
				continue
			}
			want := [3]int64{}
			want[0], want[1], want[2] = peerMeasure(t, append(tc.args, "--size", fmt.Sprint(size))...)
			require.Equal(t, want, [3]int64{m.Required, m.FullyAllocated, m.Bitmaps}, "%d %v", size, tc.args)
			require.EqualValues(t, size, m.Size)
		}
	}
}

// What is counted are the units that hold data, each once.
func TestMeasureAllocated(t *testing.T) {
	d := &chunkDisk{content: make([]byte, 1_000_000), chunk: 4096, kinds: map[int64]diskimage.Extent{}}
	for i := range int64(245) {
		d.kinds[i] = diskimage.Extent{Kind: diskimage.Hole}
	}
	for _, i := range []int64{3, 17, 18, 20, 47, 48, 244} { // clusters 0, 1, 1, 1, 2, 3, and 15, which is not whole
		d.kinds[i] = diskimage.Extent{}
	}
	for format, want := range map[Format]int64{QCOW2: 5 * 65536, Raw: 6*4096 + 1_000_000 - 244*4096, Auto: 6*4096 + 1_000_000 - 244*4096} {
		m, err := Measure(context.Background(), d, MeasureOptions{Format: format})
		require.NoError(t, err)
		require.Equal(t, want, m.Allocated)
		require.Equal(t, m.Prefix, map[Format]int64{QCOW2: 65536}[format])
		require.EqualValues(t, 1_000_000, m.Size)
		require.EqualValues(t, -1, m.Bitmaps)
		require.LessOrEqual(t, m.Allocated, m.Largest)
	}
	require.Empty(t, d.read)

	m, err := Measure(context.Background(), d, MeasureOptions{Format: QCOW2, QCOW2: qcow2.WriterOptions{AllocateZeros: true}})
	require.NoError(t, err)
	require.EqualValues(t, 5*65536, m.Allocated)
	require.Greater(t, m.Largest, int64(16*65536))
}

func TestMeasureErrors(t *testing.T) {
	d := &chunkDisk{content: make([]byte, 1<<20), chunk: 4096, unmap: 8192}
	_, err := Measure(context.Background(), d, MeasureOptions{})
	require.ErrorIs(t, err, errBad)
	d.unmap = 0
	for _, o := range []MeasureOptions{{Format: VMDK, VMDK: vmdk.WriterOptions{GrainSize: 1000}}, {Format: VHD, VHD: vhd.WriterOptions{BlockSize: 1000}}, {Format: QCOW2, QCOW2: qcow2.WriterOptions{ClusterSize: 1000}}} {
		_, err := Measure(context.Background(), d, o)
		require.ErrorIs(t, err, diskimage.ErrUnsupported)
		_, err = MeasureSize(1<<20, o)
		require.ErrorIs(t, err, diskimage.ErrUnsupported)
	}
	for _, o := range []MeasureOptions{{}, {Format: QCOW2}} {
		_, err := MeasureSize(-1, o)
		require.Error(t, err)
	}
	_, err = MeasureSize(1<<63-1, MeasureOptions{})
	require.Error(t, err)
	_, err = MeasureSize(1<<63-1, MeasureOptions{Format: QCOW2})
	require.ErrorIs(t, err, diskimage.ErrLimit)
	cancelled, cancel := context.WithCancel(context.Background())
	cancel()
	_, err = Measure(cancelled, d, MeasureOptions{})
	require.ErrorIs(t, err, context.Canceled)
}

// What is foretold is what a conversion then writes; what is a bound, is one.
func TestMeasureExactly(t *testing.T) {
	ctx, dir := context.Background(), t.TempDir()
	r := rand.New(rand.NewPCG(3, 4))
	for i, size := range []int{1, 1000, 65536, 3<<20 + 512, 9_000_000} {
		if testing.Short() && size > 65536 {
			continue
		}
		content := randomContent(r, size)
		for j := size / 2; j < size*3/4; j++ {
			content[j] = byte(r.Uint32()) // does not compress
		}
		src := randomDisk(r, content, 4096)
		for j, o := range []Options{
			{Format: Raw},
			{Format: QCOW2},
			{Format: QCOW2, AllocateZeros: true},
			{Format: QCOW2, QCOW2: qcow2.WriterOptions{ClusterSize: 512, Version: 2}},
			{Format: QCOW2, QCOW2: qcow2.WriterOptions{Compression: diskimage.Deflate}},
			{Format: QCOW2, QCOW2: qcow2.WriterOptions{Compression: diskimage.Deflate, ClusterSize: 2 << 20}},
			{Format: QCOW2, QCOW2: qcow2.WriterOptions{Compression: diskimage.Zstd, ClusterSize: 4096, RefcountBits: 1}},
			toVMDK(vmdk.MonolithicSparse),
			toVMDK(vmdk.StreamOptimized),
			{Format: VMDK, AllocateZeros: true, VMDK: vmdk.WriterOptions{Subformat: vmdk.StreamOptimized}},
			toVMDK(vmdk.MonolithicFlat),
			toVMDK(vmdk.TwoGbMaxExtentFlat),
			toVMDK(vmdk.TwoGbMaxExtentSparse),
			{Format: VHD},
			{Format: VHD, VHD: vhd.WriterOptions{Type: vhd.Fixed}},
			{Format: VHD, AllocateZeros: true, VHD: vhd.WriterOptions{Geometric: true, BlockSize: 64 << 10}},
		} {
			exact, err := MeasureExactly(ctx, src, o)
			require.NoError(t, err)
			name := filepath.Join(dir, fmt.Sprint(i, j))
			o.VMDK.FileName = "disk.vmdk" // the name's length counts
			require.NoError(t, os.Mkdir(name, 0o777))
			_, err = ToFile(ctx, filepath.Join(name, "disk.vmdk"), src, o)
			require.NoError(t, err)
			length := int64(0)
			for base := range names(t, name) {
				info, err := os.Stat(filepath.Join(name, base))
				require.NoError(t, err)
				length += info.Size()
			}
			require.Equal(t, length, exact, "%d bytes, %+v", size, o)

			mo := MeasureOptions{Format: o.Format, QCOW2: o.QCOW2, VMDK: o.VMDK, VHD: o.VHD}
			mo.QCOW2.AllocateZeros, mo.VMDK.AllocateZeros, mo.VHD.AllocateZeros = o.AllocateZeros, o.AllocateZeros, o.AllocateZeros
			m, err := Measure(ctx, src, mo)
			require.NoError(t, err)
			require.LessOrEqual(t, exact, m.Largest, "%d bytes, %+v", size, o)
		}
	}
	_, err := MeasureExactly(ctx, &chunkDisk{content: make([]byte, 100), chunk: 512}, Options{Format: OVA})
	require.ErrorIs(t, err, diskimage.ErrUnsupported)
}

func ExampleMeasure() {
	name := filepath.Join(os.TempDir(), "example-measure.img")
	defer os.Remove(name)
	if err := os.WriteFile(name, make([]byte, 1<<20), 0o666); err != nil {
		panic(err)
	}
	disk, err := OpenFile(context.Background(), name, OpenOptions{Format: Raw})
	if err != nil {
		panic(err)
	}
	defer disk.Close()
	m, err := Measure(context.Background(), disk, MeasureOptions{Format: QCOW2})
	if err != nil {
		panic(err)
	}
	fmt.Println(m.Required, m.FullyAllocated, m.Prefix)
	// Output: 1376256 1376256 65536
}
