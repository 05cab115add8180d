package imagetest_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage/internal/imagetest"
	"github.com/diskimage-go/diskimage/internal/peer"
)

// TestBuiltVMDKsAreSound has qemu-img check and read what is built, vmdkinfo
// look at it, and 7-Zip read the exported ones.
func TestBuiltVMDKsAreSound(t *testing.T) {
	for name, v := range imagetest.VMDKShapes() {
		t.Run(name, func(t *testing.T) {
			m := v.Build()
			dir := t.TempDir()
			file, raw := filepath.Join(dir, "disk.vmdk"), filepath.Join(dir, "raw")
			require.NoError(t, os.WriteFile(file, m.Bytes, 0o600))
			require.Contains(t, peer.Run(t, "qemu-img", "check", file), "No errors were found")
			peer.Run(t, "qemu-img", "convert", "-O", "raw", file, raw)
			got, err := os.ReadFile(raw)
			require.NoError(t, err)
			require.True(t, bytes.Equal(m.Guest, got))
			if v.Grain > 8 { // libvmdk takes "greater than 8" by the letter
				require.Contains(t, peer.Run(t, "vmdkinfo", file), "Number of extents:\t\t1")
			}
			if strings.HasPrefix(name, "exported") {
				require.True(t, peer.Run(t, "7z", "e", "-so", file) == string(m.Guest))
			}
		})
	}
}
