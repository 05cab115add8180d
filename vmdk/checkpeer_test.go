package vmdk_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/internal/disktest"
	"github.com/diskimage-go/diskimage/internal/imagetest"
	"github.com/diskimage-go/diskimage/internal/peer"
	"github.com/diskimage-go/diskimage/vmdk"
)

// dir opens what images name in a folder.
type dir string

func (d dir) OpenSource(_ context.Context, ref diskimage.Reference) (diskimage.Source, error) {
	b, err := os.ReadFile(filepath.Join(string(d), filepath.Base(ref.Name)))
	return imagetest.Source(b), err
}

func (d dir) OpenDisk(ctx context.Context, ref diskimage.Reference) (diskimage.VirtualDisk, error) {
	src, err := d.OpenSource(ctx, ref)
	if err != nil {
		return nil, err
	}
	return vmdk.Open(ctx, src, vmdk.Options{Name: ref.Name, Opener: d, Depth: ref.Depth})
}

func checkFile(t *testing.T, name string) (*vmdk.CheckResult, []string, error) {
	t.Helper()
	b, err := os.ReadFile(name)
	require.NoError(t, err)
	return check(t, b, vmdk.CheckOptions{Opener: dir(filepath.Dir(name)), Data: true})
}

// TestCheckAsPeer has qemu-img write every subformat, and finds as little
// wrong with it as qemu-img check does.
func TestCheckAsPeer(t *testing.T) {
	folder := t.TempDir()
	raw := filepath.Join(folder, "disk.raw")
	peer.Run(t, "qemu-img", "create", "-f", "raw", raw, "40M")
	peer.Run(t, "qemu-io", "-f", "raw", "-c", "write -P 5 100k 300k", "-c", "write -P 6 35M 70k", "-c", "write -P 7 40959k 1k", raw)
	for name, options := range map[string]string{
		"sparse":       "subformat=monolithicSparse",
		"zeroed":       "subformat=monolithicSparse,zeroed_grain=on",
		"compat6":      "compat6",
		"stream":       "subformat=streamOptimized",
		"flat":         "subformat=monolithicFlat",
		"split-sparse": "subformat=twoGbMaxExtentSparse",
		"split-flat":   "subformat=twoGbMaxExtentFlat",
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(folder, name+".vmdk")
			peer.Run(t, "qemu-img", "convert", "-f", "raw", "-O", "vmdk", "-o", options, raw, file)
			if name == "zeroed" {
				peer.Run(t, "qemu-io", "-f", "vmdk", "-c", "write -z 0 128k", file)
			}
			require.Contains(t, peer.Run(t, "qemu-img", "check", file), "No errors were found")
			_, lines, err := checkFile(t, file)
			require.NoError(t, err)
			if name == "zeroed" {
				require.Len(t, lines, 1, "the grain that gave way to zeros")
				return
			}
			require.Empty(t, lines)
		})
	}
	t.Run("overlay", func(t *testing.T) {
		file := filepath.Join(folder, "overlay.vmdk")
		peer.Run(t, "qemu-img", "convert", "-f", "raw", "-O", "vmdk", raw, filepath.Join(folder, "base.vmdk"))
		peer.Run(t, "qemu-img", "create", "-f", "vmdk", "-b", "base.vmdk", "-F", "vmdk", file)
		peer.Run(t, "qemu-io", "-f", "vmdk", "-c", "write -P 8 1M 64k", file)
		_, lines, err := checkFile(t, file)
		require.NoError(t, err)
		require.Empty(t, lines)
	})
}

// TestCheckFindsWhatPeerFinds holds that whatever qemu-img check complains of
// is refused, or complained of here.
func TestCheckFindsWhatPeerFinds(t *testing.T) {
	file := filepath.Join(t.TempDir(), "image.vmdk")
	found := 0
	for _, c := range imagetest.VMDKCases() {
		b := c.Build()
		if len(c.Files) > 0 || c.Kind == diskimage.ErrExternal || len(b) > 1<<20 {
			continue
		}
		require.NoError(t, os.WriteFile(file, b, 0o600))
		if _, code := peer.Try(t, "qemu-img", "check", "-f", "vmdk", file); code == 0 {
			continue
		}
		found++
		if r, _, err := check(t, b, vmdk.CheckOptions{}); err == nil {
			require.Positive(t, r.Corruptions+r.CheckErrors, "%s %s", c.ID, c.Name)
		}
	}
	require.Greater(t, found, 20)
}

// TestCheckProducts finds nothing wrong with images of real products.
func TestCheckProducts(t *testing.T) {
	samples := os.Getenv("DISKIMAGE_SAMPLES")
	if samples == "" {
		t.Skip("DISKIMAGE_SAMPLES is not set")
	}
	for _, name := range []string{"monolithicSparse.vmdk", "twoGbMaxExtentSparse.vmdk", "streamOptimized.vmdk", "ubuntu.2.0-disk1.vmdk", "iotest-version3.vmdk"} {
		_, lines, err := checkFile(t, filepath.Join(samples, name))
		require.NoError(t, err, name)
		require.Empty(t, lines, name)
	}
	for _, name := range []string{"aws-export-header-only.vmdk", "afl9.vmdk"} {
		disktest.Bounded(t, func() {
			_, _, err := checkFile(t, filepath.Join(samples, name))
			require.Error(t, err)
			t.Log(err)
		})
	}
}
