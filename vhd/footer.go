package vhd

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/internal/fault"
)

// A footer is a hard disk footer, or the copy of one that stands at the front
// of dynamic and differencing disks.
type footer struct {
	features       uint32
	version        uint32
	dataOffset     uint64 // of the dynamic disk header; noOffset in a fixed disk
	timeStamp      uint32 // seconds since 2000-01-01 UTC
	creator        [4]byte
	creatorVersion uint32
	creatorOS      [4]byte
	originalSize   uint64 // bytes, when the disk was made
	currentSize    uint64 // bytes
	geometry       Geometry
	diskType       DiskType
	uniqueID       [16]byte
	savedState     byte
}

// checksumOf returns the one's complement of the sum of all bytes but those of
// the checksum itself, as footer and dynamic disk header have it.
func checksumOf(p []byte, at int) uint32 {
	var sum uint32
	for i, b := range p {
		if i < at || i >= at+4 {
			sum += uint32(b)
		}
	}
	return ^sum
}

// A finding says what stands where a footer may be.
type finding uint8

const (
	nothing finding = iota // no cookie
	damaged                // a cookie with a wrong checksum
	sound
)

// inspect says what p, of footerLen or oldFooterLen bytes, is.
func inspect(p []byte) finding {
	switch {
	case !bytes.HasPrefix(p, []byte(footerCookie)):
		return nothing
	case checksumOf(p, offChecksum) != binary.BigEndian.Uint32(p[offChecksum:]):
		return damaged
	}
	return sound
}

func decodeFooter(p []byte) *footer {
	be := binary.BigEndian
	return &footer{
		features:       be.Uint32(p[offFeatures:]),
		version:        be.Uint32(p[offFormatVersion:]),
		dataOffset:     be.Uint64(p[offDataOffset:]),
		timeStamp:      be.Uint32(p[offTimeStamp:]),
		creator:        [4]byte(p[offCreator:]),
		creatorVersion: be.Uint32(p[offCreatorVersion:]),
		creatorOS:      [4]byte(p[offCreatorOS:]),
		originalSize:   be.Uint64(p[offOriginalSize:]),
		currentSize:    be.Uint64(p[offCurrentSize:]),
		geometry:       Geometry{int(be.Uint16(p[offCylinders:])), int(p[offHeads]), int(p[offSectors])},
		diskType:       DiskType(be.Uint32(p[offDiskType:])),
		uniqueID:       [16]byte(p[offUniqueID:]),
		savedState:     p[offSavedState],
	}
}

// encode returns the footer's bytes.
func (f *footer) encode() []byte {
	be := binary.BigEndian
	p := make([]byte, footerLen)
	copy(p, footerCookie)
	be.PutUint32(p[offFeatures:], f.features)
	be.PutUint32(p[offFormatVersion:], f.version)
	be.PutUint64(p[offDataOffset:], f.dataOffset)
	be.PutUint32(p[offTimeStamp:], f.timeStamp)
	copy(p[offCreator:], f.creator[:])
	be.PutUint32(p[offCreatorVersion:], f.creatorVersion)
	copy(p[offCreatorOS:], f.creatorOS[:])
	be.PutUint64(p[offOriginalSize:], f.originalSize)
	be.PutUint64(p[offCurrentSize:], f.currentSize)
	be.PutUint16(p[offCylinders:], uint16(f.geometry.Cylinders))
	p[offHeads], p[offSectors] = byte(f.geometry.Heads), byte(f.geometry.SectorsPerTrack)
	be.PutUint32(p[offDiskType:], uint32(f.diskType))
	copy(p[offUniqueID:], f.uniqueID[:])
	p[offSavedState] = f.savedState
	be.PutUint32(p[offChecksum:], checksumOf(p, offChecksum))
	return p
}

// validate holds the footer against the specification; off is where it stands.
func (f *footer) validate(off int64) error {
	switch {
	case f.version>>16 != formatVersion>>16:
		return fail(diskimage.ErrUnsupported, off+offFormatVersion, "footer: file format version", "%#x, known is %#x", f.version, formatVersion)
	case f.diskType != Fixed && f.diskType != Dynamic && f.diskType != Differencing:
		return fail(diskimage.ErrUnsupported, off+offDiskType, "footer: disk type", "%d is not fixed (2), dynamic (3) or differencing (4)", f.diskType)
	case f.currentSize > MaxSize:
		return fail(diskimage.ErrLimit, off+offCurrentSize, "footer: current size", "%d bytes, more than the format's %d (2040 GiB)", f.currentSize, int64(MaxSize))
	}
	return nil
}

// footers is what was found of an image's footer and its copy.
type footers struct {
	*footer            // the one that counts
	off          int64 // where it stands
	old          bool  // it has 511 bytes
	otherDamaged bool  // of it and its copy, the other one is not sound
	differ       bool  // both are sound, and not the same
	end          int64 // where what the footer at the end leaves to data ends
	notes        []string
}

// findFooter looks for a footer at the file's end and for the copy at its
// front, and settles which one counts.
//
// Either is enough where the other is damaged, which is noted. A file with a
// sound copy at the front and no footer at all at its end was cut off.
func findFooter(src diskimage.Source, salvage bool) (*footers, error) {
	size := src.Size()
	if size < oldFooterLen {
		return nil, fail(diskimage.ErrFormat, -1, "", "%d bytes cannot hold a footer", size)
	}
	tail := make([]byte, min(size, footerLen))
	if err := readFull(src, tail, size-int64(len(tail)), "footer"); err != nil {
		return nil, err
	}
	atEnd, tailOff := inspect(tail), size-int64(len(tail))
	if len(tail) == footerLen && atEnd == nothing {
		if old := inspect(tail[1:]); old != nothing {
			tail, atEnd, tailOff = tail[1:], old, tailOff+1
		}
	}
	var front []byte
	atFront := nothing
	if size > footerLen { // a file that was cut early may have less than both
		front = make([]byte, footerLen)
		if err := readFull(src, front, 0, "footer copy"); err != nil {
			return nil, err
		}
		atFront = inspect(front)
	}
	return settle(front, atFront, tail, atEnd, tailOff, size, salvage)
}

// settle decides between a footer and its copy.
func settle(front []byte, atFront finding, tail []byte, atEnd finding, tailOff, size int64, salvage bool) (*footers, error) {
	switch {
	case atEnd == sound:
		f := &footers{footer: decodeFooter(tail), off: tailOff, end: tailOff, old: len(tail) == oldFooterLen}
		if f.diskType == Fixed { // what stands at the front is the guest's
			if atFront == sound && decodeFooter(front).diskType != Fixed {
				return nil, fail(diskimage.ErrFormat, 0, "footer copy", "the file is a fixed disk by the footer at its end, and another by the one at its front")
			}
			return f, nil
		}
		switch {
		case atFront != sound:
			f.otherDamaged = true
			f.note("the copy of the footer at the front is damaged; the footer at the end was used")
		case !bytes.Equal(front[:len(tail)], tail):
			if !f.sameDisk(decodeFooter(front)) && !salvage {
				return nil, fail(diskimage.ErrCorrupt, tailOff, "footer", "it and its copy at the front are sound, and of different disks")
			}
			f.differ = true
			f.note("the footer and its copy at the front differ; the footer at the end was used")
		}
		return f, nil
	case atFront == sound:
		f := &footers{footer: decodeFooter(front), off: 0, end: tailOff, otherDamaged: true}
		if f.diskType == Fixed {
			return nil, fail(diskimage.ErrCorrupt, 0, "footer copy", "it says that the disk is a fixed one, which has none")
		}
		if atEnd == damaged {
			f.note("the footer at the end is damaged; its copy at the front was used")
			return f, nil
		}
		if !salvage {
			return nil, fail(diskimage.ErrTruncated, size, "footer", "the file ends without one; its copy at the front is sound")
		}
		f.end = size
		f.note("the file ends without a footer; its copy at the front was used")
		return f, nil
	case atEnd == damaged:
		return nil, fail(diskimage.ErrCorrupt, tailOff+offChecksum, "footer: checksum", "it is wrong, and there is no sound copy at the front")
	case atFront == damaged:
		return nil, fail(diskimage.ErrCorrupt, offChecksum, "footer copy: checksum", "it is wrong, and there is no footer at the end")
	}
	return nil, fail(diskimage.ErrFormat, -1, "", "there is a footer neither at the end nor at the front")
}

func (f *footers) note(format string, args ...any) {
	f.notes = append(f.notes, fmt.Sprintf(format, args...))
}

// sameDisk reports whether both describe one disk in the same state, so that
// either may be used.
func (f *footer) sameDisk(g *footer) bool {
	return f.diskType == g.diskType && f.currentSize == g.currentSize && f.geometry == g.geometry &&
		f.dataOffset == g.dataOffset && f.uniqueID == g.uniqueID && f.version == g.version && f.creator == g.creator
}

// fail returns an error of this format.
func fail(kind diskimage.ErrorKind, off int64, field, format string, args ...any) error {
	return fault.New(Name, kind, off, field, format, args...)
}

// readFull fills p from offset off of src. field names what is read, in the
// error for a file that ends too early.
func readFull(src io.ReaderAt, p []byte, off int64, field string) error {
	return fault.ReadFull(Name, src, p, off, field)
}
