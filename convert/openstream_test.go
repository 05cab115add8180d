package convert_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/convert"
	"github.com/diskimage-go/diskimage/internal/imagetest"
	"github.com/diskimage-go/diskimage/qcow2"
	"github.com/diskimage-go/diskimage/vmdk"
)

// A stream shows what an image with random access shows, whatever the target
// and however many work.
func TestOpenStreamShowsTheSameDisk(t *testing.T) {
	ctx := context.Background()
	for name, v := range imagetest.VMDKShapes() {
		if v.Dialect == imagetest.Sparse || testing.Short() && v.Grain != 128 {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := v.Build()
			targets := []convert.Options{{}, {Format: convert.QCOW2}, {Format: convert.QCOW2, AllocateZeros: true}, {Format: convert.VMDK}}
			if v.Grain > 128 { // 12 MiB
				targets = targets[:2]
			}
			for _, o := range targets {
				disk, err := convert.Open(ctx, imagetest.Source(m.Bytes), convert.OpenOptions{})
				require.NoError(t, err)
				o.Digest = true
				want, wantReport := toBuffer(t, func(out diskimage.Output) (*convert.Report, error) { return convert.ToOutput(ctx, out, disk, o) })
				require.NoError(t, disk.Close())
				for _, workers := range []int{1, 8} {
					o.Workers = workers
					stream, err := convert.OpenStream(ctx, bytes.NewReader(m.Bytes), convert.OpenOptions{})
					require.NoError(t, err)
					require.Equal(t, disk.Size(), stream.Size())
					got, report := toBuffer(t, func(out diskimage.Output) (*convert.Report, error) {
						return convert.StreamToOutput(ctx, out, stream, o)
					})
					require.True(t, bytes.Equal(want, got), "%v, %d workers", o.Format, workers)
					require.Equal(t, wantReport.Digest, report.Digest)
					require.Equal(t, wantReport.Moved, report.Moved)
				}
			}
		})
	}
}

// toBuffer returns what a conversion writes.
func toBuffer(t *testing.T, work func(diskimage.Output) (*convert.Report, error)) ([]byte, *convert.Report) {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "target"))
	require.NoError(t, err)
	defer f.Close()
	report, err := work(f)
	require.NoError(t, err)
	p, err := os.ReadFile(f.Name())
	require.NoError(t, err)
	return p, report
}

// An OVA's disk comes out of a pipe as out of the file, in order or not.
func TestOpenStreamOfPackage(t *testing.T) {
	v := imagetest.VMDKShapes()["exported-128"]
	for _, shuffled := range []bool{false, true} {
		if shuffled {
			for i := range v.Grains {
				v.Order = append(v.Order, len(v.Grains)-1-i)
			}
		}
		m := v.Build()
		file := imagetest.OVA{Digest: "SHA256", Disks: []imagetest.PackedDisk{
			{Name: "disk.vmdk", Data: m.Bytes, URI: imagetest.URIStream, Capacity: int64(len(m.Guest))},
		}}.Build()
		for _, workers := range []int{1, 8} {
			s, err := convert.OpenStream(t.Context(), bytes.NewReader(file), convert.OpenOptions{})
			require.NoError(t, err)
			name := filepath.Join(t.TempDir(), "disk.raw")
			_, err = convert.StreamToFile(t.Context(), name, s, convert.Options{Workers: workers, Verify: true})
			require.NoError(t, err)
			got, err := os.ReadFile(name)
			require.NoError(t, err)
			require.True(t, bytes.Equal(m.Guest, got))
		}
	}
}

// What is in a grain behind its checksum is damage, with random access and in a
// stream.
func TestGrainWithMore(t *testing.T) {
	data := bytes.Repeat([]byte("grain. "), 10_000)[:64<<10]
	m := imagetest.VMDK{Dialect: imagetest.Exported, Grains: []imagetest.Grain{
		{Kind: imagetest.Plain, Data: data, Stream: append(imagetest.Zlib(data), 0)},
	}}.Build()
	for _, o := range []convert.Options{{}, {Format: convert.QCOW2, QCOW2: qcow2.WriterOptions{Compression: diskimage.Deflate}}} {
		disk, err := convert.Open(t.Context(), imagetest.Source(m.Bytes), convert.OpenOptions{})
		require.NoError(t, err)
		_, err = convert.ToWriter(t.Context(), io.Discard, disk, o)
		require.ErrorIs(t, err, diskimage.ErrCorrupt)
		s, err := convert.OpenStream(t.Context(), bytes.NewReader(m.Bytes), convert.OpenOptions{})
		require.NoError(t, err)
		_, err = convert.StreamToFile(t.Context(), filepath.Join(t.TempDir(), "target"), s, o)
		require.ErrorIs(t, err, diskimage.ErrCorrupt)
	}
}

// StreamToWriter gives the bytes that go to a file.
func TestStreamToWriter(t *testing.T) {
	ctx := context.Background()
	m := imagetest.VMDKShapes()["exported-128"].Build()
	open := func() diskimage.Stream {
		s, err := convert.OpenStream(ctx, bytes.NewReader(m.Bytes), convert.OpenOptions{})
		require.NoError(t, err)
		return s
	}
	for _, o := range []convert.Options{{}, {AllocateZeros: true}, {Digest: true},
		{Format: convert.VMDK, VMDK: vmdk.WriterOptions{Subformat: vmdk.StreamOptimized}}} {
		want, _ := toBuffer(t, func(out diskimage.Output) (*convert.Report, error) {
			return convert.StreamToOutput(ctx, out, open(), o)
		})
		for _, workers := range []int{1, 8} {
			o.Workers = workers
			var got bytes.Buffer
			report, err := convert.StreamToWriter(ctx, &got, open(), o)
			require.NoError(t, err)
			require.True(t, bytes.Equal(want, got.Bytes()))
			require.EqualValues(t, got.Len(), report.Written)
		}
	}

	// A raw disk of unknown size.
	content := bytes.Repeat([]byte("some raw disk. "), 300_000)
	content = append(content, make([]byte, 5<<20)...)
	s, err := convert.OpenStream(ctx, bytes.NewReader(content), convert.OpenOptions{Format: convert.Raw})
	require.NoError(t, err)
	var got bytes.Buffer
	_, err = convert.StreamToWriter(ctx, &got, s, convert.Options{})
	require.NoError(t, err)
	require.True(t, bytes.Equal(content, got.Bytes()))

	for _, o := range []convert.Options{{Format: convert.QCOW2}, {Format: convert.VMDK}} {
		var none bytes.Buffer
		_, err := convert.StreamToWriter(ctx, &none, open(), o)
		require.ErrorIs(t, err, diskimage.ErrUnsupported)
		require.ErrorContains(t, err, "--spool")
		require.Zero(t, none.Len())
	}
	_, err = convert.StreamToWriter(ctx, io.Discard, open(), convert.Options{Verify: true})
	require.Error(t, err)
	_, err = convert.StreamToWriter(ctx, io.Discard, open(), convert.Options{Format: convert.VMDK, VMDK: vmdk.WriterOptions{Subformat: vmdk.MonolithicFlat}})
	require.ErrorContains(t, err, "several files")
}

func TestOpenStreamRefuses(t *testing.T) {
	shapes := imagetest.VMDKShapes()
	exported := shapes["exported-8"].Build().Bytes
	for name, tt := range map[string]struct {
		content []byte
		o       convert.OpenOptions
		kind    diskimage.ErrorKind
		says    string
	}{
		"qcow2":              {imagetest.Shapes()[0].Build().Bytes, convert.OpenOptions{}, diskimage.ErrUnsupported, "qcow2: "},
		"monolithicSparse":   {shapes["sparse-128"].Build().Bytes, convert.OpenOptions{}, diskimage.ErrUnsupported, "--spool"},
		"a descriptor":       {[]byte("# Disk DescriptorFile\nversion=1\n"), convert.OpenOptions{}, diskimage.ErrUnsupported, "give its name"},
		"gzip":               {[]byte("\x1f\x8b\x08 and more"), convert.OpenOptions{}, diskimage.ErrFormat, "gzip"},
		"text":               {[]byte("<html>not found</html>"), convert.OpenOptions{}, diskimage.ErrFormat, "content is"},
		"nothing":            {nil, convert.OpenOptions{}, diskimage.ErrFormat, "empty"},
		"declared another":   {exported, convert.OpenOptions{Format: convert.QCOW2}, diskimage.ErrFormat, "declared qcow2, content is vmdk"},
		"declared raw":       {exported, convert.OpenOptions{Format: convert.Raw}, diskimage.ErrFormat, "--raw-anyway"},
		"a snapshot":         {exported, convert.OpenOptions{Snapshot: "1"}, diskimage.ErrUnsupported, "no snapshots"},
		"a member":           {exported, convert.OpenOptions{Member: "1"}, diskimage.ErrUnsupported, "no OVA"},
		"salvage":            {exported, convert.OpenOptions{Salvage: true}, diskimage.ErrUnsupported, "--spool"},
		"raw with snapshots": {make([]byte, 512), convert.OpenOptions{Snapshot: "1"}, diskimage.ErrUnsupported, "no snapshots"},
	} {
		_, err := convert.OpenStream(t.Context(), bytes.NewReader(tt.content), tt.o)
		require.ErrorIs(t, err, tt.kind, name)
		require.ErrorContains(t, err, tt.says, name)
	}
	broken := errors.New("broken")
	_, err := convert.OpenStream(t.Context(), io.MultiReader(bytes.NewReader(exported[:100]), errReader{broken}), convert.OpenOptions{})
	require.ErrorIs(t, err, broken)
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(broken)
	_, err = convert.OpenStream(ctx, bytes.NewReader(exported), convert.OpenOptions{})
	require.ErrorIs(t, err, broken)
}

type errReader struct{ err error }

func (r errReader) Read([]byte) (int, error) { return 0, r.err }

// What marks an image at its end is found there, however the bytes come.
func TestOpenStreamTail(t *testing.T) {
	disk := append(bytes.Repeat([]byte{1, 2, 3, 4, 5, 6, 7, 0}, 400_000), make([]byte, 1<<20)...)
	fixed := imagetest.VHD{Fixed: disk, Size: int64(len(disk))}.Build().Bytes
	old := imagetest.VHD{Fixed: disk, Size: int64(len(disk)), Old: true}.Build().Bytes
	for _, chunk := range []int{511, 4096, 1 << 20} {
		for _, tt := range []struct {
			name    string
			content []byte
			o       convert.OpenOptions
			want    []byte // nil: refused
		}{
			{"raw", disk, convert.OpenOptions{}, disk},
			{"short", disk[:700], convert.OpenOptions{}, disk[:700]},
			{"fixed", fixed, convert.OpenOptions{}, disk},
			{"fixed, declared", fixed, convert.OpenOptions{Format: convert.VHD}, disk},
			{"fixed, short", imagetest.VHD{Fixed: disk[:512], Size: 512}.Build().Bytes, convert.OpenOptions{Format: convert.VHD}, disk[:512]},
			{"fixed, old", old, convert.OpenOptions{}, disk},
			{"fixed, declared raw", fixed, convert.OpenOptions{Format: convert.Raw}, nil},
			{"old, declared raw", old, convert.OpenOptions{Format: convert.Raw}, nil},
			{"fixed, raw anyway", fixed, convert.OpenOptions{Format: convert.Raw, RawAnyway: true}, fixed},
		} {
			s, err := convert.OpenStream(t.Context(), &chunks{tt.content, chunk}, tt.o)
			require.NoError(t, err, tt.name)
			var got bytes.Buffer
			_, err = convert.StreamToWriter(t.Context(), &got, s, convert.Options{})
			if tt.want != nil {
				require.NoError(t, err, tt.name)
				require.True(t, bytes.Equal(tt.want, got.Bytes()), tt.name)
				continue
			}
			require.ErrorIs(t, err, diskimage.ErrFormat, "%s in pieces of %d", tt.name, chunk)
			require.ErrorContains(t, err, "vpc")
		}
	}
}

// chunks gives its bytes in pieces of so many.
type chunks struct {
	p []byte
	n int
}

func (c *chunks) Read(p []byte) (int, error) {
	if len(c.p) == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), c.n)], c.p)
	c.p = c.p[n:]
	return n, nil
}

// A copy of what a pipe gives is an image like any file.
func TestSpool(t *testing.T) {
	dir := t.TempDir()
	shapes := imagetest.VMDKShapes()
	for i, name := range slices.Sorted(maps.Keys(shapes)) {
		if testing.Short() && i%3 > 0 {
			continue
		}
		m := shapes[name].Build()
		src, err := convert.Spool(t.Context(), strings.NewReader(string(m.Bytes)), dir)
		require.NoError(t, err)
		disk, err := convert.Open(t.Context(), src, convert.OpenOptions{})
		require.NoError(t, err, name)
		p := make([]byte, disk.Size())
		_, err = disk.ReadAt(p, 0)
		require.True(t, err == nil || err == io.EOF)
		require.True(t, bytes.Equal(m.Guest, p))
		require.NoError(t, disk.Close())
	}
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, left)
	_, err = convert.Spool(t.Context(), strings.NewReader(""), filepath.Join(dir, "nowhere"))
	require.Error(t, err)
}

// ExampleOpenStream converts an image that comes through a pipe.
func ExampleOpenStream() {
	var pipe io.Reader = strings.NewReader(strings.Repeat("a raw disk's bytes", 1000))
	stream, err := convert.OpenStream(context.Background(), pipe, convert.OpenOptions{Format: convert.Raw})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer stream.Close()
	report, err := convert.StreamToWriter(context.Background(), io.Discard, stream, convert.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(report.Size)
	// Output: 18000
}

// TestOpenStreamOfVHD: what a stream of a VHD ends in is held to what an image
// with random access is.
func TestOpenStreamOfVHD(t *testing.T) {
	content := bytes.Repeat([]byte{0, 1, 2, 3}, 1<<19)
	footer := func(at int, with ...byte) []byte {
		m := imagetest.VHD{Fixed: content, Size: int64(len(content))}.Build()
		m.SetFooter(func(footer []byte) { copy(footer[at:], with) })
		return m.Bytes
	}
	damaged := footer(0)
	damaged[len(content)+20] ^= 1
	for name, c := range map[string]struct {
		file []byte
		o    convert.OpenOptions
		kind diskimage.ErrorKind
		says string
	}{
		"no footer":            {content, convert.OpenOptions{Format: convert.VHD}, diskimage.ErrFormat, "footer"},
		"a damaged footer":     {damaged, convert.OpenOptions{}, diskimage.ErrCorrupt, "checksum"},
		"another version":      {footer(imagetest.VHDVersion, 0, 2), convert.OpenOptions{}, diskimage.ErrUnsupported, "version"},
		"no type":              {footer(imagetest.VHDType, 0, 0, 0, 9), convert.OpenOptions{}, diskimage.ErrUnsupported, "disk type"},
		"a dynamic one's end":  {footer(imagetest.VHDType, 0, 0, 0, 3), convert.OpenOptions{}, diskimage.ErrUnsupported, "needs random access"},
		"a dynamic one":        {imagetest.VHDBase().Bytes, convert.OpenOptions{}, diskimage.ErrUnsupported, "--spool"},
		"a dynamic, declared":  {imagetest.VHDBase().Bytes, convert.OpenOptions{Format: convert.VHD}, diskimage.ErrUnsupported, "--spool"},
		"larger than the file": {footer(imagetest.VHDCurrentSize, 0, 0, 0, 0, 0, 0x30), convert.OpenOptions{}, diskimage.ErrTruncated, "current size"},
		"smaller":              {footer(imagetest.VHDCurrentSize, 0, 0, 0, 0, 0, 0x08), convert.OpenOptions{}, diskimage.ErrUnsupported, "--spool"},
		"another format":       {imagetest.Base().Bytes, convert.OpenOptions{Format: convert.VHD}, diskimage.ErrFormat, "declared vpc, content is qcow2"},
		"too large":            {footer(0), convert.OpenOptions{MaxVirtualSize: 2<<20 - 512}, diskimage.ErrLimit, "virtual size"},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := convert.OpenStream(t.Context(), bytes.NewReader(c.file), c.o)
			if err == nil {
				_, err = convert.StreamToFile(t.Context(), filepath.Join(t.TempDir(), "target"), s, convert.Options{})
			}
			require.ErrorIs(t, err, c.kind)
			require.ErrorContains(t, err, c.says)
		})
	}
}
