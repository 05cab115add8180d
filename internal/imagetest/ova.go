package imagetest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/xml"
	"fmt"
	"strings"
)

// URIs that OVF descriptors have for the formats of disks.
const (
	URIStream = "http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized"
	URIQCOW2  = "http://www.gnome.org/~markmc/qcow-image-format.html"
	URIRaw    = "http://en.wikipedia.org/wiki/Byte"
)

// An OVA is a package of disks, built as the products do.
type OVA struct {
	Disks        []PackedDisk
	Digest       string // "SHA1", "SHA256" or "SHA512"; "": there is no manifest
	ManifestLast bool   // the manifest comes behind the disks
}

// A PackedDisk is a disk in a package.
type PackedDisk struct {
	Name     string // of its file
	Data     []byte // of its file
	URI      string // of the file's format
	Capacity int64
	Gzip     bool
}

// A Member is one of a tar. Change, if there is one, changes its header.
type Member struct {
	Name   string
	Data   []byte
	Change func(h *tar.Header)
}

// Build returns the package.
func (o OVA) Build() []byte { return Tar(o.Members()...) }

// Members returns what is in the package, in order: x.ovf, x.mf, the disks.
func (o OVA) Members() []Member {
	members := []Member{{Name: "x.ovf", Data: []byte(o.Descriptor())}}
	for _, d := range o.Disks {
		members = append(members, Member{Name: d.Name, Data: d.file()})
	}
	if o.Digest == "" {
		return members
	}
	mf := Member{Name: "x.mf", Data: Manifest(o.Digest, members...)}
	if o.ManifestLast {
		return append(members, mf)
	}
	return append([]Member{members[0], mf}, members[1:]...)
}

func (d PackedDisk) file() []byte {
	if d.Gzip {
		return Gzip(d.Data)
	}
	return d.Data
}

// Gzip returns p as one gzip member.
func Gzip(p []byte) []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, err := z.Write(p)
	must(err)
	must(z.Close())
	return b.Bytes()
}

// Descriptor returns the package's OVF.
func (o OVA) Descriptor() string {
	var files, disks strings.Builder
	for i, d := range o.Disks {
		compression := ""
		if d.Gzip {
			compression = ` ovf:compression="gzip"`
		}
		fmt.Fprintf(&files, "    <File ovf:href=\"%s\" ovf:id=\"file%d\" ovf:size=\"%d\"%s/>\n", escaped(d.Name), i+1, len(d.file()), compression)
		fmt.Fprintf(&disks, "    <Disk ovf:capacity=\"%d\" ovf:diskId=\"vmdisk%d\" ovf:fileRef=\"file%d\" ovf:format=\"%s\"/>\n", d.Capacity, i+1, i+1, escaped(d.URI))
	}
	return `<?xml version="1.0" encoding="UTF-8"?>
<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1">
  <References>
` + files.String() + `  </References>
  <DiskSection>
    <Info>Virtual disk information</Info>
` + disks.String() + `  </DiskSection>
  <VirtualSystem ovf:id="x"><Info>A virtual machine</Info></VirtualSystem>
</Envelope>
`
}

func escaped(s string) string {
	var b strings.Builder
	must(xml.EscapeText(&b, []byte(s)))
	return b.String()
}

// Manifest returns the lines of a manifest for some members.
func Manifest(algorithm string, members ...Member) []byte {
	var b bytes.Buffer
	for _, m := range members {
		var sum []byte
		switch algorithm {
		case "SHA1":
			s := sha1.Sum(m.Data)
			sum = s[:]
		case "SHA256":
			s := sha256.Sum256(m.Data)
			sum = s[:]
		case "SHA512":
			s := sha512.Sum512(m.Data)
			sum = s[:]
		}
		fmt.Fprintf(&b, "%s(%s)= %x\n", algorithm, m.Name, sum)
	}
	return b.Bytes()
}

// Tar returns an archive of members: plain files, unless their headers are
// changed.
func Tar(members ...Member) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, m := range members {
		h := &tar.Header{Name: m.Name, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(m.Data))}
		if m.Change != nil {
			m.Change(h)
		}
		must(w.WriteHeader(h))
		_, err := w.Write(m.Data[:min(h.Size, int64(len(m.Data)))])
		must(err)
	}
	must(w.Close())
	return b.Bytes()
}
