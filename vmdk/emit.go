package vmdk

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"strconv"
)

// newDescriptor returns the descriptor of a new disk without a parent, whose
// extents are those given: the disk database as VMware's products and QEMU
// write it. adapter is the adapter type, hwVersion the
// virtual hardware's version, toolsVersion that of the guest's tools. The
// texts and the extents' names are such as checkText passes.
func newDescriptor(createType string, cid uint32, extents []extentLine, adapter string, hwVersion int, toolsVersion string) *descriptor {
	d := &descriptor{version: 1, encoding: "UTF-8", cid: cid, parentCID: noParentCID, createType: createType, extents: extents}
	g := geometryFor(d.sectors(), adapter == "ide")
	d.ddb = []setting{
		{"ddb.virtualHWVersion", strconv.Itoa(hwVersion)},
		{"ddb.geometry.cylinders", strconv.FormatInt(g.Cylinders, 10)},
		{"ddb.geometry.heads", strconv.FormatInt(g.Heads, 10)},
		{"ddb.geometry.sectors", strconv.FormatInt(g.Sectors, 10)},
		{"ddb.adapterType", adapter},
		{"ddb.toolsVersion", toolsVersion},
	}
	return d
}

// emit returns the descriptor's text, in UTF-8 and in the order in which ESXi
// writes it. parseDescriptor makes the same descriptor of it, but for the
// encoding's name.
func (d *descriptor) emit() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "# Disk DescriptorFile\nversion=%d\n", d.version)
	// It is named whether it matters or not: products that do not find it take
	// the text to be in the code page of their host.
	fmt.Fprintf(&b, "encoding=\"UTF-8\"\nCID=%08x\nparentCID=%08x\ncreateType=\"%s\"\n", d.cid, d.parentCID, d.createType)
	if d.parentHint != "" {
		fmt.Fprintf(&b, "parentFileNameHint=\"%s\"\n", d.parentHint)
	}
	for _, s := range d.settings {
		fmt.Fprintf(&b, "%s=\"%s\"\n", s.key, s.value)
	}
	b.WriteString("\n# Extent description\n")
	for _, e := range d.extents {
		fmt.Fprintln(&b, e)
	}
	if d.changeTrackPath != "" {
		fmt.Fprintf(&b, "\n# Change Tracking File\nchangeTrackPath=\"%s\"\n", d.changeTrackPath)
	}
	b.WriteString("\n# The Disk Data Base\n#DDB\n\n")
	for _, s := range d.ddb {
		fmt.Fprintf(&b, "%s = \"%s\"\n", s.key, s.value)
	}
	return b.Bytes()
}

// deriveCID returns the content identifier of a new disk: a function of its
// size in bytes, of the options that shape the image, in words, and of a seed.
// Products make a new one when they first write to the disk. It is none of
// those that mean something else, nor 0, which a disk has that never had one.
func deriveCID(size int64, options string, seed []byte) uint32 {
	h := sha256.New()
	// The lengths keep the parts apart.
	fmt.Fprintf(h, "VMDK CID\x00%d\x00%d\x00%s\x00%d\x00", size, len(options), options, len(seed))
	h.Write(seed)
	for sum := h.Sum(nil); len(sum) >= 4; sum = sum[4:] {
		switch cid := binary.BigEndian.Uint32(sum); cid {
		case 0, noParentCID, cidLong:
		default:
			return cid
		}
	}
	return 1 // all eight words of a SHA-256 are reserved ones: it is never seen
}
