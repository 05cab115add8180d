package convert_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/convert"
	"github.com/diskimage-go/diskimage/internal/disktest"
	"github.com/diskimage-go/diskimage/internal/imagetest"
	"github.com/diskimage-go/diskimage/qcow2"
)

// contentOf returns the whole of a disk.
func contentOf(t *testing.T, d diskimage.VirtualDisk) []byte {
	t.Helper()
	p := make([]byte, d.Size())
	n, err := d.ReadAt(p, 0)
	if err != io.EOF {
		require.NoError(t, err)
	}
	require.Len(t, p, n)
	return p
}

// baseContent returns what the disk of imagetest.Base holds.
func baseContent(t *testing.T) []byte {
	t.Helper()
	d, err := qcow2.Open(t.Context(), imagetest.Source(imagetest.Base().Bytes), qcow2.Options{})
	require.NoError(t, err)
	return contentOf(t, d)
}

// TestHostilePackages holds what opening and converting say of the cases, and
// that no target appears where they are refused.
func TestHostilePackages(t *testing.T) {
	want := baseContent(t)
	for _, c := range imagetest.OVACases() {
		t.Run(c.Name, func(t *testing.T) {
			dir := t.TempDir()
			name := filepath.Join(dir, "x.ova")
			require.NoError(t, os.WriteFile(name, c.Build(), 0o666))
			target := filepath.Join(dir, "target")
			d, err := convert.OpenFile(t.Context(), name, convert.OpenOptions{})
			if c.Kind != "" && c.Stage == imagetest.AtOpen {
				require.ErrorIs(t, err, c.Kind)
				require.ErrorContains(t, err, c.Field)
				return
			}
			require.NoError(t, err)
			defer d.Close()
			require.Equal(t, convert.QCOW2, convert.FormatOf(d))
			disktest.Conform(t, d, want)
			if c.Note != "" {
				require.Contains(t, fmt.Sprint(diskimage.NotesOf(d)), c.Note)
			}
			_, err = convert.ToFile(t.Context(), target, d, convert.Options{})
			if c.Kind == "" {
				require.NoError(t, err)
				got, err := os.ReadFile(target)
				require.NoError(t, err)
				require.True(t, bytes.Equal(want, got))
				return
			}
			require.ErrorIs(t, err, c.Kind)
			require.ErrorContains(t, err, c.Field)
			require.NoFileExists(t, target)
		})
	}
}

// TestManifestOfEveryFormat holds that a disk is held against the package's
// manifest whatever its format is.
func TestManifestOfEveryFormat(t *testing.T) {
	for format, disk := range map[convert.Format][]byte{
		convert.QCOW2: imagetest.Base().Bytes, convert.VMDK: imagetest.VMDKBase().Bytes, convert.VHD: imagetest.VHDBase().Bytes,
		convert.Raw: bytes.Repeat([]byte{7}, 64<<10),
	} {
		o := imagetest.OVA{Disks: []imagetest.PackedDisk{{Name: "disk", Data: disk, URI: "?"}}, Digest: "SHA256"}
		for _, sound := range []bool{true, false} {
			m := o.Members()
			if last := &m[len(m)-1]; !sound {
				last.Data = bytes.Clone(last.Data)
				last.Data[len(disk)-4096]++ // of the disk's data
			}
			d, err := convert.Open(t.Context(), imagetest.Source(imagetest.Tar(m...)), convert.OpenOptions{})
			require.NoError(t, err)
			require.Equal(t, format, convert.FormatOf(d))
			_, err = convert.ToFile(t.Context(), filepath.Join(t.TempDir(), "target"), d, convert.Options{})
			if sound {
				require.NoError(t, err, format)
			} else {
				require.ErrorIs(t, err, diskimage.ErrCorrupt, format)
				require.ErrorContains(t, err, "SHA256 digest")
			}
			require.NoError(t, d.Close())
		}
	}
}

// TestPackageIsNoOtherFormat holds that a declared format is the file's own.
func TestPackageIsNoOtherFormat(t *testing.T) {
	src := imagetest.Source(imagetest.BaseOVA().Build())
	f, err := convert.Detect(src)
	require.NoError(t, err)
	require.Equal(t, convert.OVA, f)
	for _, f := range []convert.Format{convert.Raw, convert.QCOW2, convert.VMDK} {
		_, err := convert.Open(t.Context(), src, convert.OpenOptions{Format: f})
		require.ErrorIs(t, err, diskimage.ErrFormat)
		require.ErrorContains(t, err, fmt.Sprintf("declared %v, content is ova", f))
	}
	d, err := convert.Open(t.Context(), src, convert.OpenOptions{Format: convert.Raw, RawAnyway: true})
	require.NoError(t, err)
	require.Equal(t, src.Size(), d.Size())

	_, err = convert.Open(t.Context(), imagetest.Source(imagetest.Base().Bytes), convert.OpenOptions{Member: "1"})
	require.ErrorIs(t, err, diskimage.ErrUnsupported)
	require.ErrorContains(t, err, "this is no OVA")
	_, err = convert.Open(t.Context(), imagetest.Source(imagetest.Tar(imagetest.Member{Name: "disk.qcow2"})), convert.OpenOptions{})
	require.ErrorContains(t, err, "content is tar, which is no disk image")

	// An image of another names no package.
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "base.ova"), imagetest.BaseOVA().Build(), 0o666))
	opener, err := convert.NewDirOpener(dir)
	require.NoError(t, err)
	defer opener.Close()
	_, err = opener.OpenDisk(t.Context(), diskimage.Reference{Name: "base.ova", Depth: 1})
	require.ErrorIs(t, err, diskimage.ErrUnsupported)
}

func TestPackageDisks(t *testing.T) {
	o := imagetest.BaseOVA()
	second := o.Disks[0]
	second.Name, second.Data, second.URI = "second.img", bytes.Repeat([]byte{7}, 1<<20), imagetest.URIRaw
	o.Disks = append(o.Disks, second)
	src := imagetest.Source(o.Build())
	disks, err := convert.PackageDisks(t.Context(), src)
	require.NoError(t, err)
	require.Equal(t, []convert.PackageDisk{
		{Number: 1, ID: "vmdisk1", File: "disk.qcow2", Capacity: 256 << 10, Format: imagetest.URIQCOW2},
		{Number: 2, ID: "vmdisk2", File: "second.img", Capacity: 256 << 10, Format: imagetest.URIRaw},
	}, disks)
	for _, which := range []string{"2", "second.img", "vmdisk2"} {
		d, err := convert.Open(t.Context(), src, convert.OpenOptions{Member: which})
		require.NoError(t, err)
		require.Equal(t, convert.Raw, convert.FormatOf(d))
		disktest.Conform(t, d, second.Data)
	}
	for _, which := range []string{"", "0", "3", "x.ovf", "disk"} {
		_, err := convert.Open(t.Context(), src, convert.OpenOptions{Member: which})
		require.ErrorIs(t, err, diskimage.ErrUnsupported)
		require.ErrorContains(t, err, `1 ("disk.qcow2", 262144 bytes), 2 ("second.img", 262144 bytes)`)
	}
	disks, err = convert.PackageDisks(t.Context(), imagetest.Source(imagetest.Base().Bytes))
	require.NoError(t, err)
	require.Empty(t, disks)
}

// A watched package counts how often it is closed, and can change.
type watched struct {
	diskimage.Source
	closed int
	change error
}

func (w *watched) Close() error   { w.closed++; return nil }
func (w *watched) Changed() error { return w.change }

func TestPackageIsClosedAndWatched(t *testing.T) {
	src := &watched{Source: imagetest.Source(imagetest.BaseOVA().Build())}
	d, err := convert.Open(t.Context(), src, convert.OpenOptions{})
	require.NoError(t, err)
	require.NoError(t, d.(diskimage.ChangeDetector).Changed())
	src.change = diskimage.ErrChanged
	require.ErrorIs(t, d.(diskimage.ChangeDetector).Changed(), diskimage.ErrChanged)
	require.NoError(t, d.Close())
	require.Equal(t, 1, src.closed)

	src.Source = imagetest.Source(imagetest.BaseOVA().Build()[:4096])
	_, err = convert.Open(t.Context(), src, convert.OpenOptions{})
	require.Error(t, err)
	require.Equal(t, 1, src.closed, "after an error it is left to the caller")
}

// TestAttest holds what a wrong digest does to each way out.
func TestAttest(t *testing.T) {
	var file []byte
	for _, c := range imagetest.OVACases() {
		if c.Stage == imagetest.AtAttest {
			file = c.Build()
		}
	}
	open := func() diskimage.VirtualDisk {
		d, err := convert.Open(t.Context(), imagetest.Source(file), convert.OpenOptions{})
		require.NoError(t, err)
		return d
	}
	for _, workers := range []int{1, 4} {
		var out bytes.Buffer
		o := convert.Options{Format: convert.QCOW2, Workers: workers}
		_, err := convert.ToWriter(t.Context(), &out, open(), o)
		require.ErrorIs(t, err, diskimage.ErrCorrupt)
		require.Empty(t, out.Bytes(), "two passes: nothing is emitted before the first is attested")

		o.Format = convert.Raw
		_, err = convert.ToWriter(t.Context(), &out, open(), o)
		require.ErrorIs(t, err, diskimage.ErrCorrupt)

		for _, o.Format = range []convert.Format{convert.Raw, convert.QCOW2} {
			out.Reset()
			o.Salvage = true
			r, err := convert.ToWriter(t.Context(), &out, open(), o)
			require.NoError(t, err)
			require.Equal(t, 1, strings.Count(fmt.Sprint(r.Notes), "its SHA256 digest is"), r.Notes)
		}
	}

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, open().(diskimage.Attester).Attest(ctx), context.Canceled)
	require.ErrorIs(t, open().(diskimage.Attester).Attest(t.Context()), diskimage.ErrCorrupt)
}
