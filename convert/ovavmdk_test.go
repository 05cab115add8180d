package convert

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/internal/disktest"
	"github.com/diskimage-go/diskimage/internal/imagetest"
	"github.com/diskimage-go/diskimage/vmdk"
)

// TestPackagedVMDK holds that an export's disk is the same from a file and
// from a pipe, and stays a VMDK with all that it can: its grains are moved.
func TestPackagedVMDK(t *testing.T) {
	content := mixedContent(40)
	image := imagetest.VMDK{Dialect: imagetest.Exported}
	for off := 0; off < len(content); off += 64 << 10 {
		grain := imagetest.Grain{Kind: imagetest.Plain, Data: content[off : off+64<<10]}
		if off>>16%7 == 3 {
			grain = imagetest.Grain{Kind: imagetest.Absent}
			clear(content[off : off+64<<10])
		}
		image.Grains = append(image.Grains, grain)
	}
	for _, last := range []bool{false, true} {
		file := imagetest.OVA{Digest: "SHA256", ManifestLast: last, Disks: []imagetest.PackedDisk{
			{Name: "x-disk1.vmdk", Data: image.Build().Bytes, URI: imagetest.URIStream, Capacity: int64(len(content))}}}.Build()
		d, err := Open(t.Context(), source(file), OpenOptions{})
		require.NoError(t, err)
		require.IsType(t, (*vmdk.Disk)(nil), d)
		require.Empty(t, diskimage.NotesOf(d))
		disktest.Conform(t, d, content)

		o := Options{Format: QCOW2}
		o.QCOW2.Compression = diskimage.Deflate
		dir := t.TempDir()
		fromFile, fromPipe := filepath.Join(dir, "file"), filepath.Join(dir, "pipe")
		want, err := ToFile(t.Context(), fromFile, d, o)
		require.NoError(t, err)
		require.Positive(t, want.Moved)
		s, err := OpenStream(t.Context(), io.MultiReader(bytes.NewReader(file)), OpenOptions{})
		require.NoError(t, err)
		got, err := StreamToFile(t.Context(), fromPipe, s, o)
		require.NoError(t, err)
		require.Equal(t, want.Moved, got.Moved)
		require.Equal(t, want.Notes, got.Notes)
		a, err := os.ReadFile(fromFile)
		require.NoError(t, err)
		b, err := os.ReadFile(fromPipe)
		require.NoError(t, err)
		require.True(t, bytes.Equal(a, b))
	}
}

// TestSplitVMDKInPackage reads a disk whose extents are members of the package,
// and none that lies elsewhere.
func TestSplitVMDKInPackage(t *testing.T) {
	parts := [][]byte{bytes.Repeat([]byte{'a'}, 4096), bytes.Repeat([]byte{'b'}, 8192)}
	text := descriptorOf("twoGbMaxExtentFlat", flatLine(4096, "a.vmdk"), flatLine(8192, "b.vmdk"))
	o := imagetest.OVA{Disks: []imagetest.PackedDisk{{Name: "sub/disk.vmdk", Data: text, URI: imagetest.URIStream, Capacity: 12288}}}
	extents := []imagetest.Member{{Name: "sub/a.vmdk", Data: parts[0]}, {Name: "sub/b.vmdk", Data: parts[1]}}
	m := append(o.Members(), extents...)
	mf := imagetest.Manifest("SHA1", m...)
	open := func(mf []byte, m ...imagetest.Member) (diskimage.VirtualDisk, error) {
		return Open(t.Context(), source(imagetest.Tar(append(m, imagetest.Member{Name: "x.mf", Data: mf})...)), OpenOptions{Opener: AnyOpener()})
	}
	d, err := open(mf, m...)
	require.NoError(t, err)
	disktest.Conform(t, d, bytes.Join(parts, nil))
	require.NoError(t, d.(diskimage.Attester).Attest(t.Context()))
	require.NoError(t, d.Close())

	// A digest of an extent counts as one of the disk's own file does.
	m[3].Data = bytes.Repeat([]byte{'c'}, 8192)
	d, err = open(mf, m...)
	require.NoError(t, err)
	err = d.(diskimage.Attester).Attest(t.Context())
	require.ErrorIs(t, err, diskimage.ErrCorrupt)
	require.ErrorContains(t, err, `member "sub/b.vmdk"`)

	for _, name := range []string{"c.vmdk", "../a.vmdk", "../../etc/passwd", "/etc/passwd"} {
		m[1].Data = descriptorOf("monolithicFlat", flatLine(512, name))
		o.Disks[0].Data = m[1].Data
		m[0].Data = []byte(o.Descriptor())
		_, err = open(imagetest.Manifest("SHA1", m...), m...)
		require.ErrorIs(t, err, diskimage.ErrExternal, name)
	}
}
