package convert_test

import (
	"bytes"
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

// vmdkDigest is of the disk that VMware's sample images show.
const vmdkDigest = "a3bcf05f07a1c06a3380eeca8571f0efb2b85afafa1e21662b8cad436d1f7727"

// openProduct opens an image, which may name files in its own folder.
func openProduct(t *testing.T, path string) diskimage.VirtualDisk {
	t.Helper()
	opener, err := convert.NewDirOpener(filepath.Dir(path))
	require.NoError(t, err)
	defer opener.Close()
	d, err := convert.OpenFile(t.Context(), path, convert.OpenOptions{Opener: opener})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, d.Close()) })
	return d
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

		"monolithicSparse.vmdk":     {10 << 20, vmdkDigest},
		"twoGbMaxExtentSparse.vmdk": {10 << 20, vmdkDigest},
		"streamOptimized.vmdk":      {10 << 20, vmdkDigest},

		"ntfs-fixed.vhd":        {4 << 20, "cd81fade3878f1b2957f1ece168201876bdf4e90c9b30f60c2f232eba5fea76c"},
		"ntfs-dynamic.vhd":      {4 << 20, "8b10b52e3d1e76075d05a5101a6536b9fa8376a5b8f7c22f502d0987d165c876"},
		"ntfs-parent.vhd":       {4 << 20, "c91d1766dd4b3327f33a082cbf958d3566dd84a3d71c2473a5ae6155e53171de"},
		"ntfs-differential.vhd": {4 << 20, "b7922a46a6b08fa4f4fc0c51a25d5587d1d49f15cfade45ca740dd07110ae144"},
	} {
		t.Run(name, func(t *testing.T) {
			path := product(t, name)
			if testing.Short() && want.size > 1<<20 {
				t.Skip("large, in short mode")
			}
			d := openProduct(t, path)
			require.Equal(t, want.size, d.Size())
			sum := sha256.New()
			_, err := io.Copy(sum, io.NewSectionReader(d, 0, d.Size()))
			require.NoError(t, err)
			require.Equal(t, want.digest, hex.EncodeToString(sum.Sum(nil)))
		})
	}
}

// TestLargeProductImages holds the content of images that say nothing of most
// of a large disk.
func TestLargeProductImages(t *testing.T) {
	d := openProduct(t, product(t, "ubuntu.2.0-disk1.vmdk"))
	require.EqualValues(t, int64(8<<30), d.Size())
	for e, err := range diskimage.Extents(d, 0, d.Size()) {
		require.NoError(t, err)
		require.True(t, e.IsZero(), "%+v", e)
	}

	d = openProduct(t, product(t, "virtualpc-dynamic.vhd"))
	require.EqualValues(t, int64(136365211648), d.Size())
	for e, err := range diskimage.Extents(d, 0, d.Size()) {
		require.NoError(t, err)
		require.True(t, e.IsZero(), "%+v", e)
	}

	// 512 bytes at i*640 KiB + i*512 are all the digit i mod 10, and the next
	// 512 are zeros.
	d = openProduct(t, product(t, "iotest-version3.vmdk"))
	require.EqualValues(t, int64(16<<30), d.Size())
	for i := range int64(100) {
		got := make([]byte, 1024)
		_, err := d.ReadAt(got, i*(640<<10+512))
		require.NoError(t, err)
		require.Equal(t, append(bytes.Repeat([]byte{'0' + byte(i%10)}, 512), make([]byte, 512)...), got, i)
	}
}

// TestDamagedProductImages holds that what cannot be right is refused at once.
func TestDamagedProductImages(t *testing.T) {
	for name, want := range map[string]diskimage.ErrorKind{
		"aws-export-header-only.vmdk": diskimage.ErrTruncated,
		"afl9.vmdk":                   diskimage.ErrCorrupt,
		"afl5.img":                    diskimage.ErrTruncated,
	} {
		_, err := convert.OpenFile(t.Context(), product(t, name), convert.OpenOptions{})
		require.ErrorIs(t, err, want, name)
	}
}
