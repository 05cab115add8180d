package convert_test

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/convert"
	"github.com/stretchr/testify/require"
)

// product returns the path of one of the images made by real products that
// DISKIMAGE_SAMPLES leads to. They are not this repository's to ship.
func product(t *testing.T, name string) string {
	t.Helper()
	dir := os.Getenv("DISKIMAGE_SAMPLES")
	if dir == "" {
		t.Skip("DISKIMAGE_SAMPLES names no folder of images")
	}
	return filepath.Join(dir, name)
}

// TestProductImages holds the content of images made elsewhere against digests
// that other readers gave.
func TestProductImages(t *testing.T) {
	for name, want := range map[string]struct {
		size   int64
		digest string
	}{
		"image.qcow2":   {102400, "a9c0220b1dadd1812fc4bbe137f495d2c3b88c7b33b5a4de545d201fd31b3bc0"},
		"vsstest.qcow2": {1 << 30, "5cba558cfac0916cae697d2231dc1e17874aa262f2890f5236fb9c90b9610d0a"},
	} {
		t.Run(name, func(t *testing.T) {
			path := product(t, name)
			if testing.Short() && want.size > 1<<20 {
				t.Skip("large, in short mode")
			}
			d, err := convert.OpenFile(t.Context(), path, convert.OpenOptions{})
			require.NoError(t, err)
			defer d.Close()
			require.Equal(t, want.size, d.Size())
			sum := sha256.New()
			_, err = io.Copy(sum, io.NewSectionReader(d, 0, d.Size()))
			require.NoError(t, err)
			require.Equal(t, want.digest, hex.EncodeToString(sum.Sum(nil)))
		})
	}
}

// TestProductImagesOfOtherFormats holds that what is not read yet is known by
// its content, and refused by name, not taken for a raw disk.
func TestProductImagesOfOtherFormats(t *testing.T) {
	for name, want := range map[string]convert.Format{
		"ntfs-fixed.vhd":            convert.VHD,
		"ntfs-dynamic.vhd":          convert.VHD,
		"ntfs-parent.vhd":           convert.VHD,
		"ntfs-differential.vhd":     convert.VHD,
		"virtualpc-dynamic.vhd":     convert.VHD,
		"monolithicSparse.vmdk":     convert.VMDK,
		"twoGbMaxExtentSparse.vmdk": convert.VMDK,
		"streamOptimized.vmdk":      convert.VMDK,
		"ubuntu.2.0-disk1.vmdk":     convert.VMDK,
		"iotest-version3.vmdk":      convert.VMDK,
	} {
		t.Run(name, func(t *testing.T) {
			path := product(t, name)
			f, err := os.Open(path)
			require.NoError(t, err)
			defer f.Close()
			info, err := f.Stat()
			require.NoError(t, err)
			got, err := convert.Detect(diskimage.NewSource(f, info.Size()))
			require.NoError(t, err)
			require.Equal(t, want, got)
			_, err = convert.OpenFile(t.Context(), path, convert.OpenOptions{})
			require.ErrorIs(t, err, diskimage.ErrUnsupported)
			require.ErrorContains(t, err, want.String())
		})
	}
}
