package convert

import (
	"encoding/binary"
	"fmt"
	"io"
	"strings"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/internal/ova"
	"github.com/diskimage-go/diskimage/vmdk"
)

// Detect returns the format that a file's content says it is. It reads a few
// bytes at the front and at the end.
//
// Raw has no mark of its own: it is what remains when the content is no other
// image, no compressed data, archive or document, no optical disc and no text.
// Whatever is recognised and is no format of this package is an error that
// names it: [diskimage.ErrUnsupported] for another image format,
// [diskimage.ErrFormat] for the rest, for an empty file and for two formats at
// once. A damaged VHD footer is [diskimage.ErrCorrupt], never raw.
//
// What a guest wrote to a raw disk is content too: it can make a raw disk look
// like any format, and such a disk must be declared raw.
func Detect(src diskimage.Source) (Format, error) {
	f, _, err := decide(src, Auto, false)
	return f, err
}

// A content is what a file was recognised as.
type content struct {
	format Format // of ours, else Auto
	name   string // as messages have it
	class  class
	err    error // what is wrong with it already
}

// decide returns the format in which a file is to be read: the declared one if
// the content does not contradict it, or if it is Auto the one the content says.
// With rawAnyway whatever is declared raw is raw.
func decide(src diskimage.Source, declared Format, rawAnyway bool) (Format, []diskimage.Note, error) {
	found, err := identify(src)
	if err != nil {
		return Auto, nil, err
	}
	if src.Size() == 0 && !(declared == Raw && rawAnyway) {
		msg := "the file is empty"
		if declared == Raw {
			msg += " (--raw-anyway takes it for a disk of no bytes)"
		}
		return Auto, nil, mismatch(msg)
	}

	// What may lie on any disk does not contradict a declared format, and gives
	// way to it; all else stands against each other.
	var strong, onDisks []content
	for _, c := range found {
		if c.class == onDisk {
			onDisks = append(onDisks, c)
		} else {
			strong = append(strong, c)
		}
	}
	switch {
	case declared == Raw && rawAnyway:
		return Raw, takenAs(Raw, found), nil
	case len(strong) > 1:
		return Auto, nil, mismatch("content is " + allNames(strong) + " at once")
	case declared == Auto:
		f, err := only(found)
		return f, nil, err
	case len(strong) == 0 && declared == Raw:
		return Raw, takenAs(Raw, onDisks), nil
	case len(strong) == 1 && strong[0].format == declared && strong[0].err != nil:
		return Auto, nil, strong[0].err
	case len(strong) == 1 && strong[0].format == declared:
		return declared, takenAs(declared, onDisks), nil
	case len(found) == 0:
		return Auto, nil, mismatch(fmt.Sprintf("declared %v, content is no %v", declared, declared))
	}
	msg := fmt.Sprintf("declared %v, content is %s", declared, allNames(found))
	if declared == Raw {
		msg += " (--raw-anyway takes its bytes for the disk's)"
	}
	return Auto, nil, mismatch(msg)
}

// only returns the format of a file that nobody declared.
func only(found []content) (Format, error) {
	if len(found) == 0 {
		return Raw, nil
	}
	if len(found) > 1 {
		return Auto, mismatch("content is " + allNames(found) + " at once; declare its format")
	}
	c := found[0]
	switch c.class {
	case ours:
		if c.err != nil {
			return Auto, c.err
		}
		return c.format, nil
	case foreign:
		return Auto, &diskimage.Error{Kind: diskimage.ErrUnsupported, Off: -1,
			Msg: "content is " + c.name + ", an image format that is not read"}
	case onDisk:
		return Auto, mismatch("content is " + c.name + "; if that is what the disk holds, declare it raw")
	}
	return Auto, mismatch("content is " + c.name + ", which is no disk image")
}

func mismatch(msg string) error {
	return &diskimage.Error{Kind: diskimage.ErrFormat, Off: -1, Msg: msg}
}

func allNames(found []content) string {
	var names []string
	for _, c := range found {
		names = append(names, c.name)
	}
	return strings.Join(names, " and ")
}

// takenAs notes what a file looks like apart from what it is taken for.
func takenAs(f Format, found []content) []diskimage.Note {
	var notes []diskimage.Note
	for _, c := range found {
		notes = append(notes, diskimage.Note{Format: f.String(), Text: "the content looks like " + c.name + "; it is read as " + f.String() + ", as declared"})
	}
	return notes
}

// identify returns everything that a file's content can be taken for, the
// formats of this package first. None means that it can only be raw.
func identify(src diskimage.Source) ([]content, error) {
	size := src.Size()
	prefix := make([]byte, min(size, prefixLen))
	if err := readFull(src, prefix, 0); err != nil {
		return nil, err
	}
	tail := make([]byte, min(size, vhdFooterLen))
	if err := readFull(src, tail, size-int64(len(tail))); err != nil {
		return nil, err
	}

	var found []content
	add := func(f Format) { found = append(found, content{format: f, name: f.String(), class: ours}) }
	if hasAt(prefix, 0, "QFI\xfb") {
		add(QCOW2)
	}
	if vmdk.Probe(prefix) {
		add(VMDK)
	}
	front, footer := vhdAt(prefix), max(vhdAt(tail), vhdAt(tail[min(1, len(tail)):]))
	if front == vhdGood || footer == vhdGood {
		add(VHD)
	}
	for _, s := range signatures {
		switch {
		case !s.matches(prefix):
		case s.name == tarName && ova.Probe(prefix):
			add(OVA)
		default:
			found = append(found, content{name: s.name, class: s.class})
		}
	}
	if hasAt(tail, 0, dmgTrailer) {
		found = append(found, content{name: "DMG", class: foreign})
	}
	if len(found) > 0 {
		return found, nil
	}

	// The cookie alone is proof enough that the file is no raw disk, and too
	// little to say so against another format's mark.
	for _, at := range []struct {
		state vhdState
		off   int64
	}{{footer, size - int64(len(tail))}, {front, 0}} {
		if at.state == vhdDamaged {
			return []content{{format: VHD, name: "vpc", class: ours, err: &diskimage.Error{
				Kind: diskimage.ErrCorrupt, Format: "vpc", Off: at.off + vhdChecksumOff, Field: "footer: checksum", Msg: "it is wrong"}}}, nil
		}
	}
	switch name := textName(prefix, int64(len(prefix)) == size); name {
	case "":
	case "text":
		found = append(found, content{name: name, class: onDisk})
	default:
		found = append(found, content{name: name, class: wrapped})
	}
	return found, nil
}

// readFull fills p from off, which lies so that it can be filled.
func readFull(src diskimage.Source, p []byte, off int64) error {
	n, err := src.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	e := &diskimage.Error{Kind: diskimage.ErrTruncated, Off: off + int64(n), Msg: "the file ends before its length"}
	if err != io.EOF && err != nil {
		return fmt.Errorf("read at %#x: %w", e.Off, err)
	}
	return e
}

const (
	vhdFooterLen    = 512 // Virtual Hard Disk Image Format Specification: "Hard Disk Footer Format"
	vhdOldFooterLen = 511 // Virtual PC before 2004
	vhdChecksumOff  = 64
)

// A vhdState says what stands in the place of a VHD footer.
type vhdState uint8

const (
	vhdNone vhdState = iota
	vhdDamaged
	vhdGood
)

// vhdAt looks for a footer, or for the copy of one, at the start of p. A
// footer of 511 bytes is one only if those are all of p.
func vhdAt(p []byte) vhdState {
	if !hasAt(p, 0, "conectix") {
		return vhdNone
	}
	p = p[:min(len(p), vhdFooterLen)]
	if len(p) < vhdOldFooterLen {
		return vhdDamaged
	}
	var sum uint32
	for i, b := range p {
		if i < vhdChecksumOff || i >= vhdChecksumOff+4 {
			sum += uint32(b)
		}
	}
	if ^sum != binary.BigEndian.Uint32(p[vhdChecksumOff:]) {
		return vhdDamaged
	}
	return vhdGood
}
