package vmdk

import (
	"bytes"
	"strings"
	"unicode/utf8"

	"github.com/diskimage-go/diskimage"
)

// utf8BOM is the mark that some editors put in front of UTF-8 text.
const utf8BOM = "\ufeff"

// encodingOf returns the encoding that a descriptor names: its own, or that of
// its disk database if only that names one; "" if neither does.
func encodingOf(text []byte) string {
	inDDB := ""
	for line := range bytes.Lines(text) {
		s, ok := cutSetting(trimBlanks(string(line)))
		switch {
		case !ok:
		case strings.EqualFold(s.key, "encoding"):
			return s.value
		case inDDB == "" && strings.EqualFold(s.key, "ddb.encoding"):
			inDDB = s.value
		}
	}
	return inDDB
}

// A charset is how the bytes of a descriptor's text that are not ASCII are
// read. In all of them the other bytes are ASCII, so that lines and quotes
// are found before anything is decoded.
type charset uint8

const (
	charsetUnknown   charset = iota
	charsetUnnamed           // UTF-8, if the bytes are
	charsetUTF8              //
	charsetASCII             //
	charsetLatin1            // ISO 8859-1
	charsetWindows           // windows-1252
	charsetWithTable         // known to extend ASCII; there is no table for the rest
)

// charsetOf returns the charset of this name, as it is spelled in any product.
func charsetOf(name string) charset {
	plain := strings.NewReplacer("-", "", "_", "", " ", "").Replace(strings.ToLower(name))
	switch plain {
	case "":
		return charsetUnnamed
	case "utf8":
		return charsetUTF8
	case "ascii", "usascii":
		return charsetASCII
	case "iso88591", "latin1":
		return charsetLatin1
	case "windows1252", "cp1252":
		return charsetWindows
	case "gbk", "gb2312", "gb18030", "big5", "big5hkscs", "shiftjis", "sjis", "euckr", "eucjp", "euccn", "euctw", "koi8r", "koi8u",
		"windows31j", "cp932", "cp936", "cp949", "cp950":
		return charsetWithTable
	}
	for _, family := range []string{"iso8859", "windows125", "cp125", "windows9", "ibm"} {
		if strings.HasPrefix(plain, family) {
			return charsetWithTable
		}
	}
	return charsetUnknown
}

// decoderFor returns what turns a line of a descriptor in this encoding, at a
// host offset, into UTF-8. base is the host offset of the descriptor.
//
// Other text than ASCII is decoded from UTF-8, ISO 8859-1 and windows-1252;
// the standard library has no tables for others.
func decoderFor(name string, base int64) (func(line []byte, off int64) (string, error), error) {
	cs := charsetOf(name)
	if cs == charsetUnknown {
		return nil, fail(diskimage.ErrUnsupported, base, "descriptor: encoding", "%s is unknown", diskimage.Quote(name))
	}
	return func(line []byte, off int64) (string, error) {
		if isASCII(line) {
			return string(line), nil
		}
		switch cs {
		case charsetUTF8, charsetUnnamed:
			if utf8.Valid(line) {
				return string(line), nil
			}
			if cs == charsetUnnamed {
				return "", fail(diskimage.ErrUnsupported, off, "descriptor: encoding", "none is named, and the text is not UTF-8")
			}
		case charsetLatin1, charsetWindows:
			return fromLatin(line, cs == charsetWindows), nil
		case charsetWithTable:
			return "", fail(diskimage.ErrUnsupported, off, "descriptor: encoding", "text in %s is not read, unless it is ASCII", diskimage.Quote(name))
		}
		return "", fail(diskimage.ErrCorrupt, off, "descriptor: encoding", "the text is not %s", diskimage.Quote(name))
	}, nil
}

func isASCII(b []byte) bool {
	for _, c := range b {
		if c >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// windows1252 has the characters of the bytes 0x80 to 0x9f. Five are not
// assigned and stand for the control characters of the same number, as
// Windows has it.
var windows1252 = [32]rune{
	0x20ac, 0x0081, 0x201a, 0x0192, 0x201e, 0x2026, 0x2020, 0x2021, 0x02c6, 0x2030, 0x0160, 0x2039, 0x0152, 0x008d, 0x017d, 0x008f,
	0x0090, 0x2018, 0x2019, 0x201c, 0x201d, 0x2022, 0x2013, 0x2014, 0x02dc, 0x2122, 0x0161, 0x203a, 0x0153, 0x009d, 0x017e, 0x0178,
}

// fromLatin decodes ISO 8859-1, or windows-1252, which differs from it in the
// bytes 0x80 to 0x9f.
func fromLatin(line []byte, windows bool) string {
	var b strings.Builder
	for _, c := range line {
		r := rune(c)
		if windows && c >= 0x80 && c <= 0x9f {
			r = windows1252[c-0x80]
		}
		b.WriteRune(r)
	}
	return b.String()
}
