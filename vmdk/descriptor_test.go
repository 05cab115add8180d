package vmdk

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf16"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage"
)

// compareDescriptors lets cmp look into a descriptor.
var compareDescriptors = cmp.AllowUnexported(descriptor{}, extentLine{}, setting{})

// minimal returns a descriptor with these lines between createType and the
// disk database.
func minimal(lines ...string) string {
	return "# Disk DescriptorFile\nversion=1\nCID=1af1ece4\nparentCID=ffffffff\ncreateType=\"custom\"\n" + strings.Join(lines, "\n") + "\n"
}

func TestParseDescriptor(t *testing.T) {
	flat := []extentLine{{access: accessRW, sectors: 20480, kind: kindFlat, fileName: "t-flat.vmdk"}}
	tests := []struct {
		name, text string
		want       descriptor
	}{
		{
			"QEMU", "# Disk DescriptorFile\nversion=1\nCID=8e863ceb\nparentCID=ffffffff\ncreateType=\"monolithicFlat\"\n\n" +
				"# Extent description\nRW 20480 FLAT \"t-flat.vmdk\" 0\n\n# The Disk Data Base\n#DDB\n\n" +
				"ddb.virtualHWVersion = \"4\"\nddb.adapterType = \"ide\"\n",
			descriptor{
				version: 1, cid: 0x8e863ceb, parentCID: noParentCID, createType: "monolithicFlat", extents: flat,
				ddb: []setting{{"ddb.virtualHWVersion", "4"}, {"ddb.adapterType", "ide"}},
			},
		},
		{
			"ESXi with changed block tracking", "# Disk DescriptorFile\nversion=3\nencoding=\"UTF-8\"\nCID=1ddd5c91\nparentCID=ffffffff\nisNativeSnapshot=\"no\"\ncreateType=\"vmfs\"\n\n" +
				"# Extent description\nRW 220200960 VMFS \"Bücher 1-flat.vmdk\"\n\n# Change Tracking File\nchangeTrackPath=\"VM-ctk.vmdk\"\n\n" +
				"# The Disk Data Base \n#DDB\n\nddb.longContentID = \"\"\n",
			descriptor{
				version: 3, encoding: "UTF-8", cid: 0x1ddd5c91, parentCID: noParentCID, createType: "vmfs", changeTrackPath: "VM-ctk.vmdk",
				extents:  []extentLine{{access: accessRW, sectors: 220200960, kind: kindVMFS, fileName: "Bücher 1-flat.vmdk"}},
				settings: []setting{{"isNativeSnapshot", "no"}},
				ddb:      []setting{{"ddb.longContentID", ""}},
			},
		},
		{
			"Amazon: no blank behind the first #, read-only, absolute name", "#Disk DescriptorFile\nversion=1\nCID=1af1ece4\nparentCID=ffffffff\ncreateType=\"monolithicSparse\"\n" +
				"#Extent description\nRDONLY 20971520 SPARSE \"/mnt/export.vmdk\"\n",
			descriptor{
				version: 1, cid: 0x1af1ece4, parentCID: noParentCID, createType: "monolithicSparse",
				extents: []extentLine{{access: accessReadOnly, sectors: 20971520, kind: kindSparse, fileName: "/mnt/export.vmdk"}},
			},
		},
		{
			"VirtualBox: no blanks around =", "# Disk DescriptorFile\nversion=1\nCID=255a27cd\nparentCID=ffffffff\ncreateType=\"streamOptimized\"\n\n" +
				"# Extent description\nRDONLY 16777216 SPARSE \"u.vmdk\"\n\n# The disk Data Base \n#DDB\n\nddb.adapterType=\"ide\"\nddb.comment=\"\"\n",
			descriptor{
				version: 1, cid: 0x255a27cd, parentCID: noParentCID, createType: "streamOptimized",
				extents: []extentLine{{access: accessReadOnly, sectors: 16777216, kind: kindSparse, fileName: "u.vmdk"}},
				ddb:     []setting{{"ddb.adapterType", "ide"}, {"ddb.comment", ""}},
			},
		},
		{
			"any case, blanks, tabs, CRLF, no last line end", "\r\n#  disk  DESCRIPTORFILE \r\nVersion = 2 \r\ncid = ABC\r\nPARENTCID\t=\tFFFFFFFF\r\nCreateType = \"MONOLITHICFLAT\"\r\n" +
				"  rw\t20480  flat   \"t-flat.vmdk\"\t0 \r\nDDB.AdapterType = ide",
			descriptor{
				version: 2, cid: 0xabc, parentCID: noParentCID, createType: "monolithicFlat", extents: flat,
				ddb: []setting{{"ddb.AdapterType", "ide"}},
			},
		},
		{
			"padded with NULs, a byte order mark, a delta link", "\ufeff# Disk DescriptorFile\nCID=2\nparentCID=1\ncreateType=\"2GbMaxExtentFlat\"\n" +
				"parentFileNameHint=\"C:\\VMs\\my disk.vmdk\"\nRW 20480 FLAT \"t-flat.vmdk\"\n" + strings.Repeat("\x00", 600),
			descriptor{version: 1, cid: 2, parentCID: 1, createType: "twoGbMaxExtentFlat", parentHint: `C:\VMs\my disk.vmdk`, extents: flat},
		},
		{
			"QEMU after a CID that was two digits longer", "# Disk DescriptorFile\nCID=cbcbf\ncreateType=\"monolithicFlat\"\nRW 20480 FLAT \"t-flat.vmdk\"\nddb.adapterType = \"ide\"\n\x00\n\x00\x00",
			descriptor{
				version: 1, cid: 0xcbcbf, parentCID: noParentCID, createType: "monolithicFlat", extents: flat,
				ddb: []setting{{"ddb.adapterType", "ide"}},
			},
		},
		{
			"windows-1252", "# Disk DescriptorFile\nencoding=\"windows-1252\"\nCID=2\ncreateType=\"monolithicFlat\"\nRW 1 FLAT \"\x80 \xfcbel \x9f.vmdk\" 7\nddb.encoding = \"UTF-8\"\n",
			descriptor{
				version: 1, encoding: "windows-1252", cid: 2, parentCID: noParentCID, createType: "monolithicFlat",
				extents: []extentLine{{access: accessRW, sectors: 1, kind: kindFlat, fileName: "€ übel Ÿ.vmdk", offset: 7}},
				ddb:     []setting{{"ddb.encoding", "UTF-8"}},
			},
		},
		{
			"every type of extent", minimal(`RW 1 FLAT "a b" 0`, `RDONLY 2 SPARSE "s"`, `NOACCESS 3 ZERO`, `RW 4 VMFS "v" 0`, `RW 5 VMFSSPARSE "c"`, `RW 6 SESPARSE "e"`,
				`RW 7 VMFSRDM "r"`, `RW 8 VMFSRAW "w"`, `RW 9 FLAT "\\.\PhysicalDrive0" 63 partitionUUID "x y" deviceId "z"`),
			descriptor{version: 1, cid: 0x1af1ece4, parentCID: noParentCID, createType: "custom", extents: []extentLine{
				{access: accessRW, sectors: 1, kind: kindFlat, fileName: "a b"},
				{access: accessReadOnly, sectors: 2, kind: kindSparse, fileName: "s"},
				{access: accessNone, sectors: 3, kind: kindZero},
				{access: accessRW, sectors: 4, kind: kindVMFS, fileName: "v"},
				{access: accessRW, sectors: 5, kind: kindVMFSSparse, fileName: "c"},
				{access: accessRW, sectors: 6, kind: kindSESparse, fileName: "e"},
				{access: accessRW, sectors: 7, kind: kindVMFSRDM, fileName: "r"},
				{access: accessRW, sectors: 8, kind: kindVMFSRaw, fileName: "w"},
				{access: accessRW, sectors: 9, kind: kindFlat, fileName: `\\.\PhysicalDrive0`, offset: 63, device: `partitionUUID "x y" deviceId "z"`},
			}},
		},
		{
			"set twice, to the same", minimal("CID=1af1ece4", `createtype="custom"`, "RW 1 ZERO", `ddb.a = "1"`, `ddb.a = "2"`),
			descriptor{
				version: 1, cid: 0x1af1ece4, parentCID: noParentCID, createType: "custom",
				extents: []extentLine{{access: accessRW, sectors: 1, kind: kindZero}},
				ddb:     []setting{{"ddb.a", "1"}, {"ddb.a", "2"}},
			},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			d, err := parseDescriptor([]byte(test.text), 0)
			require.NoError(t, err)
			require.Empty(t, cmp.Diff(&test.want, d, compareDescriptors))

			// What it emits says the same, in one encoding.
			again, err := parseDescriptor(d.emit(), 0)
			require.NoError(t, err, "%s", d.emit())
			test.want.encoding = "UTF-8"
			require.Empty(t, cmp.Diff(&test.want, again, compareDescriptors))
		})
	}
}

func TestMalformedDescriptor(t *testing.T) {
	tests := []struct {
		name, text string
		kind       diskimage.ErrorKind
		want       string
	}{
		{"empty", "", diskimage.ErrCorrupt, "descriptor at 0x200: it does not start as one"},
		{"no signature", "createType=\"custom\"\nRW 1 ZERO\n", diskimage.ErrCorrupt, "it does not start as one"},
		{"no createType", "# Disk DescriptorFile\nversion=1\nRW 1 ZERO\n", diskimage.ErrCorrupt, "descriptor: createType at 0x200: missing"},
		{"empty createType", "# Disk DescriptorFile\ncreateType=\"\"\nRW 1 ZERO\n", diskimage.ErrCorrupt, "no createType"},
		{"no extents", minimal(), diskimage.ErrCorrupt, "descriptor at 0x200: no extents"},
		{"too long", minimal("RW 1 ZERO", strings.Repeat("# long\n", 1<<18)), diskimage.ErrLimit, "1048576 at most"},
		{"NUL inside", minimal("RW 1 ZERO\x00", "RW 2 ZERO"), diskimage.ErrCorrupt, "descriptor at 0x25d: a NUL inside"},
		{"NUL, and more than a CID's digits behind it", minimal(`RW 1 ZERO`, "# 12345678") + "\x002345678\n", diskimage.ErrCorrupt, "a NUL inside"},
		{"NUL, and another end behind it", minimal("RW 1 ZERO") + "\x00x\n", diskimage.ErrCorrupt, "a NUL inside"},
		{"UTF-16", utf16LE(minimal("RW 1 ZERO")), diskimage.ErrCorrupt, "UTF-16"},
		{"version 0", minimal("RW 1 ZERO") + "encoding=UTF-8\nVersion=0\n", diskimage.ErrCorrupt, "line 8 at 0x26d: Version is set twice"},
		{"version 4", "# Disk DescriptorFile\nversion=4\ncreateType=\"vmfs\"\nRW 1 ZERO\n", diskimage.ErrUnsupported, "descriptor: line 2 at 0x216: descriptor version 4"},
		{"version x", "# Disk DescriptorFile\nversion=x\ncreateType=\"vmfs\"\nRW 1 ZERO\n", diskimage.ErrCorrupt, `no version number: "version=x"`},
		{"CID too long", "# Disk DescriptorFile\nCID=123456789\ncreateType=\"vmfs\"\nRW 1 ZERO\n", diskimage.ErrCorrupt, "no content identifier"},
		{"CID twice", minimal("RW 1 ZERO", "cid=1"), diskimage.ErrCorrupt, "cid is set twice, to different values"},
		{"createType twice", minimal("RW 1 ZERO", "createType=vmfs"), diskimage.ErrCorrupt, "createType is set twice"},
		{"no line", minimal("RW 1 ZERO", "lorem ipsum"), diskimage.ErrCorrupt, `no comment, setting or extent: "lorem ipsum"`},
		{"unknown access", minimal(`READ 1 FLAT "a=b" 0`), diskimage.ErrCorrupt, "no comment, setting or extent"},
		{"quote not closed", minimal("RW 1 ZERO", `ddb.comment="x`), diskimage.ErrCorrupt, "no comment, setting or extent"},
		{"quote in parent's name", minimal("RW 1 ZERO", `parentFileNameHint="a"b"`), diskimage.ErrCorrupt, "a quote inside a file name"},
		{"encoding GBK", minimal("encoding=\"GBK\"", "RW 1 FLAT \"\xd0\xc2.vmdk\" 0"), diskimage.ErrUnsupported, `descriptor: encoding at 0x263: text in "GBK" is not read`},
		{"encoding unknown", minimal("encoding=\"UTF-7\"", "RW 1 ZERO"), diskimage.ErrUnsupported, `"UTF-7" is unknown`},
		{"encoding of the database", minimal("ddb.encoding=\"Big5\"", "RW 1 FLAT \"\xb7s.vmdk\" 0"), diskimage.ErrUnsupported, `"Big5"`},
		{"encoding not told", minimal("RW 1 FLAT \"\xd0\xc2.vmdk\" 0"), diskimage.ErrUnsupported, "none is named, and the text is not UTF-8"},
		{"encoding UTF-8 is not", minimal("encoding=utf8", "RW 1 FLAT \"\xd0\xc2.vmdk\" 0"), diskimage.ErrCorrupt, `the text is not "utf8"`},

		{"size missing", minimal("RW"), diskimage.ErrCorrupt, "the extent's size is no number"},
		{"size 0", minimal(`RW 0 FLAT "a" 0`), diskimage.ErrCorrupt, "the extent's size is no number"},
		{"size -1", minimal(`RW -1 FLAT "a" 0`), diskimage.ErrCorrupt, `the extent's size is no number of sectors from 1 to 2^54-1: "RW -1 FLAT`},
		{"size hexadecimal", minimal(`RW 0x10 FLAT "a" 0`), diskimage.ErrCorrupt, "the extent's size is no number"},
		{"size 2^63", minimal(`RW 9223372036854775808 FLAT "a" 0`), diskimage.ErrCorrupt, "the extent's size is no number"},
		{"size 2^54", minimal(`RW 18014398509481984 FLAT "a" 0`), diskimage.ErrCorrupt, "the extent's size is no number"},
		{"sizes add up to 2^54", minimal("RW 18014398509481983 ZERO", "RW 1 ZERO"), diskimage.ErrCorrupt, "line 7 at 0x26e: with this extent"},
		{"type missing", minimal("RW 1"), diskimage.ErrCorrupt, "the extent has no type"},
		{"type unknown", minimal(`RW 1 VSANSPARSE "a"`), diskimage.ErrUnsupported, `extents of type "VSANSPARSE" are not read`},
		{"ZERO with a file", minimal(`RW 1 ZERO "a"`), diskimage.ErrCorrupt, "unless it is of type ZERO"},
		{"FLAT without a file", minimal("RW 1 FLAT"), diskimage.ErrCorrupt, "an extent has a file"},
		{"name empty", minimal(`RW 1 FLAT "" 0`), diskimage.ErrCorrupt, "no name in quotes"},
		{"name without quotes", minimal("RW 1 FLAT a 0"), diskimage.ErrCorrupt, "no name in quotes"},
		{"name with one quote", minimal(`RW 1 FLAT "a 0`), diskimage.ErrCorrupt, "no name in quotes"},
		{"name without the first quote", minimal(`RW 1 FLAT a" 0`), diskimage.ErrCorrupt, "no name in quotes"},
		{"quote inside a name", minimal(`RW 1 FLAT "a"b" 0`), diskimage.ErrCorrupt, "no name in quotes"},
		{"two names", minimal(`RW 1 FLAT "a" "b"`), diskimage.ErrCorrupt, "the extent's offset"},
		{"offset negative", minimal(`RW 1 FLAT "a" -1`), diskimage.ErrCorrupt, "the extent's offset"},
		{"offset too large", minimal(`RW 2 FLAT "a" 18014398509481982`), diskimage.ErrCorrupt, "the extent's offset"},
		{"offset of VMFS", minimal(`RW 12582912 VMFS "dummy.vmdk" 1`), diskimage.ErrCorrupt, `only a FLAT extent has an offset: "RW 12582912 VMFS \"dummy.vmdk\" 1"`},
		{"offset of SPARSE", minimal(`RW 1 SPARSE "a" 0 x`), diskimage.ErrCorrupt, "only a FLAT extent has an offset"},
		{"device's quote not closed", minimal(`RW 1 FLAT "a" 0 "b`), diskimage.ErrCorrupt, "a quote is not closed"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			d, err := parseDescriptor([]byte(test.text), 0x200)
			require.ErrorIs(t, err, test.kind)
			require.ErrorContains(t, err, test.want)
			require.Nil(t, d)
		})
	}
}

// TestManyExtents holds that what is too much is found at once.
func TestManyExtents(t *testing.T) {
	d, err := parseDescriptor([]byte(minimal(strings.Repeat("RW 1 ZERO\n", maxExtents))), 0)
	require.NoError(t, err)
	require.EqualValues(t, maxExtents, d.sectors())

	start := time.Now()
	_, err = parseDescriptor([]byte(minimal(strings.Repeat("RW 1 ZERO\n", 100_000))), 0)
	require.ErrorIs(t, err, diskimage.ErrLimit)
	require.ErrorContains(t, err, "line 10006")
	require.Less(t, time.Since(start), time.Second)
}

func TestDescriptorRefusal(t *testing.T) {
	tests := []struct {
		name, createType, lines string
		kind                    diskimage.ErrorKind // "" if it is read
		want                    string
	}{
		{name: "plain", createType: "vmfsEagerZeroedThick", lines: `RW 1 VMFS "a"`},
		{name: "NOACCESS", createType: "custom", lines: "NOACCESS 1 ZERO"},
		{"Workstation, encrypted", "monolithicSparse", "RW 1 SPARSE \"a\"\nencryptionKeys=\"vmware:key/list/x\"", diskimage.ErrEncrypted, "descriptor: encryptionKeys: the disk is encrypted"},
		{"ESXi, encrypted", "vmfs", "RW 1 VMFS \"a\"\nkeyID=\"x\"", diskimage.ErrEncrypted, "keyID"},
		{"filter", "vmfs", "RW 1 VMFS \"a\"\nddb.iofilters = \"vmwarevmcrypt\"", diskimage.ErrEncrypted, `descriptor: ddb.iofilters: "vmwarevmcrypt"`},
		{"another filter", "vmfs", "RW 1 VMFS \"a\"\nddb.iofilters = \"spm\"", "", ""},
		{"unknown", "floppy", "RW 1 ZERO", diskimage.ErrUnsupported, `descriptor: createType: "floppy" is not read`},
		{"device", "FULLDEVICE", `RW 1 FLAT "/dev/sda" 0`, diskimage.ErrUnsupported, "fullDevice: a disk on a device"},
		{"partitions", "partitionedDevice", `RW 1 FLAT "a" 0`, diskimage.ErrUnsupported, "partitionedDevice"},
		{"mapping", "vmfsPassthroughRawDeviceMap", `RW 1 VMFSRDM "a"`, diskimage.ErrUnsupported, "vmfsPassthroughRawDeviceMap"},
		{"mapping extent", "vmfs", `RW 1 VMFSRDM "a-rdm.vmdk"`, diskimage.ErrUnsupported, `extent "a-rdm.vmdk": VMFSRDM: a raw device mapping is not read`},
		{"device extent", "custom", `RW 1 VMFSRAW "a"`, diskimage.ErrUnsupported, "VMFSRAW"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			d, err := parseDescriptor(fmt.Appendf(nil, "# Disk DescriptorFile\ncreateType=%q\n%s\n", test.createType, test.lines), 0)
			require.NoError(t, err)
			err = d.refusal()
			if test.kind == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorIs(t, err, test.kind)
			require.ErrorContains(t, err, test.want)
		})
	}
}

// TestProductsDescriptors reads the descriptors of images that products made.
func TestProductsDescriptors(t *testing.T) {
	dir := os.Getenv("DISKIMAGE_SAMPLES")
	if dir == "" {
		t.Skip("DISKIMAGE_SAMPLES does not name a folder with images")
	}
	tests := []struct {
		file       string
		off        int64 // of the descriptor
		n          int
		createType string
		sectors    int64
		adapter    string
		cylinders  int64
	}{
		{"monolithicSparse.vmdk", 512, 20 * 512, "monolithicSparse", 20480, "buslogic", 301},
		{"streamOptimized.vmdk", 512, 20 * 512, "streamOptimized", 20480, "buslogic", 301},
		{"twoGbMaxExtentSparse.vmdk", 0, 1 << 20, "twoGbMaxExtentSparse", 20480, "buslogic", 301},
		{"ubuntu.2.0-disk1.vmdk", 512, 20 * 512, "streamOptimized", 16777216, "ide", 16383},
		{"iotest-version3.vmdk", 512, 2 * 512, "streamOptimized", 33554432, "lsilogic", 2088},
		{"aws-export-header-only.vmdk", 512, 512, "monolithicSparse", 20971520, "lsilogic", 1305},
	}
	for _, test := range tests {
		t.Run(test.file, func(t *testing.T) {
			b, err := os.ReadFile(filepath.Join(dir, test.file))
			require.NoError(t, err)
			b = b[test.off:]
			d, err := parseDescriptor(b[:min(test.n, len(b))], test.off)
			require.NoError(t, err)
			require.NoError(t, d.refusal())
			require.Equal(t, test.createType, d.createType)
			require.Equal(t, test.sectors, d.sectors())
			adapter, _ := d.lookup("ddb.adaptertype")
			require.Equal(t, test.adapter, adapter)
			g, ok := d.geometry()
			require.True(t, ok)
			require.Equal(t, test.cylinders, g.Cylinders)
		})
	}
}

func utf16LE(s string) string {
	b := []byte{0xff, 0xfe}
	for _, u := range utf16.Encode([]rune(s)) {
		b = append(b, byte(u), byte(u>>8))
	}
	return string(b)
}

// FuzzDescriptor holds that a descriptor which is read is the same after it
// was emitted, and that no text takes it down.
func FuzzDescriptor(f *testing.F) {
	f.Add([]byte(minimal(`RW 1 FLAT "a b" 0`, `RDONLY 2 SPARSE "s"`, "NOACCESS 3 ZERO", `parentFileNameHint="p"`, `ddb.x = "y"`)))
	f.Add([]byte(minimal("encoding=windows-1252", "RW 1 VMFS \"\x80\"", `changeTrackPath="c"`)))
	f.Add([]byte("#disk descriptorfile\r\ncreatetype = custom\r\nrw 9 flat \"a\" 63 \"u u\" id\r\nddb.=\"\"\"\x00\x00"))
	f.Fuzz(func(t *testing.T, text []byte) {
		d, err := parseDescriptor(text, 0)
		if err != nil {
			return
		}
		if n := d.sectors(); n < 1 || n > sectorsMax || len(d.extents) > maxExtents {
			t.Fatalf("%d sectors in %d extents", n, len(d.extents))
		}
		d.refusal()
		d.geometry()
		emitted := d.emit()
		if len(emitted) > maxDescriptorBytes {
			return // decoding made it longer
		}
		again, err := parseDescriptor(emitted, 0)
		if err != nil {
			t.Fatalf("%v\n%s", err, emitted)
		}
		d.encoding = "UTF-8"
		if diff := cmp.Diff(d, again, compareDescriptors); diff != "" {
			t.Fatal(diff)
		}
	})
}
