package qcow2

import (
	"encoding/binary"

	"github.com/diskimage-go/diskimage"
)

// A Bitmap is a persistent dirty bitmap: which parts of the guest disk were
// written to since some moment. Reading the disk does not need it.
type Bitmap struct {
	Name        string // from the image: not to be trusted
	Granularity int64  // guest bytes per bit
	InUse       bool   // it was not saved properly and is not to be believed
	Auto        bool   // it is to be kept up while the image is in use

	tableOffset  uint64
	tableEntries uint32
	off          int64 // of the directory entry in the file
}

// validateBitmaps checks the bitmaps extension. Nothing in it can change guest
// data, so that a reader of those need not fail.
func (h *header) validateBitmaps() error {
	x := h.bitmapsExt
	corrupt := func(off int64, field, format string, args ...any) error {
		return fail(diskimage.ErrCorrupt, h.bitmapsOff+off, "bitmaps extension: "+field, format, args...)
	}
	switch {
	case x.len != bitmapsExtLen:
		return corrupt(0, "length", "%d bytes, not %d", x.len, bitmapsExtLen)
	case x.nbBitmaps == 0 || x.nbBitmaps > maxBitmaps:
		return corrupt(0, "nb_bitmaps", "%d, not in 1 to %d", x.nbBitmaps, maxBitmaps)
	case x.reserved != 0:
		return corrupt(4, "reserved", "not zero")
	case x.dirSize == 0 || x.dirSize > maxBitmapDirBytes:
		return corrupt(8, "bitmap_directory_size", "%d bytes, not in 1 to %d", x.dirSize, maxBitmapDirBytes)
	case x.dirOffset == 0 || x.dirOffset&uint64(h.clusterSize()-1) != 0 || x.dirOffset > 1<<63-1-maxBitmapDirBytes:
		return corrupt(16, "bitmap_directory_offset", "%#x is not where a table may start", x.dirOffset)
	}
	return nil
}

// readBitmaps reads the bitmap directory. With an error it returns the bitmaps
// before the one at fault.
func readBitmaps(src diskimage.Source, h *header) ([]Bitmap, error) {
	if !h.hasBitmaps {
		return nil, nil
	}
	if err := h.validateBitmaps(); err != nil {
		return nil, err
	}
	var (
		dirOff  = int64(h.bitmapsExt.dirOffset)
		dirSize = int64(h.bitmapsExt.dirSize)
	)
	if dirOff+dirSize > src.Size() { // before its size is believed
		return nil, fail(diskimage.ErrTruncated, dirOff, "bitmap directory", "it ends at %#x, the file at %#x", dirOff+dirSize, src.Size())
	}
	dir := make([]byte, dirSize)
	if err := readFull(src, dir, dirOff, "bitmap directory"); err != nil {
		return nil, err
	}
	var (
		all  []Bitmap
		seen = make(map[string]bool)
		off  = dirOff
	)
	for i := range int(h.bitmapsExt.nbBitmaps) {
		b, n, err := decodeBitmap(dir, off)
		if err == nil && seen[b.Name] {
			err = fail(diskimage.ErrCorrupt, off, "name", "there are two of the name %s", diskimage.Quote(b.Name))
		}
		if err != nil {
			return all, within(err, "bitmap directory: entry %d", i)
		}
		seen[b.Name] = true
		if h.autoclear&autoclearBitmaps == 0 {
			b.InUse = true // a program that does not know bitmaps has written to the image
		}
		all = append(all, b)
		dir, off = dir[n:], off+n
	}
	if len(dir) != 0 {
		return all, fail(diskimage.ErrCorrupt, off, "bitmap directory", "%d bytes are left after the last entry", len(dir))
	}
	return all, nil
}

// decodeBitmap takes the first entry of dir, which lies at off in the file,
// and returns its length with its padding.
func decodeBitmap(dir []byte, off int64) (b Bitmap, n int64, err error) {
	be := binary.BigEndian
	corrupt := func(at int64, field, format string, args ...any) (Bitmap, int64, error) {
		return Bitmap{}, 0, fail(diskimage.ErrCorrupt, off+at, field, format, args...)
	}
	if len(dir) < bitmapDirEntryLen {
		return corrupt(0, "entry", "the directory ends inside it")
	}
	var (
		flags    = be.Uint32(dir[12:])
		typ      = dir[16]
		granBits = dir[17]
		nameLen  = int64(be.Uint16(dir[18:]))
		extraLen = int64(be.Uint32(dir[20:]))
		used     = bitmapDirEntryLen + nameLen
	)
	n = (used + 7) &^ 7
	switch {
	case flags&bitmapFlagsReserved != 0:
		return corrupt(12, "flags", "reserved bits set in %#x", flags)
	case typ != bitmapTypeDirty:
		return corrupt(16, "type", "%d is unknown", typ)
	case granBits < minBitmapGranBits || granBits > maxBitmapGranBits:
		return corrupt(17, "granularity_bits", "%d, not in %d to %d", granBits, minBitmapGranBits, maxBitmapGranBits)
	case nameLen == 0 || nameLen > maxBitmapName:
		return corrupt(18, "name_size", "%d bytes, not in 1 to %d", nameLen, maxBitmapName)
	case extraLen != 0:
		return corrupt(20, "extra_data_size", "%d bytes; extra data is unknown", extraLen)
	case n > int64(len(dir)):
		return corrupt(0, "entry", "the directory ends inside it")
	}
	for _, pad := range dir[used:n] {
		if pad != 0 {
			return corrupt(used, "padding", "not zero")
		}
	}
	return Bitmap{
		Name:         string(dir[bitmapDirEntryLen:used]),
		Granularity:  1 << granBits,
		InUse:        flags&bitmapInUse != 0,
		Auto:         flags&bitmapAuto != 0,
		tableOffset:  be.Uint64(dir[0:]),
		tableEntries: be.Uint32(dir[8:]),
		off:          off,
	}, n, nil
}

// bitmapEntries returns how many clusters a bitmap of this disk takes: entries
// of its table.
func (h *header) bitmapEntries(b Bitmap) int64 {
	up := func(n, unit uint64) uint64 {
		if n%unit != 0 {
			return n/unit + 1
		}
		return n / unit
	}
	return int64(up(up(up(h.size, uint64(b.Granularity)), 8), uint64(h.clusterSize())))
}

// placed reports whether a bitmap's table is where and as large as it may be,
// below 2^63.
func (h *header) placed(b Bitmap) bool {
	const most = 1<<63 - 1 - 1<<35 // 2^32 entries
	off := b.tableOffset
	return off != 0 && off&uint64(h.clusterSize()-1) == 0 && off <= most && int64(b.tableEntries) == h.bitmapEntries(b)
}
