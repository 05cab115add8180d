package vmdk

import (
	"bytes"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/diskimage-go/diskimage"
)

// cidLong, as a CID, says that ddb.longContentID counts, or that nothing was
// ever written. As parentCID, noParentCID says that there is no parent.
const cidLong uint32 = 0xfffffffe

// A descriptor is the text that says what a disk consists of: Virtual Disk
// Format 5.0, "The Descriptor File". It is a file of its own or lies in a
// sparse extent, padded with NULs. All text in it is UTF-8, whatever it was
// in the file.
type descriptor struct {
	version         uint32 // 1 to 3
	encoding        string // as the file names it, "" if it does not
	cid             uint32
	parentCID       uint32 // noParentCID if there is no parent
	createType      string // in VMware's spelling if it is one of VMware's
	parentHint      string // parentFileNameHint, "" if there is none
	changeTrackPath string // the file of changed block tracking, which reading can do without; "" if there is none
	extents         []extentLine
	settings        []setting // the header's others, in their order
	ddb             []setting // the disk database, in its order; keys start with "ddb."
}

// A setting is one line KEY = "VALUE". The value is what is between the quotes.
type setting struct{ key, value string }

// parseDescriptor reads a descriptor. text is all of the file, or of the place
// that a sparse extent has for it, at the host offset base: errors tell
// offsets from there.
//
// Lines end in LF or CRLF; keywords are read in any case, with or without
// blanks around "="; settings may come in any order. Whatever is neither blank,
// a comment, a setting nor an extent line is an error, and so are two different
// values where one can count.
func parseDescriptor(text []byte, base int64) (*descriptor, error) {
	if len(text) > maxDescriptorBytes {
		return nil, fail(diskimage.ErrLimit, base, "descriptor", "%d bytes, %d at most", len(text), maxDescriptorBytes)
	}
	text = bytes.TrimRight(text, "\x00")
	if i := bytes.IndexByte(text, 0); i >= 0 {
		if bytes.HasPrefix(text, []byte("\xff\xfe")) || bytes.HasPrefix(text, []byte("\xfe\xff")) {
			return nil, fail(diskimage.ErrCorrupt, base, "descriptor", "it is UTF-16 text, which no product writes")
		}
		if !isShifted(text[:i], text[i+1:]) {
			return nil, fail(diskimage.ErrCorrupt, base+int64(i), "descriptor", "a NUL inside the text")
		}
		text = text[:i]
	}
	if !isDescriptor(text) {
		return nil, fail(diskimage.ErrCorrupt, base, "descriptor", "it does not start as one")
	}
	encoding := encodingOf(text)
	decode, err := decoderFor(encoding, base)
	if err != nil {
		return nil, err
	}
	p := descriptorParser{d: &descriptor{version: 1, cid: noParentCID, parentCID: noParentCID, encoding: encoding}, seen: map[string]string{}}
	off := base
	for raw := range bytes.Lines(text) {
		p.lineNo++
		p.off = off
		if p.line, err = decode(raw, off); err != nil {
			return nil, err
		}
		if p.lineNo == 1 {
			p.line = strings.TrimPrefix(p.line, utf8BOM)
		}
		p.line = trimBlanks(p.line)
		if err := p.parseLine(); err != nil {
			return nil, err
		}
		off += int64(len(raw))
	}
	if err := p.d.validate(base); err != nil {
		return nil, err
	}
	return p.d, nil
}

// isShifted reports whether rest is what QEMU leaves behind a NUL at the end of
// a descriptor file when the CID that it writes last has fewer digits than the
// first one: the end of the text as it was before, some places further on.
func isShifted(text, rest []byte) bool {
	return len(rest) < 8 && bytes.HasSuffix(text, rest)
}

// A descriptorParser is the state of parseDescriptor: the line it is at.
type descriptorParser struct {
	d       *descriptor
	line    string // trimmed
	lineNo  int    // from 1
	off     int64  // host offset of the line
	seen    map[string]string
	sectors int64 // of the extents so far
}

// fail returns an error about the line.
func (p *descriptorParser) fail(kind diskimage.ErrorKind, format string, args ...any) error {
	args = append(args, diskimage.Quote(p.line))
	return fail(kind, p.off, "descriptor: line "+strconv.Itoa(p.lineNo), format+": %s", args...)
}

func (p *descriptorParser) parseLine() error {
	if p.line == "" || p.line[0] == '#' {
		return nil
	}
	if isExtentLine(p.line) {
		return p.parseExtent()
	}
	s, ok := cutSetting(p.line)
	if !ok {
		return p.fail(diskimage.ErrCorrupt, "no comment, setting or extent")
	}
	if len(s.key) > len(ddbPrefix) && strings.EqualFold(s.key[:len(ddbPrefix)], ddbPrefix) {
		s.key = ddbPrefix + s.key[len(ddbPrefix):]
		p.d.ddb = append(p.d.ddb, s)
		return nil
	}
	return p.parseHeader(s)
}

// parseHeader takes a setting of the header: one whose key does not start
// with "ddb.".
func (p *descriptorParser) parseHeader(s setting) error {
	key := strings.ToLower(s.key)
	if before, twice := p.seen[key]; twice {
		if before != s.value {
			return p.fail(diskimage.ErrCorrupt, "%s is set twice, to different values", s.key)
		}
		return nil
	}
	p.seen[key] = s.value
	d := p.d
	var err error
	switch key {
	case "version":
		v, bad := strconv.ParseUint(s.value, 10, 32)
		if bad != nil {
			return p.fail(diskimage.ErrCorrupt, "no version number")
		}
		if v < 1 || v > 3 {
			return p.fail(diskimage.ErrUnsupported, "descriptor version %d; 1 to 3 are read", v)
		}
		d.version = uint32(v)
	case "encoding": // taken by encodingOf
	case "cid":
		d.cid, err = p.parseCID(s.value)
	case "parentcid":
		d.parentCID, err = p.parseCID(s.value)
	case "createtype":
		if s.value == "" {
			return p.fail(diskimage.ErrCorrupt, "no createType")
		}
		d.createType = canonicalCreateType(s.value)
	case "parentfilenamehint":
		d.parentHint, err = p.parseName(s.value)
	case "changetrackpath":
		d.changeTrackPath, err = p.parseName(s.value)
	default:
		d.settings = append(d.settings, s)
	}
	return err
}

func (p *descriptorParser) parseCID(value string) (uint32, error) {
	v, err := strconv.ParseUint(value, 16, 32)
	if err != nil {
		return 0, p.fail(diskimage.ErrCorrupt, "no content identifier of up to 8 hexadecimal digits")
	}
	return uint32(v), nil
}

// parseName takes a file's name from a setting. Products write names as they
// are: nothing escapes a quote, so none can be in one.
func (p *descriptorParser) parseName(value string) (string, error) {
	if strings.Contains(value, `"`) {
		return "", p.fail(diskimage.ErrCorrupt, "a quote inside a file name")
	}
	return value, nil
}

// validate checks what only the whole text shows. base is its host offset.
func (d *descriptor) validate(base int64) error {
	if d.createType == "" {
		return fail(diskimage.ErrCorrupt, base, "descriptor: createType", "missing")
	}
	if len(d.extents) == 0 {
		return fail(diskimage.ErrCorrupt, base, "descriptor", "no extents")
	}
	return nil
}

// sectors returns the disk's size in sectors of 512 bytes. In bytes it is
// below 2^63.
func (d *descriptor) sectors() int64 {
	var n int64
	for _, e := range d.extents {
		n += e.sectors
	}
	return n
}

// lookup returns the value of a setting of the disk database, such as
// "ddb.adapterType"; of several the first, as other readers do.
func (d *descriptor) lookup(key string) (value string, ok bool) {
	for _, s := range d.ddb {
		if strings.EqualFold(s.key, key) {
			return s.value, true
		}
	}
	return "", false
}

// refusal returns an error if the disk is of a kind that is not read: the
// guest data is encrypted, or lies on a device.
func (d *descriptor) refusal() error {
	for _, s := range d.settings {
		// Workstation and ESXi write the first two, products before them the third.
		switch strings.ToLower(s.key) {
		case "encryptionkeys", "keyid", "encryption.keysafe":
			return fail(diskimage.ErrEncrypted, -1, "descriptor: "+s.key, "the disk is encrypted")
		}
	}
	if filters, ok := d.lookup("ddb.iofilters"); ok && strings.Contains(strings.ToLower(filters), "vmcrypt") {
		return fail(diskimage.ErrEncrypted, -1, "descriptor: ddb.iofilters", "%s: the disk is encrypted", diskimage.Quote(filters))
	}
	if kind, known := createTypes[strings.ToLower(d.createType)]; !known {
		return fail(diskimage.ErrUnsupported, -1, "descriptor: createType", "%s is not read", diskimage.Quote(d.createType))
	} else if kind.device {
		return fail(diskimage.ErrUnsupported, -1, "descriptor: createType", "%s: a disk on a device is not read", d.createType)
	}
	for _, e := range d.extents {
		if e.kind == kindVMFSRDM || e.kind == kindVMFSRaw {
			return fail(diskimage.ErrUnsupported, -1, "descriptor: extent "+diskimage.Quote(e.fileName), "%s: a raw device mapping is not read", e.kind)
		}
	}
	return nil
}

// createTypes has VMware's kinds of disks, in lower case; device says of
// those that lie on a device of the host that made them.
var createTypes = map[string]struct {
	name   string
	device bool
}{
	"monolithicsparse":            {name: "monolithicSparse"},
	"monolithicflat":              {name: "monolithicFlat"},
	"streamoptimized":             {name: "streamOptimized"},
	"twogbmaxextentsparse":        {name: "twoGbMaxExtentSparse"},
	"twogbmaxextentflat":          {name: "twoGbMaxExtentFlat"},
	"2gbmaxextentsparse":          {name: "twoGbMaxExtentSparse"}, // as the specification's prose has it
	"2gbmaxextentflat":            {name: "twoGbMaxExtentFlat"},
	"vmfs":                        {name: "vmfs"},
	"vmfsthin":                    {name: "vmfsThin"},
	"vmfspreallocated":            {name: "vmfsPreallocated"},
	"vmfseagerzeroedthick":        {name: "vmfsEagerZeroedThick"},
	"vmfssparse":                  {name: "vmfsSparse"},
	"sesparse":                    {name: "seSparse"},
	"custom":                      {name: "custom"},
	"fulldevice":                  {name: "fullDevice", device: true},
	"partitioneddevice":           {name: "partitionedDevice", device: true},
	"vmfsraw":                     {name: "vmfsRaw", device: true},
	"vmfsrdm":                     {name: "vmfsRDM", device: true},
	"vmfsrdmp":                    {name: "vmfsRDMP", device: true},
	"vmfsrawdevicemap":            {name: "vmfsRawDeviceMap", device: true},
	"vmfspassthroughrawdevicemap": {name: "vmfsPassthroughRawDeviceMap", device: true},
}

// canonicalCreateType returns VMware's spelling of a kind of disk, or s if it
// is none of VMware's.
func canonicalCreateType(s string) string {
	if kind, ok := createTypes[strings.ToLower(s)]; ok {
		return kind.name
	}
	return s
}

// cutSetting splits a line KEY = VALUE. The value may stand in quotes, which
// are taken off; what is between them is not looked at.
func cutSetting(line string) (setting, bool) {
	key, value, ok := strings.Cut(line, "=")
	key, value = trimBlanks(key), trimBlanks(value)
	if !ok || key == "" || strings.ContainsAny(key, " \t\"") {
		return setting{}, false
	}
	if strings.HasPrefix(value, `"`) {
		if len(value) < 2 || !strings.HasSuffix(value, `"`) {
			return setting{}, false
		}
		value = value[1 : len(value)-1]
	}
	return setting{key, value}, true
}

// trimBlanks takes off a line's end, and what is blank around the text.
func trimBlanks(s string) string { return strings.Trim(s, " \t\r\n") }

// checkText reports an error if s cannot be the value of a setting or the
// name of a file in a descriptor that is to be written.
func checkText(field, s string) error {
	if strings.ContainsAny(s, "\"\r\n\x00") || !utf8.ValidString(s) || trimBlanks(s) != s {
		return fail(diskimage.ErrUnsupported, -1, field, "%s cannot be written in a descriptor", diskimage.Quote(s))
	}
	return nil
}

const (
	ddbPrefix  = "ddb."
	sectorsMax = math.MaxInt64 / 512 // of a disk, so that its bytes are below 2^63
)
