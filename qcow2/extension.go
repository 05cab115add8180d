package qcow2

import (
	"bytes"
	"encoding/binary"

	"github.com/diskimage-go/diskimage"
)

// An Extension is one header extension as it lies in the file.
type Extension struct {
	Type uint32
	Off  int64  // host offset of its data
	Data []byte // without padding; not to be written to
}

// Known reports whether this package knows the extension's type.
func (e Extension) Known() bool {
	switch e.Type {
	case extBackingFormat, extFeatureNames, extBitmaps, extCrypto, extDataFile:
		return true
	}
	return false
}

// A FeatureType says which of the header's three sets a feature bit is in.
type FeatureType uint8

const (
	featureIncompatible FeatureType = iota
	featureCompatible
	featureAutoclear
)

func (t FeatureType) String() string {
	switch t {
	case featureIncompatible:
		return "incompatible"
	case featureCompatible:
		return "compatible"
	case featureAutoclear:
		return "autoclear"
	}
	return "unknown"
}

// A FeatureName is one entry of the feature name table. It comes from the
// image and is not to be trusted.
type FeatureName struct {
	Type FeatureType
	Bit  uint8
	Name string
}

// extensions is what the header extensions say.
type extensions struct {
	list          []Extension
	backingFormat string // "" if not said
	dataFile      string // "" if not said
	featureNames  []FeatureName
	hasBitmaps    bool
	bitmapsExt    bitmapsExt
	bitmapsOff    int64 // host offset of the bitmaps extension's data
}

// bitmapsExt is the bitmaps extension as it lies in the file; not validated.
type bitmapsExt struct {
	len       int // bytes of the extension: bitmapsExtLen if it is sound
	nbBitmaps uint32
	reserved  uint32
	dirSize   uint64
	dirOffset uint64
}

// decodeExtensions reads the header extensions out of the first cluster, of
// which the file may hold only a part. They start behind the header and end at
// a marker, at the backing file's name, or with the cluster.
func (h *header) decodeExtensions(cluster []byte) error {
	end := h.clusterSize()
	if h.backingOffset != 0 {
		end = int64(h.backingOffset)
	}
	seen := make(map[uint32]bool)
	for off := int64(h.length); off < end; {
		if off+extHeaderLen > end {
			return fail(diskimage.ErrCorrupt, off, "header extension", "it runs into what follows at %#x", end)
		}
		if off+extHeaderLen > int64(len(cluster)) {
			return fail(diskimage.ErrTruncated, off, "header extension", "the file ends at %#x", len(cluster))
		}
		typ := binary.BigEndian.Uint32(cluster[off:])
		n := int64(binary.BigEndian.Uint32(cluster[off+4:]))
		if n > end-off-extHeaderLen {
			return fail(diskimage.ErrCorrupt, off, "header extension", "type %#x with %d bytes runs over what follows at %#x", typ, n, end)
		}
		if typ == extEnd {
			return nil
		}
		off += extHeaderLen
		if off+n > int64(len(cluster)) {
			return fail(diskimage.ErrTruncated, off, "header extension", "type %#x ends at %#x, the file at %#x", typ, off+n, len(cluster))
		}
		e := Extension{Type: typ, Off: off, Data: bytes.Clone(cluster[off : off+n])}
		if e.Known() && seen[typ] {
			return fail(diskimage.ErrCorrupt, off-extHeaderLen, "header extension", "type %#x is there twice", typ)
		}
		seen[typ] = true
		h.list = append(h.list, e)
		if err := h.decodeExtension(e); err != nil {
			return err
		}
		off += (n + 7) &^ 7
	}
	return nil
}

func (x *extensions) decodeExtension(e Extension) (err error) {
	be := binary.BigEndian
	switch e.Type {
	case extBackingFormat:
		if len(e.Data) > maxBackingFormat {
			return fail(diskimage.ErrCorrupt, e.Off, "backing format extension", "%d bytes, %d at most", len(e.Data), maxBackingFormat)
		}
		x.backingFormat, err = text(e.Data, e.Off, "backing format extension")
	case extDataFile:
		x.dataFile, err = text(e.Data, e.Off, "data file extension")
	case extFeatureNames:
		for b := e.Data; len(b) >= featureNameLen; b = b[featureNameLen:] {
			name, _, _ := bytes.Cut(b[2:featureNameLen], []byte{0})
			x.featureNames = append(x.featureNames, FeatureName{FeatureType(b[0]), b[1], string(name)})
		}
	case extBitmaps:
		x.hasBitmaps, x.bitmapsOff = true, e.Off
		x.bitmapsExt.len = len(e.Data)
		if len(e.Data) == bitmapsExtLen {
			x.bitmapsExt.nbBitmaps = be.Uint32(e.Data)
			x.bitmapsExt.reserved = be.Uint32(e.Data[4:])
			x.bitmapsExt.dirSize = be.Uint64(e.Data[8:])
			x.bitmapsExt.dirOffset = be.Uint64(e.Data[16:])
		}
	}
	return err
}

// featureName returns what the image calls a feature bit, or "".
func (x *extensions) featureName(t FeatureType, bit uint8) string {
	for _, f := range x.featureNames {
		if f.Type == t && f.Bit == bit {
			return f.Name
		}
	}
	return ""
}

// text returns b, the bytes of a name, as a string. A NUL in it could cut the
// name short for another reader, which would then see another file.
func text(b []byte, off int64, field string) (string, error) {
	if i := bytes.IndexByte(b, 0); i >= 0 {
		return "", fail(diskimage.ErrCorrupt, off+int64(i), field, "it holds a NUL byte")
	}
	return string(b), nil
}
