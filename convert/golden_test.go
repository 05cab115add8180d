package convert_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/convert"
	"github.com/diskimage-go/diskimage/qcow2"
	"github.com/diskimage-go/diskimage/vhd"
	"github.com/diskimage-go/diskimage/vmdk"
	"github.com/stretchr/testify/require"
)

// buffer is an output in memory.
type buffer struct{ bytes []byte }

func (b *buffer) WriteAt(p []byte, off int64) (int, error) {
	if end := off + int64(len(p)); end > int64(len(b.bytes)) {
		b.bytes = append(b.bytes, make([]byte, end-int64(len(b.bytes)))...)
	}
	return copy(b.bytes[off:], p), nil
}

func (b *buffer) ZeroFilled() bool { return true }

func (b *buffer) Truncate(size int64) error {
	if more := size - int64(len(b.bytes)); more > 0 {
		b.bytes = append(b.bytes, make([]byte, more)...)
	}
	b.bytes = b.bytes[:size]
	return nil
}

// lockedBuffer is a buffer for several writers, and makes the one extent of an
// image of two files.
type lockedBuffer struct {
	buffer
	turn   chan struct{}
	extent *lockedBuffer
}

func (b *lockedBuffer) Create(string) (diskimage.Output, error) {
	b.extent = &lockedBuffer{turn: b.turn}
	return b.extent, nil
}

// all returns the bytes of both files.
func (b *lockedBuffer) all() []byte {
	if b.extent == nil {
		return b.bytes
	}
	return slices.Concat(b.bytes, b.extent.bytes)
}

func (b *lockedBuffer) WriteAt(p []byte, off int64) (int, error) {
	b.turn <- struct{}{}
	defer func() { <-b.turn }()
	return b.buffer.WriteAt(p, off)
}

// TestGolden holds that the same disk and options give the same bytes: for
// one worker and many, into a file and into a pipe, and, by the digests in
// testdata/golden.txt, on every machine and architecture. A digest there
// changes only with the version; to write them anew:
//
//	DISKIMAGE_UPDATE=1 go test ./convert -run TestGolden
func TestGolden(t *testing.T) {
	dir := unpack(t)
	opener, err := convert.NewDirOpener(dir)
	require.NoError(t, err)
	defer opener.Close()
	to := func(o qcow2.WriterOptions) convert.Options { return convert.Options{Format: convert.QCOW2, QCOW2: o} }
	toVMDK := func(o vmdk.WriterOptions) convert.Options { return convert.Options{Format: convert.VMDK, VMDK: o} }
	toVHD := func(o vhd.WriterOptions) convert.Options { return convert.Options{Format: convert.VHD, VHD: o} }
	cases := map[string]struct {
		source  string
		options convert.Options
	}{
		"raw":                      {"zlib.qcow2", convert.Options{Format: convert.Raw}},
		"qcow2":                    {"disk.raw", to(qcow2.WriterOptions{})},
		"qcow2-v2":                 {"disk.raw", to(qcow2.WriterOptions{Version: 2})},
		"qcow2-cluster-512":        {"disk.raw", to(qcow2.WriterOptions{ClusterSize: 512})},
		"qcow2-cluster-2m":         {"disk.raw", to(qcow2.WriterOptions{ClusterSize: 2 << 20})},
		"qcow2-refcount-1":         {"disk.raw", to(qcow2.WriterOptions{RefcountBits: 1})},
		"qcow2-zlib":               {"disk.raw", to(qcow2.WriterOptions{Compression: diskimage.Deflate})},
		"qcow2-zlib-32k":           {"disk.raw", to(qcow2.WriterOptions{Compression: diskimage.Deflate, Window: 32 << 10})},
		"qcow2-zlib-cluster-4k":    {"disk.raw", to(qcow2.WriterOptions{Compression: diskimage.Deflate, ClusterSize: 4096})},
		"qcow2-zlib-refcount-1":    {"disk.raw", to(qcow2.WriterOptions{Compression: diskimage.Deflate, RefcountBits: 1})},
		"qcow2-zstd":               {"disk.raw", to(qcow2.WriterOptions{Compression: diskimage.Zstd})},
		"qcow2-zstd-cluster-2m":    {"disk.raw", to(qcow2.WriterOptions{Compression: diskimage.Zstd, ClusterSize: 2 << 20})},
		"qcow2-zlib-from-zlib":     {"zlib.qcow2", to(qcow2.WriterOptions{Compression: diskimage.Deflate})},
		"qcow2-from-overlay":       {"overlay-larger.qcow2", to(qcow2.WriterOptions{})},
		"qcow2-zstd-from-data-raw": {"data-file-raw.qcow2", to(qcow2.WriterOptions{Compression: diskimage.Zstd})},
		"vmdk-sparse":              {"disk.raw", toVMDK(vmdk.WriterOptions{Seed: []byte("a seed")})},
		"vmdk-sparse-grain-4k":     {"disk.raw", toVMDK(vmdk.WriterOptions{GrainSize: 4096, ZeroedGrains: true, CID: 0x12345678})},
		"vmdk-stream":              {"disk.raw", toVMDK(vmdk.WriterOptions{Subformat: vmdk.StreamOptimized})},
		"vmdk-stream-from-zlib":    {"zlib.qcow2", toVMDK(vmdk.WriterOptions{Subformat: vmdk.StreamOptimized, Adapter: vmdk.LSILogic, HWVersion: 13})},
		"vmdk-flat":                {"disk.raw", toVMDK(vmdk.WriterOptions{Subformat: vmdk.MonolithicFlat})},
		"vmdk-split-sparse":        {"disk.raw", toVMDK(vmdk.WriterOptions{Subformat: vmdk.TwoGbMaxExtentSparse})},
		"vmdk-split-flat":          {"disk.raw", toVMDK(vmdk.WriterOptions{Subformat: vmdk.TwoGbMaxExtentFlat})},
		"vpc-dynamic":              {"disk.raw", toVHD(vhd.WriterOptions{})},
		"vpc-dynamic-block-64k":    {"zlib.qcow2", toVHD(vhd.WriterOptions{BlockSize: 64 << 10, Time: time.Unix(1600000000, 0)})},
		"vpc-dynamic-geometric":    {"disk.raw", toVHD(vhd.WriterOptions{Geometric: true})},
		"vpc-dynamic-allocated":    {"disk.raw", convert.Options{Format: convert.VHD, AllocateZeros: true}},
		"vpc-fixed":                {"disk.raw", toVHD(vhd.WriterOptions{Type: vhd.Fixed, UniqueID: [16]byte{1, 2, 3}})},
		"vpc-azure":                {"zlib.qcow2", toVHD(vhd.WriterOptions{Azure: true})},
		"vpc-differencing": {"overlay.qcow2", convert.Options{Format: convert.VHD, OnlyTop: true, VHD: vhd.WriterOptions{
			Type: vhd.Differencing, Parent: &vhd.Parent{Name: "base.vhd", ID: [16]byte{4, 5, 6}}}}},
	}

	got := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(cases)) {
		c := cases[name]
		t.Run(name, func(t *testing.T) {
			src, err := sample{file: c.source}.open(t.Context(), dir, opener)
			require.NoError(t, err)
			defer src.Close()
			var first []byte
			for _, workers := range []int{1, 2, 8} {
				c.options.Workers = workers
				out := &lockedBuffer{turn: make(chan struct{}, 1)}
				c.options.VMDK.Creator = out
				_, err := convert.ToOutput(t.Context(), out, src, c.options)
				require.NoError(t, err)
				written := out.all()
				if first == nil {
					first = written
				}
				require.True(t, bytes.Equal(first, written), "%d workers write something else", workers)
				if out.extent != nil {
					continue // such an image goes into no pipe
				}
				var pipe bytes.Buffer
				_, err = convert.ToWriter(t.Context(), &pipe, src, c.options)
				require.NoError(t, err)
				require.True(t, bytes.Equal(first, pipe.Bytes()), "a pipe gets something else with %d workers", workers)
			}
			got[name] = fmt.Sprintf("%x", sha256.Sum256(first))
		})
	}
	if t.Failed() {
		return
	}

	golden := filepath.Join(testdata, "golden.txt")
	var text strings.Builder
	for _, name := range slices.Sorted(maps.Keys(got)) {
		fmt.Fprintln(&text, got[name], name)
	}
	if os.Getenv("DISKIMAGE_UPDATE") == "1" {
		require.NoError(t, os.WriteFile(golden, []byte(text.String()), 0o666))
	}
	want, err := os.ReadFile(golden)
	require.NoError(t, err)
	require.Equal(t, string(want), text.String())
}

// TestGoldenDigests holds that a conversion's digest is the one the reference
// gives of the same guest disk.
func TestGoldenDigests(t *testing.T) {
	dir := unpack(t)
	opener, err := convert.NewDirOpener(dir)
	require.NoError(t, err)
	defer opener.Close()
	images, _ := samples(t)
	for _, s := range images {
		if strings.HasPrefix(s.content, "refused") {
			continue
		}
		t.Run(s.String(), func(t *testing.T) {
			src, err := s.open(t.Context(), dir, opener)
			require.NoError(t, err)
			defer src.Close()
			out := &lockedBuffer{turn: make(chan struct{}, 1)}
			report, err := convert.ToOutput(t.Context(), out, src, convert.Options{Format: convert.QCOW2, Digest: true})
			require.NoError(t, err)
			require.Equal(t, s.content, hex.EncodeToString(report.Digest))
		})
	}
}
