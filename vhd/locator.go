package vhd

import (
	"bytes"
	"encoding/binary"
	"net/url"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/diskimage-go/diskimage"
)

// A ParentName is one of the names by which a differencing disk knows its
// parent.
type ParentName struct {
	Platform string // the locator's platform code: "W2ru", "W2ku", "MacX", "Wi2r", "Wi2k"; "" for the name in the header
	Name     string // as it is stored, in UTF-8
}

// readParentNames returns the parent's names in the order in which they are to
// be tried: relative ones, absolute ones, then the one in the header. What
// cannot be read or decoded is left out, with a note: the others may do.
func (h *header) readParentNames(src diskimage.Source, f *footers) []ParentName {
	var names []ParentName
	order := []uint32{platformW2ru, platformMacX, platformW2ku, platformWi2r, platformWi2k}
	for _, platform := range order {
		for i, l := range h.locators {
			if l.platform != platform {
				continue
			}
			name, err := l.read(src, f.end)
			if err != nil {
				f.note("parent locator %d: %v", i, err)
				continue
			}
			names = append(names, ParentName{platformName(l.platform), name})
		}
	}
	for i, l := range h.locators {
		switch l.platform {
		case 0, platformW2ru, platformMacX, platformW2ku, platformWi2r, platformWi2k:
		case platformMac:
			f.note("parent locator %d is a Mac OS alias, which is not followed", i)
		default:
			f.note("parent locator %d is of the unknown platform %#x", i, l.platform)
		}
	}
	if name, err := decodeUTF16(h.parentName, binary.BigEndian); err != nil {
		f.note("the parent's name in the dynamic disk header: %v", err)
	} else if name != "" {
		names = append(names, ParentName{"", name})
	}
	return names
}

func platformName(code uint32) string {
	return string(binary.BigEndian.AppendUint32(nil, code))
}

// read returns the name that a locator stores.
func (l *locator) read(src diskimage.Source, end int64) (string, error) {
	const field = "platform data"
	switch {
	case l.length == 0 || l.length > maxLocatorLen:
		return "", fail(diskimage.ErrCorrupt, int64(l.offset&(1<<63-1)), field, "%d bytes are no name", l.length)
	case l.offset < footerLen || l.offset > uint64(end) || int64(l.length) > end-int64(l.offset):
		return "", fail(diskimage.ErrTruncated, int64(l.offset&(1<<63-1)), field, "its %d bytes do not lie between the footer's copy and the end at %#x", l.length, end)
	}
	p := make([]byte, l.length)
	if err := readFull(src, p, int64(l.offset), field); err != nil {
		return "", err
	}
	if l.platform == platformMacX {
		p = bytes.TrimRight(p, "\x00")
		if !utf8.Valid(p) {
			return "", fail(diskimage.ErrCorrupt, int64(l.offset), field, "it is no UTF-8")
		}
		return string(p), nil
	}
	// Virtual PC and Hyper-V write little-endian, whatever the rest of the file
	// is; the second byte of a path's first character tells.
	var order binary.ByteOrder = binary.LittleEndian
	if len(p) >= 2 && p[0] == 0 && p[1] != 0 {
		order = binary.BigEndian
	}
	return decodeUTF16(p, order)
}

// decodeUTF16 returns text in UTF-8, without the NULs that pad it.
func decodeUTF16(p []byte, order binary.ByteOrder) (string, error) {
	units := make([]uint16, 0, len(p)/2)
	for ; len(p) >= 2; p = p[2:] {
		units = append(units, order.Uint16(p))
	}
	for len(units) > 0 && units[len(units)-1] == 0 {
		units = units[:len(units)-1]
	}
	var b strings.Builder
	for len(units) > 0 {
		r, n := rune(units[0]), 1
		if utf16.IsSurrogate(r) {
			r = utf8.RuneError
			if len(units) > 1 {
				r, n = utf16.DecodeRune(rune(units[0]), rune(units[1])), 2
			}
		}
		if r == utf8.RuneError || r == 0 {
			return "", fail(diskimage.ErrCorrupt, -1, "", "it is no UTF-16")
		}
		b.WriteRune(r)
		units = units[n:]
	}
	return b.String(), nil
}

// encodeUTF16 returns text in UTF-16.
func encodeUTF16(text string, order binary.AppendByteOrder) []byte {
	var p []byte
	for _, u := range utf16.Encode([]rune(text)) {
		p = order.AppendUint16(p, u)
	}
	return p
}

// candidates returns the file names to try for the parent, in order and each
// once: each name relative to the image, if it is relative; then, of the
// absolute ones, the last element beside the image, since images are moved
// together; then the absolute ones themselves, but for those of other hosts.
func candidates(names []ParentName) []string {
	var relative, beside, absolute []string
	for _, n := range names {
		name, ok := strings.ReplaceAll(n.Name, `\`, "/"), true
		if n.Platform == "MacX" {
			if name, ok = pathOfURL(n.Name); !ok {
				continue
			}
		}
		last := name[strings.LastIndexByte(name, '/')+1:]
		switch {
		case last == "":
		case len(name) >= 2 && name[1] == ':': // a drive's letter
			beside = append(beside, strings.TrimPrefix(last, name[:2]))
			absolute = append(absolute, name)
		case strings.HasPrefix(name, "//"):
			beside = append(beside, last)
		case strings.HasPrefix(name, "/"):
			beside = append(beside, last)
			absolute = append(absolute, name)
		default:
			for strings.HasPrefix(name, "./") {
				name = strings.TrimLeft(name[2:], "/")
			}
			relative = append(relative, name)
		}
	}
	var all []string
	seen := map[string]bool{"": true}
	for _, list := range [][]string{relative, beside, absolute} {
		for _, name := range list {
			if !seen[name] {
				seen[name] = true
				all = append(all, name)
			}
		}
	}
	return all
}

// pathOfURL returns the path of a file's URL. XenServer writes the names that
// it has after "file://", relative ones too and with nothing escaped.
func pathOfURL(text string) (path string, ok bool) {
	path, ok = strings.CutPrefix(text, "file://")
	path = strings.TrimPrefix(path, "localhost")
	if !ok || !strings.HasPrefix(path, "/") && !strings.HasPrefix(path, ".") {
		return "", false
	}
	if plain, err := url.PathUnescape(path); err == nil {
		path = plain
	}
	return path, true
}

// windowsName returns a file name as a locator of ours has it, with
// backslashes, and the locator's platform code: a relative name starts with
// ".\" unless it leads upwards, as Windows writes it.
func windowsName(name string) (platform uint32, path string) {
	path = strings.ReplaceAll(name, "/", `\`)
	switch {
	case strings.HasPrefix(path, `\`), len(path) >= 2 && path[1] == ':':
		return platformW2ku, path
	case strings.HasPrefix(path, `.\`), strings.HasPrefix(path, `..\`):
		return platformW2ru, path
	}
	return platformW2ru, `.\` + path
}
