package vhd

import (
	"bytes"
	"encoding/binary"

	"github.com/diskimage-go/diskimage"
)

// A header is a dynamic disk header: of dynamic and differencing disks.
type header struct {
	off             int64 // where it stands
	tableOffset     uint64
	version         uint32
	tableEntries    uint32
	blockSize       uint32
	parentID        [16]byte
	parentTimeStamp uint32 // seconds since 2000-01-01 UTC
	parentName      []byte // UTF-16, padded with NULs
	locators        [locators]locator
}

// A locator is a parent locator entry: where a name of the parent is stored.
type locator struct {
	platform uint32
	space    uint32 // sectors kept for it; some producers count bytes
	length   uint32 // bytes
	offset   uint64
}

func decodeHeader(p []byte, off int64) *header {
	be := binary.BigEndian
	h := &header{
		off:             off,
		tableOffset:     be.Uint64(p[offTableOffset:]),
		version:         be.Uint32(p[offHeaderVersion:]),
		tableEntries:    be.Uint32(p[offMaxTableEntries:]),
		blockSize:       be.Uint32(p[offBlockSize:]),
		parentID:        [16]byte(p[offParentUniqueID:]),
		parentTimeStamp: be.Uint32(p[offParentTimeStamp:]),
		parentName:      bytes.Clone(p[offParentName : offParentName+parentNameLen]),
	}
	for i := range h.locators {
		e := p[offLocators+i*locatorLen:]
		h.locators[i] = locator{be.Uint32(e), be.Uint32(e[4:]), be.Uint32(e[8:]), be.Uint64(e[16:])}
	}
	return h
}

// encode returns the header's bytes.
func (h *header) encode() []byte {
	be := binary.BigEndian
	p := make([]byte, headerLen)
	copy(p, headerCookie)
	be.PutUint64(p[len(headerCookie):], noOffset)
	be.PutUint64(p[offTableOffset:], h.tableOffset)
	be.PutUint32(p[offHeaderVersion:], h.version)
	be.PutUint32(p[offMaxTableEntries:], h.tableEntries)
	be.PutUint32(p[offBlockSize:], h.blockSize)
	copy(p[offParentUniqueID:], h.parentID[:])
	be.PutUint32(p[offParentTimeStamp:], h.parentTimeStamp)
	copy(p[offParentName:offParentName+parentNameLen], h.parentName)
	for i, l := range h.locators {
		e := p[offLocators+i*locatorLen:]
		be.PutUint32(e, l.platform)
		be.PutUint32(e[4:], l.space)
		be.PutUint32(e[8:], l.length)
		be.PutUint64(e[16:], l.offset)
	}
	be.PutUint32(p[offHeaderChecksum:], checksumOf(p, offHeaderChecksum))
	return p
}

// readHeader reads the dynamic disk header that the footer names, and
// validates it. end is where the file's data ends.
func readHeader(src diskimage.Source, f *footers) (*header, error) {
	if f.dataOffset < footerLen || f.dataOffset > uint64(f.end) {
		return nil, fail(diskimage.ErrCorrupt, f.off+offDataOffset, "footer: data offset", "%#x is not between the footer's copy and the end at %#x", f.dataOffset, f.end)
	}
	off := int64(f.dataOffset)
	if f.end-off < headerLen {
		return nil, fail(diskimage.ErrTruncated, off, "dynamic disk header", "it needs %d bytes, there are %d", headerLen, f.end-off)
	}
	p := make([]byte, headerLen)
	if err := readFull(src, p, off, "dynamic disk header"); err != nil {
		return nil, err
	}
	switch {
	case !bytes.HasPrefix(p, []byte(headerCookie)):
		return nil, fail(diskimage.ErrCorrupt, off, "dynamic disk header: cookie", "it is %s", diskimage.Quote(string(p[:8])))
	case checksumOf(p, offHeaderChecksum) != binary.BigEndian.Uint32(p[offHeaderChecksum:]):
		return nil, fail(diskimage.ErrCorrupt, off+offHeaderChecksum, "dynamic disk header: checksum", "it is wrong")
	}
	h := decodeHeader(p, off)
	return h, h.validate(f)
}

// validate holds the header against the specification, the file and our
// limits.
func (h *header) validate(f *footers) error {
	switch b := h.blockSize; {
	case h.version>>16 != headerVersion>>16:
		return fail(diskimage.ErrUnsupported, h.off+offHeaderVersion, "dynamic disk header: header version", "%#x, known is %#x", h.version, headerVersion)
	case b < minBlockSize || b&(b-1) != 0:
		return fail(diskimage.ErrCorrupt, h.off+offBlockSize, "dynamic disk header: block size", "%d is not a power of two from %d", b, minBlockSize)
	case b > maxBlockSize:
		return fail(diskimage.ErrLimit, h.off+offBlockSize, "dynamic disk header: block size", "%d, at most %d is read", b, maxBlockSize)
	}
	// The table may have more entries than the disk needs, and takes no memory
	// for those.
	field := "dynamic disk header: table offset"
	switch {
	case h.tableOffset < footerLen || h.tableOffset > uint64(f.end):
		return fail(diskimage.ErrCorrupt, h.off+offTableOffset, field, "%#x is not between the footer's copy and the end at %#x", h.tableOffset, f.end)
	case overlaps(int64(h.tableOffset), h.tableEnd(), h.off, h.off+headerLen):
		return fail(diskimage.ErrCorrupt, h.off+offTableOffset, field, "the block allocation table at %#x overlaps the header", h.tableOffset)
	case h.tableEntries > 0 && uint64(h.tableEntries-1)*uint64(h.blockSize) >= MaxSize:
		return fail(diskimage.ErrCorrupt, h.off+offMaxTableEntries, "dynamic disk header: max table entries", "%d blocks of %d bytes are more than a disk has", h.tableEntries, h.blockSize)
	case h.tableEnd() > f.end:
		return fail(diskimage.ErrTruncated, int64(h.tableOffset), "block allocation table", "its %d entries end at %#x, the file's data at %#x", h.tableEntries, h.tableEnd(), f.end)
	}
	return nil
}

// tableEnd returns the host offset after the block allocation table.
func (h *header) tableEnd() int64 { return int64(h.tableOffset) + int64(h.tableEntries)*4 }

// room returns the most guest bytes that the table maps.
func (h *header) room() int64 { return int64(h.tableEntries) * int64(h.blockSize) }

// bitmapBytes returns the length of a block's sector bitmap: a bit for each
// sector, padded to a sector.
func (h *header) bitmapBytes() int64 {
	bytes := (int64(h.blockSize)/sectorSize + 7) / 8
	return (bytes + sectorSize - 1) &^ (sectorSize - 1)
}

// overlaps reports whether [a, aEnd) and [b, bEnd) share a byte.
func overlaps(a, aEnd, b, bEnd int64) bool { return a < bEnd && b < aEnd }

// readTable reads the entries of the block allocation table that a disk of so
// many bytes needs.
func (h *header) readTable(src diskimage.Source, size int64) ([]uint32, error) {
	n := (size + int64(h.blockSize) - 1) / int64(h.blockSize)
	if n > maxTableEntries {
		return nil, fail(diskimage.ErrLimit, h.off+offBlockSize, "dynamic disk header: block size",
			"a disk of %d bytes in blocks of %d needs a table of %d entries; %d are read", size, h.blockSize, n, maxTableEntries)
	}
	table := make([]uint32, n)
	page := make([]byte, min(n*4, 64<<10))
	for i := int64(0); i < n; {
		p := page[:min(int64(len(page)), (n-i)*4)]
		if err := readFull(src, p, int64(h.tableOffset)+i*4, "block allocation table"); err != nil {
			return nil, err
		}
		for ; len(p) > 0; p = p[4:] {
			table[i] = binary.BigEndian.Uint32(p)
			i++
		}
	}
	return table, nil
}
