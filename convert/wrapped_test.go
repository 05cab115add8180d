package convert_test

import (
	"archive/tar"
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/convert"
	"github.com/diskimage-go/diskimage/internal/imagetest"
)

func zstdOf(p []byte) []byte {
	e, err := zstd.NewWriter(nil, zstd.WithZeroFrames(true))
	if err != nil {
		panic(err)
	}
	defer e.Close()
	return e.EncodeAll(p, nil)
}

func tarOf(name string, p []byte) []byte {
	return imagetest.Tar(imagetest.Member{Name: name, Data: p, Change: func(h *tar.Header) { h.Format = tar.FormatGNU }})
}

// TestWrapped reads each format out of each wrapper: front to back what can be
// read so, and everything from a copy.
func TestWrapped(t *testing.T) {
	m := imagetest.VMDKShapes()["exported-128"].Build()
	sparse := imagetest.VMDK{Grain: 8, Grains: []imagetest.Grain{{Kind: imagetest.Plain, Data: m.Guest[:4096]}}}.Build()
	q := imagetest.Shapes()[0].Build()
	guest := bytes.Repeat([]byte("a raw disk\x01s content. "), 5000)
	for name, inner := range map[string]struct {
		image, guest []byte
		stream       bool
	}{
		"disk.raw":    {guest, guest, true},
		"export.vmdk": {m.Bytes, m.Guest, true},
		"sparse.vmdk": {sparse.Bytes, sparse.Guest, false},
		"disk.qcow2":  {q.Bytes, q.Guest, false},
		"package.ova": {imagetest.OVA{Digest: "SHA256", Disks: []imagetest.PackedDisk{
			{Name: "disk.vmdk", Data: m.Bytes, URI: imagetest.URIStream, Capacity: int64(len(m.Guest))}}}.Build(), m.Guest, true},
	} {
		half := len(inner.image) / 2
		for ending, file := range map[string][]byte{
			".gz":      imagetest.Gzip(inner.image),
			".members": append(imagetest.Gzip(inner.image[:half]), imagetest.Gzip(inner.image[half:])...), // not its name says so
			".zst":     zstdOf(inner.image),
			".tar":     tarOf(name, inner.image),
			".tar.gz":  imagetest.Gzip(tarOf(name, inner.image)),
			".tar.zst": zstdOf(tarOf(name, inner.image)),
		} {
			if testing.Short() && ending != ".members" && ending != ".tar.zst" {
				continue
			}
			t.Run(name+ending, func(t *testing.T) {
				o := convert.OpenOptions{Name: name + ending, Unwrap: ending == ".members"}
				s, err := convert.OpenStream(t.Context(), bytes.NewReader(file), o)
				if inner.stream {
					require.NoError(t, err)
					target := filepath.Join(t.TempDir(), "target")
					r, err := convert.StreamToFile(t.Context(), target, s, convert.Options{})
					require.NoError(t, err)
					require.Empty(t, r.Notes)
					require.NoError(t, s.Close())
					got, err := os.ReadFile(target)
					require.NoError(t, err)
					require.True(t, bytes.Equal(inner.guest, got))
				} else {
					require.ErrorIs(t, err, diskimage.ErrUnsupported)
					require.ErrorContains(t, err, "--spool")
				}

				src := imagetest.Source(file)
				_, err = convert.Open(t.Context(), src, o)
				require.ErrorIs(t, err, diskimage.ErrUnsupported)
				require.ErrorContains(t, err, "--spool")
				o.Spool = t.TempDir()
				d, err := convert.Open(t.Context(), src, o)
				require.NoError(t, err)
				require.True(t, bytes.Equal(inner.guest, contentOf(t, d)))
				require.NoError(t, d.Close())

				what, err := convert.Wrapped(src, o)
				require.NoError(t, err)
				require.NotEmpty(t, what)
				o = convert.OpenOptions{Name: "disk.img"} // neither asked for nor said
				what, err = convert.Wrapped(src, o)
				require.NoError(t, err)
				require.Empty(t, what)
				_, err = convert.Open(t.Context(), src, o)
				require.ErrorIs(t, err, diskimage.ErrFormat)
				_, err = convert.OpenStream(t.Context(), bytes.NewReader(file), o)
				require.ErrorIs(t, err, diskimage.ErrFormat)
			})
		}
	}
}

// TestHostileWrapping is row R14 of what a wrapper can do, and what else: the
// verdict of a stream and of a copy are the same, and nothing appears.
func TestHostileWrapping(t *testing.T) {
	disk := bytes.Repeat([]byte("content\x01"), 9000)
	file := imagetest.Gzip(disk)
	inTar := imagetest.Gzip(tarOf("disk.raw", disk))
	flipped := bytes.Clone(file)
	flipped[len(flipped)-7] ^= 1
	two := imagetest.Gzip(imagetest.Tar(imagetest.Member{Name: "a.raw", Data: disk}, imagetest.Member{Name: "b.raw", Data: disk}))
	for _, c := range []struct {
		name string
		file []byte
		o    convert.OpenOptions
		kind diskimage.ErrorKind
		text string
	}{
		{"truncated", file[:len(file)-9], convert.OpenOptions{}, diskimage.ErrTruncated, "gzip: the gzip data ends too early"},
		{"truncated in the archive", imagetest.Gzip(tarOf("disk.raw", disk)[:5000]), convert.OpenOptions{}, diskimage.ErrTruncated, "the archive ends too early"},
		{"cut archive", inTar[:len(inTar)-20], convert.OpenOptions{}, diskimage.ErrTruncated, "too early"},
		{"a wrong checksum", flipped, convert.OpenOptions{}, diskimage.ErrCorrupt, "gzip: the gzip data is damaged"},
		{"gzip in gzip", imagetest.Gzip(file), convert.OpenOptions{}, diskimage.ErrFormat, "content is gzip"},
		{"gzip in an archive", tarOf("disk.raw.gz", file), convert.OpenOptions{}, diskimage.ErrFormat, "content is gzip"},
		{"xz", []byte("\xfd7zXZ\x00 and more"), convert.OpenOptions{}, diskimage.ErrFormat, "content is xz"},
		{"declared otherwise", file, convert.OpenOptions{Format: convert.QCOW2}, diskimage.ErrFormat, "declared qcow2, content is no qcow2"},
		{"a bomb", zstdOf(make([]byte, 80<<20)), convert.OpenOptions{Format: convert.Raw, MaxVirtualSize: 1 << 20}, diskimage.ErrLimit, "limit of"},
		{"two files", two, convert.OpenOptions{}, diskimage.ErrUnsupported, `member "b.raw": the archive holds it besides "a.raw"`},
		{"no such file", two, convert.OpenOptions{Member: "c.raw"}, diskimage.ErrUnsupported, `holds no file "c.raw"`},
		{"a name for no archive", file, convert.OpenOptions{Member: "c.raw"}, diskimage.ErrUnsupported, `no OVA, disk "c.raw" of one was asked for`},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := c.o
			o.Unwrap = true
			dir := t.TempDir()
			s, err := convert.OpenStream(t.Context(), bytes.NewReader(c.file), o)
			if err == nil {
				_, err = convert.StreamToFile(t.Context(), filepath.Join(dir, "target"), s, convert.Options{})
			}
			require.ErrorIs(t, err, c.kind)
			require.ErrorContains(t, err, c.text)

			o.Spool = dir
			_, err = convert.Open(t.Context(), imagetest.Source(c.file), o)
			require.ErrorIs(t, err, c.kind)
			require.ErrorContains(t, err, c.text)
			left, err := os.ReadDir(dir)
			require.NoError(t, err)
			require.Empty(t, left)
		})
	}

	o := convert.OpenOptions{Unwrap: true, Member: "b.raw"}
	s, err := convert.OpenStream(t.Context(), bytes.NewReader(two), o)
	require.NoError(t, err)
	_, err = convert.StreamToFile(t.Context(), filepath.Join(t.TempDir(), "target"), s, convert.Options{})
	require.NoError(t, err)

	o = convert.OpenOptions{Unwrap: true, Spool: t.TempDir()}
	s, err = convert.OpenStream(t.Context(), bytes.NewReader(append(file, "garbage"...)), o)
	require.NoError(t, err)
	r, err := convert.StreamToFile(t.Context(), filepath.Join(t.TempDir(), "target"), s, convert.Options{})
	require.NoError(t, err)
	require.Len(t, r.Notes, 1)
	require.Contains(t, r.Notes[0].Text, "something follows the gzip data")
	d, err := convert.Open(t.Context(), imagetest.Source(append(file, "garbage"...)), o)
	require.NoError(t, err)
	require.Equal(t, r.Notes, diskimage.NotesOf(d))
	require.NoError(t, d.Close())
}
