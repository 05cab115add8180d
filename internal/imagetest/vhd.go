package imagetest

import (
	"encoding/binary"
	"math/rand/v2"
	"unicode/utf16"
)

// Byte offsets of the fields of a VHD footer, and, from its start, of a dynamic
// disk header: Microsoft's "Virtual Hard Disk Image Format Specification" 1.0.
const (
	VHDFeatures    = 8
	VHDVersion     = 12
	VHDDataOffset  = 16
	VHDTimeStamp   = 24
	VHDCreator     = 28
	VHDCurrentSize = 48
	VHDGeometry    = 56
	VHDType        = 60
	VHDChecksum    = 64
	VHDUniqueID    = 68
	VHDSavedState  = 84

	VHDTableOffset    = 16
	VHDHeaderVersion  = 24
	VHDMaxEntries     = 28
	VHDBlockSize      = 32
	VHDHeaderChecksum = 36
	VHDParentID       = 40
	VHDParentTime     = 56
	VHDParentName     = 64
	VHDLocators       = 576
)

// A VHD describes a small image.
type VHD struct {
	Size      int64  // guest bytes
	Fixed     []byte // the content of a fixed disk; else it is dynamic, or differencing if it has Locators
	BlockSize int64
	Blocks    []VHDBlock
	Creator   string // default "win "
	ID        [16]byte
	Locators  []VHDLocator
	ParentID  [16]byte
	Old       bool // a footer of 511 bytes at the end
}

// A VHDBlock is a block with its place in the file, or one without if Data is
// nil.
type VHDBlock struct {
	Data []byte // of the block's size
	Bits []byte // of the sector bitmap; nil: all set
}

// A VHDLocator is a parent locator entry.
type VHDLocator struct {
	Platform string // four characters
	Name     []byte
}

// A VHDImage is an image file, and where things lie in it.
type VHDImage struct {
	Bytes  []byte
	Footer int64 // of the end
	Header int64 // 0 of a fixed disk
	Table  int64
	Blocks []int64 // of each block's bitmap, 0 of those without a place
}

// UTF16 returns text in UTF-16, little-endian as locators have it.
func UTF16(text string) (p []byte) {
	for _, u := range utf16.Encode([]rune(text)) {
		p = binary.LittleEndian.AppendUint16(p, u)
	}
	return p
}

// Build makes the image.
func (v VHD) Build() *VHDImage {
	be := binary.BigEndian
	m := &VHDImage{}
	footer := make([]byte, 512)
	copy(footer, "conectix")
	be.PutUint32(footer[VHDFeatures:], 2)
	be.PutUint32(footer[VHDVersion:], 0x00010000)
	be.PutUint64(footer[VHDDataOffset:], 512)
	be.PutUint32(footer[VHDTimeStamp:], 700000000)
	copy(footer[VHDCreator:], "win ")
	copy(footer[VHDCreator:], v.Creator)
	be.PutUint32(footer[32:], 0x000a0000)
	copy(footer[36:], "Wi2k")
	be.PutUint64(footer[40:], uint64(v.Size))
	be.PutUint64(footer[VHDCurrentSize:], uint64(v.Size))
	be.PutUint16(footer[VHDGeometry:], uint16(v.Size/512/4/17))
	footer[VHDGeometry+2], footer[VHDGeometry+3] = 4, 17
	be.PutUint32(footer[VHDType:], 3)
	copy(footer[VHDUniqueID:], v.ID[:])
	if v.Fixed != nil {
		be.PutUint64(footer[VHDDataOffset:], 1<<64-1)
		be.PutUint32(footer[VHDType:], 2)
		m.Bytes = append(m.Bytes, v.Fixed...)
	} else {
		if v.Locators != nil {
			be.PutUint32(footer[VHDType:], 4)
		}
		Checksum(footer, VHDChecksum)
		m.Bytes = append(m.Bytes, footer...)
		v.buildDynamic(m)
	}
	Checksum(footer, VHDChecksum)
	m.Footer = int64(len(m.Bytes))
	if v.Old {
		footer = footer[:511]
	}
	m.Bytes = append(m.Bytes, footer...)
	return m
}

// buildDynamic appends what stands between the footer's copy and the footer.
func (v VHD) buildDynamic(m *VHDImage) {
	be := binary.BigEndian
	m.Header, m.Table = 512, 1536
	entries := (v.Size + v.BlockSize - 1) / v.BlockSize
	header := make([]byte, 1024)
	copy(header, "cxsparse")
	be.PutUint64(header[8:], 1<<64-1)
	be.PutUint64(header[VHDTableOffset:], uint64(m.Table))
	be.PutUint32(header[VHDHeaderVersion:], 0x00010000)
	be.PutUint32(header[VHDMaxEntries:], uint32(entries))
	be.PutUint32(header[VHDBlockSize:], uint32(v.BlockSize))
	copy(header[VHDParentID:], v.ParentID[:])
	table := make([]byte, (entries*4+511)&^511)
	for i := range table {
		table[i] = 0xff
	}
	at := m.Table + int64(len(table))
	var names []byte
	for i, l := range v.Locators {
		e := header[VHDLocators+24*i:]
		copy(e, l.Platform)
		be.PutUint32(e[4:], 1)
		be.PutUint32(e[8:], uint32(len(l.Name)))
		be.PutUint64(e[16:], uint64(at))
		names = append(names, l.Name...)
		names = append(names, make([]byte, -len(names)&511)...)
		at = m.Table + int64(len(table)+len(names))
	}
	Checksum(header, VHDHeaderChecksum)
	var blocks []byte
	bitmap := ((v.BlockSize/512+7)/8 + 511) &^ 511
	m.Blocks = make([]int64, len(v.Blocks))
	for i, b := range v.Blocks {
		if b.Data == nil {
			continue
		}
		m.Blocks[i] = at + int64(len(blocks))
		be.PutUint32(table[4*i:], uint32(m.Blocks[i]/512))
		bits := make([]byte, bitmap)
		for i := range v.BlockSize / 512 {
			bits[i/8] |= 0x80 >> (i % 8)
		}
		if b.Bits != nil {
			clear(bits)
			copy(bits, b.Bits)
		}
		blocks = append(append(blocks, bits...), b.Data...)
	}
	m.Bytes = append(append(append(append(m.Bytes, header...), table...), names...), blocks...)
}

// Checksum puts the checksum of a footer or dynamic disk header into its place
// at off.
func Checksum(p []byte, off int) {
	clear(p[off : off+4])
	var sum uint32
	for _, b := range p {
		sum += uint32(b)
	}
	binary.BigEndian.PutUint32(p[off:], ^sum)
}

// SetFooter changes the footer and its copy, if there is one, and makes their
// checksums right.
func (m *VHDImage) SetFooter(change func(footer []byte)) {
	places := []int64{m.Footer}
	if m.Header > 0 {
		places = append(places, 0)
	}
	for _, off := range places {
		footer := m.Bytes[off:min(off+512, int64(len(m.Bytes)))]
		change(footer)
		Checksum(footer, VHDChecksum)
	}
}

// SetHeader changes the dynamic disk header and makes its checksum right.
func (m *VHDImage) SetHeader(change func(header []byte)) {
	header := m.Bytes[m.Header : m.Header+1024]
	change(header)
	Checksum(header, VHDHeaderChecksum)
}

// SetEntry sets an entry of the block allocation table.
func (m *VHDImage) SetEntry(i int, sector uint32) {
	binary.BigEndian.PutUint32(m.Bytes[m.Table+4*int64(i):], sector)
}

// VHDBaseBlock is the block size of VHDBase.
const VHDBaseBlock = 16 << 10

// VHDBase returns the image that most cases start from: footer copy, header,
// table, then three blocks, and a fourth without a place. It is sound.
func VHDBase() *VHDImage { return vhdBase().Build() }

func vhdBase() VHD {
	rnd := rand.New(rand.NewPCG(5, 6))
	v := VHD{Size: 4 * VHDBaseBlock, BlockSize: VHDBaseBlock, ID: [16]byte{1, 2, 3, 4}}
	for range 3 {
		v.Blocks = append(v.Blocks, VHDBlock{Data: noise(rnd, VHDBaseBlock)})
	}
	v.Blocks = append(v.Blocks, VHDBlock{})
	return v
}

func noise(rnd *rand.Rand, n int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(rnd.Uint32())
	}
	return p
}
