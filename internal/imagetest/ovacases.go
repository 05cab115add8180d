package imagetest

import (
	"archive/tar"
	"bytes"
	"strings"

	"github.com/diskimage-go/diskimage"
)

// BaseOVA returns the package that most cases start from: a QCOW2 disk and a
// manifest.
func BaseOVA() OVA {
	return OVA{Disks: []PackedDisk{{Name: "disk.qcow2", Data: Base().Bytes, URI: URIQCOW2, Capacity: 4 * cluster}}, Digest: "SHA256"}
}

// OVACases returns the rows of the list of hostile input that are about
// packages: R15, and R14 as far as disks in them go.
func OVACases() []Case {
	const (
		corrupt     = diskimage.ErrCorrupt
		truncated   = diskimage.ErrTruncated
		unsupported = diskimage.ErrUnsupported
		external    = diskimage.ErrExternal
		format      = diskimage.ErrFormat
		limit       = diskimage.ErrLimit
	)
	// another adds a member behind all others.
	another := func(name string, data string, change func(h *tar.Header)) Build {
		return func() []byte {
			return Tar(append(BaseOVA().Members(), Member{name, []byte(data), change})...)
		}
	}
	kind := func(typeflag byte, link string) func(h *tar.Header) {
		return func(h *tar.Header) { h.Typeflag, h.Linkname, h.Size = typeflag, link, 0 }
	}
	// described changes the descriptor of a package without manifest.
	described := func(old, new string) Build {
		return func() []byte {
			o := BaseOVA()
			o.Digest = ""
			m := o.Members()
			text := strings.ReplaceAll(string(m[0].Data), old, new)
			if text == string(m[0].Data) {
				panic(old)
			}
			m[0].Data = []byte(text)
			return Tar(m...)
		}
	}
	// listed changes the manifest.
	listed := func(change func(text string) string) Build {
		return func() []byte {
			m := BaseOVA().Members()
			m[1].Data = []byte(change(string(m[1].Data)))
			return Tar(m...)
		}
	}
	cut := func(n int) Build {
		return func() []byte {
			b := BaseOVA().Build()
			return b[:len(b)-n]
		}
	}
	two := func() []byte {
		o := BaseOVA()
		second := o.Disks[0]
		second.Name = "second.qcow2"
		o.Disks = append(o.Disks, second)
		return o.Build()
	}
	inside := func(name string, data []byte, uri string) Build {
		return OVA{Disks: []PackedDisk{{Name: name, Data: data, URI: uri, Capacity: 4 * cluster}}}.Build
	}
	// The headers of GNU tar 1.0, which archive/tar does not write: they are
	// renamed afterwards.
	sparse := func() []byte {
		b := Tar(append(BaseOVA().Members(), Member{Name: "sparse.img", Data: padded([]byte("1\n0\n0\n"), 512), Change: func(h *tar.Header) {
			h.PAXRecords = map[string]string{"PAX.sparse.major": "1", "PAX.sparse.minor": "0", "PAX.sparse.name": "sparse.img", "PAX.sparse.realsize": "0"}
		}})...)
		return bytes.ReplaceAll(b, []byte("PAX.sparse."), []byte("GNU.sparse."))
	}
	oldSparse := func() []byte {
		b := another("sparse.img", "", func(h *tar.Header) { h.Format = tar.FormatGNU })()
		at := bytes.LastIndex(b, []byte("sparse.img"))
		b[at+156] = tar.TypeGNUSparse
		SumHeader(b[at : at+512])
		return b
	}

	return []Case{
		{ID: "R15", Name: "a name with ..", Build: another("../x", "x", nil), Kind: corrupt, Field: `member "../x"`, Off: -1},
		{ID: "R15", Name: "a name with .. inside", Build: another("a/../../x", "x", nil), Kind: corrupt, Field: `member "a/../../x"`, Off: -1},
		{ID: "R15", Name: "an absolute name", Build: another("/etc/x", "x", nil), Kind: corrupt, Field: `member "/etc/x"`, Off: -1},
		{ID: "R15", Name: "a name with a backslash", Build: another(`..\x`, "x", nil), Kind: corrupt, Field: `member "..\\x"`, Off: -1},
		{ID: "R15", Name: "a name of 2000 bytes", Build: another(strings.Repeat("x", 2000), "x", nil), Kind: corrupt, Field: "a name of 2000 bytes", Off: -1},
		{ID: "R15", Name: "a name twice", Build: another("disk.qcow2", "x", nil), Kind: corrupt, Field: `member "disk.qcow2"`, Off: -1},
		{ID: "R15", Name: "a name twice, written differently", Build: another("./disk.qcow2", "x", nil), Kind: corrupt, Field: `member "./disk.qcow2"`, Off: -1},
		{ID: "R15", Name: "a symbolic link", Build: another("link", "", kind(tar.TypeSymlink, "/etc/passwd")), Kind: corrupt, Field: `member "link"`, Off: -1},
		{ID: "R15", Name: "a hard link", Build: another("link", "", kind(tar.TypeLink, "disk.qcow2")), Kind: corrupt, Field: `member "link"`, Off: -1},
		{ID: "R15", Name: "a device", Build: another("sda", "", kind(tar.TypeBlock, "")), Kind: corrupt, Field: `member "sda"`, Off: -1},
		{ID: "R15", Name: "a FIFO", Build: another("pipe", "", kind(tar.TypeFifo, "")), Kind: corrupt, Field: `member "pipe"`, Off: -1},
		{ID: "R15", Name: "a header for all that follows", Build: another("", "", func(h *tar.Header) {
			*h = tar.Header{Typeflag: tar.TypeXGlobalHeader, Name: "global", PAXRecords: map[string]string{"comment": "x"}}
		}), Kind: corrupt, Field: `member "global"`, Off: -1},
		{ID: "R15", Name: "a sparse member", Build: sparse, Kind: corrupt, Field: `member "sparse.img"`, Off: -1},
		{ID: "R15", Name: "a sparse member of old", Build: oldSparse, Kind: corrupt, Field: `member "sparse.img"`, Off: -1},
		{ID: "R15", Name: "a damaged header", Build: func() []byte {
			b := BaseOVA().Build()
			b[bytes.LastIndex(b, []byte("disk.qcow2"))+100]++
			return b
		}, Kind: corrupt, Field: "tar header", Off: -1},
		{ID: "R15", Name: "5000 members", Build: func() []byte {
			m := BaseOVA().Members()
			for i := range 5000 {
				m = append(m, Member{Name: number(uint64(i))})
			}
			return Tar(m...)
		}, Kind: limit, Field: "archive", Off: -1},

		{ID: "R15", Name: "no end mark", Build: cut(1024), Kind: truncated, Field: "archive", Off: -1},
		{ID: "R15", Name: "half an end mark", Build: cut(512), Note: "end mark"},
		{ID: "R15", Name: "cut in the end mark", Build: cut(700), Kind: truncated, Field: "archive", Off: -1},
		{ID: "R15", Name: "cut in the disk", Build: cut(4096), Kind: truncated, Field: `member "disk.qcow2"`, Off: -1},
		{ID: "R15", Name: "folders", Build: another("a/", "", kind(tar.TypeDir, ""))},
		{ID: "R15", Name: "a member of another kind", Build: another("notes.txt", "x", nil)},

		{ID: "R15", Name: "two disks", Build: two, Kind: unsupported, Field: `1 ("disk.qcow2", 262144 bytes), 2 ("second.qcow2", 262144 bytes)`, Off: -1},
		{ID: "R15", Name: "no disk", Build: OVA{}.Build, Kind: unsupported, Field: "no disk with a file", Off: -1},
		{ID: "R15", Name: "a disk without a file", Build: described(`ovf:fileRef="file1"`, ""), Kind: unsupported, Field: "no disk with a file", Off: -1},
		{ID: "R15", Name: "a size that lies", Build: described(`ovf:size="`, `ovf:size="1`), Kind: corrupt, Field: `member "disk.qcow2"`, Off: -1},
		{ID: "R15", Name: "a size that is none", Build: described(`ovf:size="`, `ovf:size="-`), Kind: corrupt, Field: `member "x.ovf"`, Off: -1},
		{ID: "R15", Name: "no size", Build: described(`ovf:size=`, `ovf:sighs=`), Note: "no manifest"},
		{ID: "R15", Name: "a disk's file that is missing", Build: described(`"disk.qcow2"`, `"other.qcow2"`), Kind: corrupt, Field: `member "other.qcow2"`, Off: -1},
		{ID: "R15", Name: "a disk's file outside", Build: described(`"disk.qcow2"`, `"../disk.qcow2"`), Kind: corrupt, Field: "disk 1", Off: -1},
		{ID: "R15", Name: "a disk's file on the net", Build: described(`"disk.qcow2"`, `"http://x/disk.qcow2"`), Kind: external, Field: "disk 1", Off: -1},
		{ID: "R15", Name: "a disk's file that is not declared", Build: described(`ovf:fileRef="file1"`, `ovf:fileRef="file2"`), Kind: corrupt, Field: "disk 1", Off: -1},
		{ID: "R15", Name: "two files of one id", Build: described(`  </References>`, `<File ovf:id="file1" ovf:href="y"/></References>`), Kind: corrupt, Field: `member "x.ovf"`, Off: -1},
		{ID: "R15", Name: "a disk with a parent", Build: described(`ovf:fileRef`, `ovf:parentRef="vmdisk0" ovf:fileRef`), Kind: unsupported, Field: "disk 1", Off: -1},
		{ID: "R15", Name: "a file in chunks", Build: described(`ovf:size`, `ovf:chunkSize="65536" ovf:size`), Kind: unsupported, Field: "disk 1", Off: -1},
		{ID: "R15", Name: "a compression that nobody has", Build: described(`ovf:size`, `ovf:compression="lzw" ovf:size`), Kind: unsupported, Field: "disk 1", Off: -1},
		{ID: "R15", Name: "a format that the content contradicts", Build: described(URIQCOW2, URIStream), Kind: format, Field: "declared vmdk, content is qcow2", Off: -1},
		{ID: "R15", Name: "a format that nobody knows", Build: described(URIQCOW2, "urn:x"), Note: "is not known"},
		{ID: "R15", Name: "an OVA in an OVA", Build: inside("y.ova", OVA{}.Build(), "urn:x"), Kind: unsupported, Field: `member "y.ova"`, Off: -1},
		{ID: "R15", Name: "a tar in an OVA", Build: inside("y.tar", Tar(Member{Name: "y"}), URIRaw), Kind: format, Field: `member "y.tar"`, Off: -1},
		{ID: "R15", Name: "a damaged disk", Build: inside("disk.qcow2", Base().Bytes[:80], URIQCOW2), Kind: truncated, Field: `member "disk.qcow2"`, Off: -1},
		{ID: "R15", Name: "a disk with a backing file", Build: inside("disk.qcow2", backed("/etc/passwd")(), URIQCOW2), Kind: external, Field: `member "disk.qcow2"`, Off: -1},

		{ID: "R15", Name: "a descriptor that is no XML", Build: described("</Envelope>", ""), Kind: corrupt, Field: `member "x.ovf"`, Off: -1},
		{ID: "R15", Name: "a descriptor of another kind", Build: described("Envelope", "domain"), Kind: corrupt, Field: `member "x.ovf"`, Off: -1},
		{ID: "R15", Name: "a descriptor of OVF 0.9", Build: described("schemas.dmtf.org/ovf/envelope/1", "www.vmware.com/schema/ovf/1/envelope"), Kind: unsupported, Field: `member "x.ovf"`, Off: -1},
		{ID: "R15", Name: "two descriptors in one", Build: described("<References>", `<References/></Envelope><Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/2"><References>`), Kind: corrupt, Field: `member "x.ovf"`, Off: -1},
		{ID: "R15", Name: "an empty descriptor", Build: func() []byte { return Tar(Member{Name: "x.ovf"}) }, Kind: corrupt, Field: `member "x.ovf"`, Off: -1},
		{ID: "R15", Name: "a descriptor of 3 MiB", Build: described("<References>", strings.Repeat("<!-- -->", 400000)+"<References>"), Kind: limit, Field: `member "x.ovf"`, Off: -1},
		{ID: "R15", Name: "a descriptor 1000 elements deep", Build: described("<References>", strings.Repeat("<a>", 1000)+"<References>"), Kind: limit, Field: `member "x.ovf"`, Off: -1},
		{ID: "R15", Name: "5000 files", Build: described("<References>", "<References>"+strings.Repeat("<File/>", 5000)), Kind: limit, Field: `member "x.ovf"`, Off: -1},

		{ID: "R15", Name: "a digest of the disk that differs", Build: listed(func(s string) string { return flip(s, "(disk.qcow2)= ") }), Kind: corrupt, Stage: AtAttest, Field: `member "disk.qcow2"`, Off: -1},
		{ID: "R15", Name: "a digest of the descriptor that differs", Build: listed(func(s string) string { return flip(s, "(x.ovf)= ") }), Kind: corrupt, Field: `member "x.ovf"`, Off: -1},
		{ID: "R15", Name: "a digest that is too short", Build: listed(func(s string) string { return s[:len(s)-3] + "\n" }), Kind: corrupt, Field: `member "x.mf": line 2`, Off: -1},
		{ID: "R15", Name: "a manifest that is none", Build: listed(func(s string) string { return s + "hello\n" }), Kind: corrupt, Field: `member "x.mf": line 3`, Off: -1},
		{ID: "R15", Name: "a manifest of 2 MiB", Build: listed(func(s string) string { return s + strings.Repeat("\n", 2<<20) }), Kind: limit, Field: `member "x.mf"`, Off: -1},
		{ID: "R15", Name: "a file of the manifest that is missing", Build: listed(func(s string) string { return s + strings.ReplaceAll(s, "disk", "other") }), Kind: corrupt, Field: `member "other.qcow2"`, Off: -1},
		{ID: "R15", Name: "a digest of an unknown kind", Build: listed(func(s string) string { return strings.ReplaceAll(s, "SHA256(disk", "MD5(disk") }), Note: "not verified"},
		{ID: "R15", Name: "no digest of the disk", Build: listed(func(s string) string { return s[:strings.Index(s, "\n")+1] }), Note: `no digest of "disk.qcow2"`},
		{ID: "R15", Name: "a signature", Build: another("x.cert", "x", nil), Note: "not verified"},
	}
}

// flip changes the first digit behind mark.
func flip(s, mark string) string {
	at := strings.Index(s, mark) + len(mark)
	digit := "0"
	if s[at] == '0' {
		digit = "1"
	}
	return s[:at] + digit + s[at+1:]
}

// SumHeader gives a tar header its checksum.
func SumHeader(header []byte) {
	copy(header[148:156], "        ")
	n := 0
	for _, b := range header {
		n += int(b)
	}
	copy(header[148:156], []byte{byte('0' + n>>15&7), byte('0' + n>>12&7), byte('0' + n>>9&7), byte('0' + n>>6&7), byte('0' + n>>3&7), byte('0' + n&7), 0, ' '})
}
