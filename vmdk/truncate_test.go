package vmdk_test

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage/internal/disktest"
	"github.com/diskimage-go/diskimage/internal/imagetest"
	"github.com/diskimage-go/diskimage/vmdk"
)

// TestTruncated cuts a file of each kind at every sector and beside it. What is
// cut off is found before anything is written: by opening the image, or by its
// map. What reads the same without what is missing is padding.
func TestTruncated(t *testing.T) {
	disktest.Alone(t)
	for name, f := range flippedImages() {
		t.Run(name, func(t *testing.T) {
			whole := f.files[f.file]
			refused := 0
			for n := range len(whole) {
				if at := n % 512; at > 1 && at != 256 && at != 511 {
					continue
				}
				f.files[f.file] = whole[:n:n]
				d, err := vmdk.Open(t.Context(), imagetest.Source(f.files["disk.vmdk"]), vmdk.Options{Name: "disk.vmdk", Opener: &folder{files: f.files}})
				if err == nil {
					err = d.CheckMap()
				}
				if err != nil {
					refused++
					continue
				}
				got, err := byMap(d)
				require.NoError(t, err, "cut at %#x of %#x", n, len(whole))
				require.True(t, bytes.Equal(f.guest, got), "cut at %#x of %#x: it reads differently", n, len(whole))
			}
			require.Greater(t, refused, 4*(len(whole)/512-5))
		})
	}
}
