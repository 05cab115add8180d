package ova

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"io"
	"math/bits"
	"net/url"
	"strconv"
	"strings"

	"github.com/diskimage-go/diskimage"
)

// Limits of ours: the descriptors of real packages have some 10 KiB, those of
// large ones, with icons, some 100.
const (
	maxDescriptor = 2 << 20 // bytes
	maxDepth      = 256     // of elements
	maxFiles      = 4096    // files, and disks
)

// A Disk is a disk that a package's descriptor lists.
type Disk struct {
	Number     int    // its place in the descriptor's list, from 1
	ID         string // ovf:diskId
	File       string // the name of its file, "" if it has none: then it is empty
	Size       int64  // of the file in the package; -1 where the descriptor does not say
	Capacity   int64  // of the guest disk in bytes, -1 where it is not a plain number
	Format     string // ovf:format: a URI that stands for the file's format
	Compressed bool   // the file is compressed with gzip

	empty      bool             // it is declared to have no file
	unreadable *diskimage.Error // why it cannot be read, or nil
}

// A reference is a File element: something that the package refers to.
type reference struct {
	id, href    string
	name        string // what href means
	compression string
	size        int64 // -1: not said
	chunked     bool
}

// An envelope is what is of interest in a descriptor.
type envelope struct {
	files []reference
	disks []Disk
}

// parseEnvelope reads a descriptor: DSP0243, "OVF descriptor", "Virtual disk
// descriptions", "File references". Elements and attributes of other
// namespaces, and sections that are of no interest here, are passed over.
func parseEnvelope(name string, text []byte) (*envelope, error) {
	field := memberField(name)
	d := xml.NewDecoder(bytes.NewReader(text))
	var (
		env   envelope
		path  []string // the names of the open elements, "" for those of other namespaces
		ns    string
		elems []diskElement
	)
	for {
		tok, err := d.Token()
		if err == io.EOF {
			break
		}
		if err != nil {
			e := corrupt(field, -1, "is not well-formed XML")
			e.Err = err
			return nil, e
		}
		switch t := tok.(type) {
		case xml.StartElement:
			if len(path) == 0 {
				if ns != "" {
					return nil, corrupt(field, -1, "holds more than one document")
				}
				if ns = t.Name.Space; t.Name.Local != "Envelope" {
					return nil, corrupt(field, -1, "is "+diskimage.Quote(t.Name.Local)+", not the Envelope of an OVF package")
				}
				if ns != "http://schemas.dmtf.org/ovf/envelope/1" && ns != "http://schemas.dmtf.org/ovf/envelope/2" {
					return nil, failure(diskimage.ErrUnsupported, field, -1, "is in the namespace "+diskimage.Quote(ns)+"; read are versions 1 and 2 of OVF")
				}
			}
			local := ""
			if t.Name.Space == ns {
				local = t.Name.Local
			}
			if path = append(path, local); len(path) > maxDepth {
				return nil, failure(diskimage.ErrLimit, field, -1, fmt.Sprintf("elements are nested more than %d deep", maxDepth))
			}
			attrs := attributes{ns, t.Attr}
			if len(path) != 3 {
				break
			}
			switch path[1] + "/" + path[2] {
			case "References/File":
				r, err := attrs.reference(field)
				if err != nil {
					return nil, err
				}
				env.files = append(env.files, r)
			case "DiskSection/Disk":
				elems = append(elems, attrs.disk())
			}
			if len(env.files) > maxFiles || len(elems) > maxFiles {
				return nil, failure(diskimage.ErrLimit, field, -1, fmt.Sprintf("lists more than %d files or disks", maxFiles))
			}
		case xml.EndElement:
			path = path[:len(path)-1]
		}
	}
	if ns == "" {
		return nil, corrupt(field, -1, "is empty")
	}
	byID := map[string]*reference{}
	for i, f := range env.files {
		if byID[f.id] != nil {
			return nil, corrupt(field, -1, "two files have the id "+diskimage.Quote(f.id))
		}
		byID[f.id] = &env.files[i]
	}
	for i, e := range elems {
		env.disks = append(env.disks, e.resolve(i+1, byID))
	}
	return &env, nil
}

// A diskElement is a Disk element as it is written.
type diskElement struct {
	id, fileRef, parentRef, format string
	capacity, units                string
}

// resolve returns the disk of an element, and what there is against it.
func (e diskElement) resolve(number int, files map[string]*reference) Disk {
	d := Disk{Number: number, ID: e.id, Format: e.format, Size: -1, Capacity: capacity(e.capacity, e.units)}
	field := fmt.Sprintf("disk %d", number)
	f := files[e.fileRef]
	switch {
	case e.fileRef == "":
		d.empty = true
		d.unreadable = failure(diskimage.ErrUnsupported, field, -1, "has no file: it is an empty disk, to be made anew")
		return d
	case f == nil:
		d.unreadable = corrupt(field, -1, "the descriptor has no file "+diskimage.Quote(e.fileRef))
		return d
	}
	d.File, d.Size, d.Compressed = f.name, f.size, f.compression == "gzip"
	scheme, _, _ := strings.Cut(f.href, ":")
	switch {
	case len(scheme) < len(f.href) && !strings.Contains(scheme, "/") && f.href == f.name:
		d.unreadable = failure(diskimage.ErrExternal, field, -1, "refused: "+diskimage.Quote(f.href)+" lies outside the package")
	case !plainName(f.name):
		d.unreadable = corrupt(field, -1, "the file name "+diskimage.Quote(f.href)+" leads out of the package")
	case f.chunked:
		d.unreadable = failure(diskimage.ErrUnsupported, field, -1, "the file is split into chunks (ovf:chunkSize), which is not read: join them, and leave the attribute out")
	case f.compression != "" && f.compression != "identity" && f.compression != "gzip":
		d.unreadable = failure(diskimage.ErrUnsupported, field, -1, "the file's compression is "+diskimage.Quote(f.compression)+"; read is gzip")
	case e.parentRef != "":
		d.unreadable = failure(diskimage.ErrUnsupported, field, -1, "holds only what differs from disk "+diskimage.Quote(e.parentRef))
	}
	return d
}

// attributes are those of an element, of which those count that belong to OVF
// or to no namespace.
type attributes struct {
	ns  string
	all []xml.Attr
}

func (a attributes) get(local string) string {
	for _, space := range []string{a.ns, ""} {
		for _, attr := range a.all {
			if attr.Name.Local == local && attr.Name.Space == space {
				return strings.TrimSpace(attr.Value)
			}
		}
	}
	return ""
}

func (a attributes) reference(field string) (reference, error) {
	r := reference{id: a.get("id"), href: a.get("href"), compression: a.get("compression"), size: -1, chunked: a.get("chunkSize") != ""}
	r.name = strings.TrimPrefix(r.href, "./")
	if name, err := url.PathUnescape(r.name); err == nil { // RFC 3986, which not everybody knew
		r.name = name
	}
	if s := a.get("size"); s != "" {
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil || n < 0 {
			return r, corrupt(field, -1, "the size of the file "+diskimage.Quote(r.href)+" is "+diskimage.Quote(s))
		}
		r.size = n
	}
	return r, nil
}

func (a attributes) disk() diskElement {
	return diskElement{a.get("diskId"), a.get("fileRef"), a.get("parentRef"), a.get("format"), a.get("capacity"), a.get("capacityAllocationUnits")}
}

// capacity returns a capacity in bytes, or -1 for what is no number of bytes:
// it may be the name of a property, "${size}". Units are those of DSP0004, such
// as "byte * 2^30".
func capacity(number, units string) int64 {
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n < 0 {
		return -1
	}
	first, factors, _ := strings.Cut(units, "*")
	if first = strings.ToLower(strings.TrimSpace(first)); first != "" && first != "byte" && first != "bytes" {
		return -1
	}
	for factors != "" {
		var f string
		f, factors, _ = strings.Cut(factors, "*")
		base, exponent, power := strings.Cut(f, "^")
		b, err := strconv.ParseUint(strings.TrimSpace(base), 10, 32)
		e := uint64(1)
		if err == nil && power {
			e, err = strconv.ParseUint(strings.TrimSpace(exponent), 10, 6)
		}
		if err != nil {
			return -1
		}
		for range e {
			hi, lo := bits.Mul64(uint64(n), b)
			if n = int64(lo); hi != 0 || n < 0 {
				return -1
			}
		}
	}
	return n
}
