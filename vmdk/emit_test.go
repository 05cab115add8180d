package vmdk

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage/internal/peer"
)

func TestEmitDescriptor(t *testing.T) {
	d := newDescriptor("twoGbMaxExtentFlat", 0x1234, []extentLine{
		{access: accessRW, sectors: 4194304, kind: kindFlat, fileName: "d-f001.vmdk"},
		{access: accessRW, sectors: 2097152, kind: kindFlat, fileName: "d-f002.vmdk"},
	}, "lsilogic", 7, "2147483647")
	want := `# Disk DescriptorFile
version=1
encoding="UTF-8"
CID=00001234
parentCID=ffffffff
createType="twoGbMaxExtentFlat"

# Extent description
RW 4194304 FLAT "d-f001.vmdk" 0
RW 2097152 FLAT "d-f002.vmdk" 0

# The Disk Data Base
#DDB

ddb.virtualHWVersion = "7"
ddb.geometry.cylinders = "391"
ddb.geometry.heads = "255"
ddb.geometry.sectors = "63"
ddb.adapterType = "lsilogic"
ddb.toolsVersion = "2147483647"
`
	require.Equal(t, want, string(d.emit()))
	parsed, err := parseDescriptor(d.emit(), 0)
	require.NoError(t, err)
	require.Empty(t, cmp.Diff(d, parsed, compareDescriptors))
}

// TestPeersReadEmitted holds that other readers take what emit writes.
func TestPeersReadEmitted(t *testing.T) {
	dir := t.TempDir()
	d := newDescriptor("monolithicFlat", 0xc0ffee11, []extentLine{
		{access: accessRW, sectors: 2048, kind: kindFlat, fileName: "über d-flat.vmdk"},
	}, "ide", 4, "0")
	require.NoError(t, os.WriteFile(filepath.Join(dir, "d.vmdk"), d.emit(), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "über d-flat.vmdk"), make([]byte, 1<<20), 0o600))
	t.Run("qemu-img", func(t *testing.T) {
		out := peer.Run(t, "qemu-img", "info", "--output=json", filepath.Join(dir, "d.vmdk"))
		require.Contains(t, string(out), `"create-type": "monolithicFlat"`)
		require.Contains(t, string(out), `"cid": 3237998097`)
		require.Contains(t, string(out), `"virtual-size": 1048576`)
	})
	t.Run("vmdkinfo", func(t *testing.T) {
		out := peer.Run(t, "vmdkinfo", filepath.Join(dir, "d.vmdk"))
		require.Contains(t, string(out), "0xc0ffee11")
		require.Contains(t, string(out), "über d-flat.vmdk")
	})
}

func TestCheckText(t *testing.T) {
	for _, s := range []string{"", "disk.vmdk", "a b", "über.vmdk", `C:\a|22b`, "#x", "a=b"} {
		require.NoError(t, checkText("file name", s), "%q", s)
	}
	for _, s := range []string{`a"b`, "a\nb", "a\rb", "a\x00b", "a\xff", " a", "a\t"} {
		require.Error(t, checkText("file name", s), "%q", s)
	}
}

func TestDeriveCID(t *testing.T) {
	base := deriveCID(1<<30, "streamOptimized ide 4", nil)
	require.Equal(t, base, deriveCID(1<<30, "streamOptimized ide 4", nil))
	require.Equal(t, uint32(0x87a07c53), base, "images keep their identifier from version to version")
	seen := map[uint32]string{base: "base"}
	for name, cid := range map[string]uint32{
		"size":    deriveCID(1<<30+512, "streamOptimized ide 4", nil),
		"options": deriveCID(1<<30, "streamOptimized ide 5", nil),
		"seed":    deriveCID(1<<30, "streamOptimized ide 4", []byte{0}),
		"moved":   deriveCID(1<<30, "streamOptimized ide ", []byte("4")),
	} {
		require.Empty(t, seen[cid], name)
		seen[cid] = name
	}
}
