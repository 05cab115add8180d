package vmdk

import (
	"strconv"
	"strings"

	"github.com/diskimage-go/diskimage"
)

// An access says what a product may do with an extent. Reading is allowed
// for all but accessNone.
type access string

const (
	accessRW       access = "RW"
	accessReadOnly access = "RDONLY"
	accessNone     access = "NOACCESS"
)

// An extentKind says how an extent's sectors are stored.
type extentKind string

const (
	kindFlat       extentKind = "FLAT"       // plain, in a file or on a device
	kindSparse     extentKind = "SPARSE"     // a hosted sparse extent
	kindZero       extentKind = "ZERO"       // zeros, in no file
	kindVMFS       extentKind = "VMFS"       // plain, in a file on VMFS
	kindVMFSSparse extentKind = "VMFSSPARSE" // a COWD extent
	kindVMFSRDM    extentKind = "VMFSRDM"    // a mapped device
	kindVMFSRaw    extentKind = "VMFSRAW"    // a device
	kindSESparse   extentKind = "SESPARSE"   // a space-efficient sparse extent
)

// An extentLine is one line of the descriptor's extent section:
//
//	ACCESS SECTORS TYPE ["FILE" [OFFSET [PARTITION-UUID DEVICE-ID]]]
type extentLine struct {
	access   access
	sectors  int64 // of 512 bytes, at least 1
	kind     extentKind
	fileName string // as the descriptor has it; "" for zeros, never "" else
	offset   int64  // in the file, in sectors; not 0 only for plain extents
	device   string // what follows the offset: the partition and device a plain extent was made for; as it is
}

// isExtentLine reports whether a line starts with an access word.
func isExtentLine(line string) bool {
	word, _ := cutWord(line)
	switch access(strings.ToUpper(word)) {
	case accessRW, accessReadOnly, accessNone:
		return true
	}
	return false
}

// parseExtent takes the line as that of an extent.
func (p *descriptorParser) parseExtent() error {
	if len(p.d.extents) == maxExtents {
		return p.fail(diskimage.ErrLimit, "more than %d extents", maxExtents)
	}
	word, rest := cutWord(p.line)
	e := extentLine{access: access(strings.ToUpper(word))}

	word, rest = cutWord(rest)
	var ok bool
	if e.sectors, ok = parseSectors(word); !ok || e.sectors == 0 {
		return p.fail(diskimage.ErrCorrupt, "the extent's size is no number of sectors from 1 to 2^54-1")
	}
	if e.sectors > sectorsMax-p.sectors {
		return p.fail(diskimage.ErrCorrupt, "with this extent the disk has 2^63 bytes or more")
	}
	p.sectors += e.sectors

	word, rest = cutWord(rest)
	e.kind = extentKind(strings.ToUpper(word))
	switch e.kind {
	case kindFlat, kindSparse, kindZero, kindVMFS, kindVMFSSparse, kindVMFSRDM, kindVMFSRaw, kindSESparse:
	case "":
		return p.fail(diskimage.ErrCorrupt, "the extent has no type")
	default:
		return p.fail(diskimage.ErrUnsupported, "extents of type %s are not read", diskimage.Quote(word))
	}
	if (e.kind == kindZero) != (rest == "") {
		return p.fail(diskimage.ErrCorrupt, "an extent has a file, unless it is of type ZERO")
	}
	if rest != "" {
		if err := p.parseExtentFile(&e, rest); err != nil {
			return err
		}
	}
	p.d.extents = append(p.d.extents, e)
	return nil
}

// parseExtentFile takes what follows the type: "FILE" [OFFSET [...]].
func (p *descriptorParser) parseExtentFile(e *extentLine, rest string) error {
	name, rest, ok := strings.Cut(strings.TrimPrefix(rest, `"`), `"`)
	if !ok || name == "" || rest != "" && trimBlanks(rest[:1]) != "" || !strings.Contains(p.line, `"`+name+`"`) {
		return p.fail(diskimage.ErrCorrupt, "the extent's file is no name in quotes")
	}
	e.fileName = name
	word, rest := cutWord(trimBlanks(rest))
	if word == "" {
		return nil
	}
	if e.offset, ok = parseSectors(word); !ok || e.offset > sectorsMax-e.sectors {
		return p.fail(diskimage.ErrCorrupt, "the extent's offset is no number of sectors, or too large")
	}
	if e.kind != kindFlat && (e.offset != 0 || rest != "") {
		return p.fail(diskimage.ErrCorrupt, "only a FLAT extent has an offset")
	}
	if strings.Count(rest, `"`)%2 != 0 {
		return p.fail(diskimage.ErrCorrupt, "a quote is not closed")
	}
	e.device = rest
	return nil
}

// parseSectors reads a decimal number that may be multiplied by the size of a
// sector.
func parseSectors(word string) (int64, bool) {
	n, err := strconv.ParseUint(word, 10, 63)
	return int64(n), err == nil && n <= sectorsMax
}

// cutWord returns the first word of s, which starts with it, and what follows
// the blanks behind it.
func cutWord(s string) (word, rest string) {
	i := strings.IndexAny(s, " \t")
	if i < 0 {
		return s, ""
	}
	return s[:i], strings.TrimLeft(s[i:], " \t")
}

// String returns the line as the products write it.
func (e extentLine) String() string {
	s := string(e.access) + " " + strconv.FormatInt(e.sectors, 10) + " " + string(e.kind)
	if e.kind == kindZero {
		return s
	}
	s += ` "` + e.fileName + `"`
	if e.kind == kindFlat {
		s += " " + strconv.FormatInt(e.offset, 10)
	}
	if e.device != "" {
		s += " " + e.device
	}
	return s
}
