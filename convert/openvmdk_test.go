package convert

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
	"github.com/diskimage-go/diskimage/internal/peer"
	"github.com/diskimage-go/diskimage/vmdk"
)

// descriptorOf returns a descriptor with these extent lines, or other lines.
func descriptorOf(createType string, lines ...string) []byte {
	return fmt.Appendf(nil, "# Disk DescriptorFile\nversion=1\nCID=12345678\nparentCID=ffffffff\ncreateType=%q\n\n# Extent description\n%s\n",
		createType, strings.Join(lines, "\n"))
}

// flatLine is an extent of so many bytes of a file.
func flatLine(bytes int, name string) string { return fmt.Sprintf("RW %d FLAT %q 0", bytes/512, name) }

func TestOpenerFollowsExtents(t *testing.T) {
	ctx, dir := context.Background(), t.TempDir()
	part := func(c byte) []byte { return bytes.Repeat([]byte{c}, 4096) }
	here := put(t, part('h'), dir, "part.bin")
	put(t, part('s'), dir, "sub", "part.bin")
	require.NoError(t, os.Symlink("part.bin", filepath.Join(dir, "link")))
	for name, want := range map[string]struct {
		file string
		byte
	}{
		"relative":    {"part.bin", 'h'},
		"dot":         {"./part.bin", 'h'},
		"in a folder": {"sub/part.bin", 's'},
		"absolute":    {here, 'h'},
		"link":        {"link", 'h'},
	} {
		image := put(t, descriptorOf("monolithicFlat", flatLine(4096, want.file)), dir, "disk.vmdk")
		for kind, opener := range openers(t, dir) {
			t.Run(name+"/"+kind, func(t *testing.T) {
				d, err := OpenFile(ctx, image, OpenOptions{Opener: opener})
				require.NoError(t, err)
				require.Equal(t, VMDK, FormatOf(d))
				require.Equal(t, want.byte, firstByte(t, d))
			})
		}
	}
}

// An extent is opened by the opener only, which follows names of files inside
// its folder; and no extent is an image above it.
func TestExtentsAreConfined(t *testing.T) {
	ctx, outside := context.Background(), t.TempDir()
	dir := filepath.Join(outside, "dir")
	require.NoError(t, os.Mkdir(dir, 0o777))
	secret := put(t, make([]byte, 4096), outside, "secret")
	require.NoError(t, os.Symlink(secret, filepath.Join(dir, "link")))
	require.NoError(t, os.Symlink("disk.vmdk", filepath.Join(dir, "loop")))
	for name, tc := range map[string]struct {
		file string
		kind error
	}{
		"absolute":              {secret, diskimage.ErrExternal},
		"passwd":                {"/etc/passwd", diskimage.ErrExternal},
		"dots":                  {"../secret", diskimage.ErrExternal},
		"many dots":             {"../../../../etc/passwd", diskimage.ErrExternal},
		"link":                  {"link", diskimage.ErrExternal},
		"json":                  {`json:{}`, diskimage.ErrExternal},
		"url":                   {"http://127.0.0.1:1/disk", diskimage.ErrExternal},
		"nbd":                   {"nbd://127.0.0.1:1/", diskimage.ErrExternal},
		"itself":                {"disk.vmdk", diskimage.ErrCorrupt},
		"itself, by a link":     {"loop", diskimage.ErrCorrupt},
		"itself, by its folder": {"./../dir/disk.vmdk", diskimage.ErrExternal},
		"missing":               {"missing", os.ErrNotExist},
	} {
		t.Run(name, func(t *testing.T) {
			image := put(t, descriptorOf("monolithicFlat", flatLine(512, strings.ReplaceAll(tc.file, `"`, ""))), dir, "disk.vmdk")
			_, err := OpenFile(ctx, image, OpenOptions{Opener: dirOpener(t, dir)})
			require.ErrorIs(t, err, tc.kind)
			_, err = OpenFile(ctx, image, OpenOptions{})
			require.ErrorIs(t, err, diskimage.ErrExternal)
			d, err := OpenFile(ctx, image, OpenOptions{SkipExternal: true})
			require.NoError(t, err)
			require.Equal(t, int64(512), d.Size())
			require.NoError(t, d.Close())
		})
	}
}

// A guest that writes a descriptor to its raw disk does not get a file of the
// host's to read.
func TestGuestsDescriptorIsRefused(t *testing.T) {
	disk := make([]byte, 1<<20)
	copy(disk, descriptorOf("monolithicFlat", flatLine(512, "/etc/passwd")))
	_, err := Open(context.Background(), source(disk), OpenOptions{})
	require.ErrorIs(t, err, diskimage.ErrExternal)
	_, err = Open(context.Background(), source(disk), OpenOptions{Format: Raw})
	require.ErrorIs(t, err, diskimage.ErrFormat)
}

// What QEMU makes of every kind, alone or in a chain, reads as what went in.
func TestOpenPeersVMDK(t *testing.T) {
	ctx, dir := context.Background(), t.TempDir()
	content := mixedContent(40)
	disk := put(t, content, dir, "disk.raw")
	for _, subformat := range []string{"monolithicSparse", "monolithicFlat", "twoGbMaxExtentSparse", "twoGbMaxExtentFlat", "streamOptimized"} {
		t.Run(subformat, func(t *testing.T) {
			image := filepath.Join(dir, subformat+".vmdk")
			peer.Run(t, "qemu-img", "convert", "-f", "raw", "-O", "vmdk", "-o", "subformat="+subformat, disk, image)
			d, err := OpenFile(ctx, image, OpenOptions{Opener: dirOpener(t, dir)})
			require.NoError(t, err)
			defer d.Close()
			require.Equal(t, VMDK, FormatOf(d))
			require.Equal(t, subformat, d.(*vmdk.Disk).Info().CreateType)
			got, err := io.ReadAll(io.NewSectionReader(d, 0, d.Size()))
			require.NoError(t, err)
			require.True(t, bytes.Equal(content, got))
			_, err = OpenFile(ctx, image, OpenOptions{Opener: dirOpener(t, dir), Snapshot: "1"})
			require.ErrorIs(t, err, diskimage.ErrUnsupported)

			over := filepath.Join(dir, subformat+"-over.vmdk")
			peer.Run(t, "qemu-img", "create", "-q", "-f", "vmdk", "-b", subformat+".vmdk", "-F", "vmdk", over)
			peer.Run(t, "qemu-io", "-f", "vmdk", "-c", "write -P 9 100k 64k", over)
			d, err = OpenFile(ctx, over, OpenOptions{Opener: dirOpener(t, dir)})
			require.NoError(t, err)
			defer d.Close()
			want := bytes.Clone(content)
			copy(want[100<<10:], bytes.Repeat([]byte{9}, 64<<10))
			got, err = io.ReadAll(io.NewSectionReader(d, 0, d.Size()))
			require.NoError(t, err)
			require.True(t, bytes.Equal(want, got))
			_, err = OpenFile(ctx, over, OpenOptions{})
			require.ErrorIs(t, err, diskimage.ErrExternal)

			// A parent that was written to is another one.
			if subformat == "monolithicSparse" {
				peer.Run(t, "qemu-io", "-f", "vmdk", "-c", "write -P 8 0 512", image)
				_, err = OpenFile(ctx, over, OpenOptions{Opener: dirOpener(t, dir)})
				require.ErrorIs(t, err, diskimage.ErrCorrupt)
			}
		})
	}
}

// A chain that leads back to its start ends there.
func TestParentsInACircle(t *testing.T) {
	ctx, dir := context.Background(), t.TempDir()
	for name, parent := range map[string]string{"a.vmdk": "b.vmdk", "b.vmdk": "a.vmdk", "self.vmdk": "self.vmdk"} {
		text := string(descriptorOf("monolithicFlat", flatLine(512, "part.bin")))
		text = strings.Replace(text, "parentCID=ffffffff", "parentCID=12345678\nparentFileNameHint=\""+parent+"\"", 1)
		put(t, []byte(text), dir, name)
	}
	put(t, make([]byte, 512), dir, "part.bin")
	for _, name := range []string{"a.vmdk", "self.vmdk"} {
		_, err := OpenFile(ctx, filepath.Join(dir, name), OpenOptions{Opener: dirOpener(t, dir)})
		require.ErrorIs(t, err, diskimage.ErrCorrupt)
		require.ErrorContains(t, err, "in a circle")
	}
}
