package convert

import (
	"bytes"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// A class says what a recognised content means for somebody who wants a disk.
type class uint8

const (
	ours    class = iota // an image format of this module
	foreign              // an image format of others
	wrapped              // no disk, though one may be inside: compressed data, archives, documents
	onDisk               // may well be the first bytes of a disk: taken as raw where raw is declared
)

// A signature is a content that is told by bytes at fixed places.
type signature struct {
	name  string
	class class
	off   int
	magic string
	off2  int    // a second place, if magic2 is not empty
	then  string // what must be there
}

// signatures are the contents that are not ours to read, so that none of them
// is ever taken for a raw disk. Where the magic number stands in the content's
// own specification, it is named as that has it.
var signatures = []signature{
	{name: "VHDX", class: foreign, magic: "vhdxfile"},
	{name: "VDI", class: foreign, off: 64, magic: "\x7f\x10\xda\xbe"},
	{name: "QED", class: foreign, magic: "QED\x00"},
	{name: "Parallels HDD", class: foreign, magic: "WithoutFreeSpace"},
	{name: "Parallels HDD", class: foreign, magic: "WithouFreSpacExt"},
	{name: "Bochs HD image", class: foreign, magic: "Bochs Virtual HD Image"},
	{name: "Android sparse image", class: foreign, magic: "\x3a\xff\x26\xed"},
	{name: "WIM", class: foreign, magic: "MSWIM\x00\x00\x00"},

	{name: "gzip", class: wrapped, magic: "\x1f\x8b\x08"},
	{name: "xz", class: wrapped, magic: "\xfd7zXZ\x00"},
	{name: "zstd", class: wrapped, magic: "\x28\xb5\x2f\xfd"},
	{name: "lz4", class: wrapped, magic: "\x04\x22\x4d\x18"},
	{name: "bzip2", class: wrapped, magic: "BZh", off2: 4, then: "1AY&SY"},
	{name: "bzip2", class: wrapped, magic: "BZh", off2: 4, then: "\x17rE8P\x90"}, // of nothing
	{name: "zip", class: wrapped, magic: "PK\x03\x04"},
	{name: "zip", class: wrapped, magic: "PK\x05\x06"}, // without members
	{name: "7z", class: wrapped, magic: "7z\xbc\xaf\x27\x1c"},
	{name: "rar", class: wrapped, magic: "Rar!\x1a\x07"},
	{name: tarName, class: wrapped, off: 257, magic: "ustar"},

	{name: "PDF", class: wrapped, magic: "%PDF-"},
	{name: "ELF", class: wrapped, magic: "\x7fELF"},

	{name: "ISO 9660", class: onDisk, off: isoOffset, magic: "CD001"}, // also of a hybrid with a partition table
	{name: "LUKS", class: onDisk, magic: "LUKS\xba\xbe"},
}

const (
	tarName    = "tar"                                  // an OVA is one, and told from others by its first member
	isoOffset  = 16*2048 + 1                            // ECMA-119: the standard identifier of the first volume descriptor
	prefixLen  = isoOffset + 5                          // what detection reads of a file's front
	textWindow = 4096                                   // what of it must be text to be called text
	dmgTrailer = "koly\x00\x00\x00\x04\x00\x00\x02\x00" // 512 bytes before the end: version 4, 512 bytes
)

func (s *signature) matches(prefix []byte) bool {
	return hasAt(prefix, s.off, s.magic) && (s.then == "" || hasAt(prefix, s.off2, s.then))
}

// hasAt reports whether p has the bytes s at off.
func hasAt(p []byte, off int, s string) bool {
	return len(p) >= off+len(s) && string(p[off:off+len(s)]) == s
}

// textName returns what kind of text a file begins with, or "" if it is none.
// Text may be padded with NULs. whole says that prefix is all of the file.
func textName(prefix []byte, whole bool) string {
	if len(prefix) > textWindow {
		prefix, whole = prefix[:textWindow], false
	}
	text, ok := utf16Text(prefix)
	if !ok {
		text = bytes.TrimRight(prefix, "\x00")
		padded := len(text) < len(prefix) // then the last character was not cut
		text = bytes.TrimPrefix(text, []byte("\xef\xbb\xbf"))
		if !isText(text, whole || padded) {
			return ""
		}
	}
	start := bytes.ToLower(bytes.TrimSpace(text))
	switch {
	case bytes.HasPrefix(start, []byte("<!doctype html")), bytes.HasPrefix(start, []byte("<html")):
		return "HTML"
	case bytes.HasPrefix(start, []byte("<error>")), bytes.HasPrefix(start, []byte("<?xml")) && bytes.Contains(start, []byte("<error>")):
		return "XML, an object store's error answer"
	case bytes.HasPrefix(start, []byte("<?xml")), bytes.HasPrefix(start, []byte("<!doctype")):
		return "XML"
	case bytes.HasPrefix(start, []byte("{")) && bytes.IndexByte(start, '"') > 0:
		return "JSON"
	}
	return "text"
}

// isText reports whether p is UTF-8 without control characters other than
// those of a text. Unless whole is set its last character may be cut.
func isText(p []byte, whole bool) bool {
	if len(p) == 0 {
		return false
	}
	for len(p) > 0 {
		r, n := utf8.DecodeRune(p)
		if r == utf8.RuneError && n == 1 {
			return !whole && !utf8.FullRune(p)
		}
		if !isTextRune(r) {
			return false
		}
		p = p[n:]
	}
	return true
}

func isTextRune(r rune) bool {
	switch r {
	case '\t', '\n', '\r', '\f', '\b', 0x1b: // the last for a terminal's colours
		return true
	}
	return !unicode.IsControl(r)
}

// utf16Text returns p as UTF-8 if it is text in UTF-16 with a byte order mark.
func utf16Text(p []byte) ([]byte, bool) {
	var little int
	switch {
	case hasAt(p, 0, "\xff\xfe"):
		little = 1
	case hasAt(p, 0, "\xfe\xff"):
	default:
		return nil, false
	}
	units := make([]uint16, 0, len(p)/2)
	for i := 2; i+1 < len(p); i += 2 {
		units = append(units, uint16(p[i+little])<<8|uint16(p[i+1-little]))
	}
	for len(units) > 0 && units[len(units)-1] == 0 {
		units = units[:len(units)-1]
	}
	if n := len(units); n > 0 && utf16.IsSurrogate(rune(units[n-1])) {
		units = units[:n-1] // cut in the middle of a pair
	}
	var text []byte
	for _, r := range utf16.Decode(units) {
		if r == utf8.RuneError || !isTextRune(r) {
			return nil, false
		}
		text = utf8.AppendRune(text, r)
	}
	return text, len(text) > 0
}
