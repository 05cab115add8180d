package vmdk

import (
	"encoding/binary"
	"io"
	"math"
	"math/bits"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/internal/fault"
	"github.com/diskimage-go/diskimage/internal/zero"
)

// A sparseHeader is the header of a hosted sparse extent. It comes about in
// three steps: decodeSparseHeader takes the fields as they are, validate holds
// them against the specification's rules and QEMU's limits, and validatePlaces
// against the file. Once readHeader has returned a header, every field is in
// its range and may be shifted, multiplied and added as int64.
type sparseHeader struct {
	version           uint32
	flags             uint32
	capacity          uint64
	grainSize         uint64
	descriptorOffset  uint64
	descriptorSize    uint64
	numGTEsPerGT      uint32
	rgdOffset         uint64
	gdOffset          uint64
	overHead          uint64
	uncleanShutdown   uint8
	endLine           [4]byte
	compressAlgorithm uint16

	// Set by validatePlaces: why one of the grain directories cannot be read.
	// If that is the primary one, the redundant one can.
	gdDamage, rgdDamage error

	// Set by readFooter: where it is, and how many bytes follow the end of the
	// stream.
	footerOff, fill int64
}

// redundant reports whether there is a redundant grain directory to turn to.
func (h *sparseHeader) redundant() bool {
	return h.flags&flagRedundant != 0 && h.rgdOffset != 0 && h.rgdDamage == nil
}

func (h *sparseHeader) zeroedGTE() bool  { return h.flags&flagZeroedGTE != 0 }
func (h *sparseHeader) compressed() bool { return h.flags&flagCompressed != 0 }
func (h *sparseHeader) markers() bool    { return h.flags&flagMarkers != 0 }

// size returns the guest bytes of the extent.
func (h *sparseHeader) size() int64 { return int64(h.capacity) * sectorSize }

// grainBytes returns the guest bytes of a grain.
func (h *sparseHeader) grainBytes() int64 { return int64(h.grainSize) * sectorSize }

// grains returns how many grains the extent has, the last maybe in part.
func (h *sparseHeader) grains() int64 {
	return int64((h.capacity + h.grainSize - 1) / h.grainSize)
}

// tables returns how many grain tables map the extent: the entries of the
// grain directory.
func (h *sparseHeader) tables() int64 {
	return (h.grains() + int64(h.numGTEsPerGT) - 1) / int64(h.numGTEsPerGT)
}

// readHeader reads and validates the header of a hosted sparse extent, and its
// footer if that is where the grain directory's offset is.
func readHeader(src diskimage.Source) (*sparseHeader, error) {
	b := make([]byte, min(sparseHeaderLen, max(0, src.Size())))
	if err := readFull(src, b, 0, "header"); err != nil {
		return nil, err
	}
	h, err := decodeSparseHeader(b)
	if err != nil {
		return nil, err
	}
	if err := h.validate(); err != nil {
		return nil, err
	}
	if h.gdOffset == gdAtEnd {
		if err := h.readFooter(src); err != nil {
			return nil, err
		}
	}
	return h, h.validatePlaces(src.Size())
}

// decodeSparseHeader takes the fields from the first bytes of a file.
func decodeSparseHeader(b []byte) (*sparseHeader, error) {
	le := binary.LittleEndian
	if len(b) < 4 || le.Uint32(b) != magicKDMV {
		return nil, fail(diskimage.ErrFormat, offMagicNumber, "header: magicNumber", "not a hosted sparse extent")
	}
	if len(b) < sparseHeaderLen {
		return nil, fail(diskimage.ErrTruncated, int64(len(b)), "header", "the file ends after %d of %d bytes", len(b), sparseHeaderLen)
	}
	return &sparseHeader{
		version:           le.Uint32(b[offVersion:]),
		flags:             le.Uint32(b[offFlags:]),
		capacity:          le.Uint64(b[offCapacity:]),
		grainSize:         le.Uint64(b[offGrainSize:]),
		descriptorOffset:  le.Uint64(b[offDescriptorOffset:]),
		descriptorSize:    le.Uint64(b[offDescriptorSize:]),
		numGTEsPerGT:      le.Uint32(b[offNumGTEsPerGT:]),
		rgdOffset:         le.Uint64(b[offRgdOffset:]),
		gdOffset:          le.Uint64(b[offGdOffset:]),
		overHead:          le.Uint64(b[offOverHead:]),
		uncleanShutdown:   b[offUncleanShutdown],
		endLine:           [4]byte(b[offSingleEndLineChar:]),
		compressAlgorithm: le.Uint16(b[offCompressAlgorithm:]),
	}, nil
}

// encode returns the header's sector.
func (h *sparseHeader) encode() []byte {
	le := binary.LittleEndian
	b := make([]byte, sparseHeaderLen)
	le.PutUint32(b[offMagicNumber:], magicKDMV)
	le.PutUint32(b[offVersion:], h.version)
	le.PutUint32(b[offFlags:], h.flags)
	le.PutUint64(b[offCapacity:], h.capacity)
	le.PutUint64(b[offGrainSize:], h.grainSize)
	le.PutUint64(b[offDescriptorOffset:], h.descriptorOffset)
	le.PutUint64(b[offDescriptorSize:], h.descriptorSize)
	le.PutUint32(b[offNumGTEsPerGT:], h.numGTEsPerGT)
	le.PutUint64(b[offRgdOffset:], h.rgdOffset)
	le.PutUint64(b[offGdOffset:], h.gdOffset)
	le.PutUint64(b[offOverHead:], h.overHead)
	b[offUncleanShutdown] = h.uncleanShutdown
	copy(b[offSingleEndLineChar:], h.endLine[:])
	le.PutUint16(b[offCompressAlgorithm:], h.compressAlgorithm)
	return b
}

// validate checks what the header says of itself: all but where things lie.
func (h *sparseHeader) validate() error {
	// A file that was sent as text is damaged all over: that goes before all
	// other complaints.
	if h.flags&flagNewLineTest != 0 && string(h.endLine[:]) != endLineChars {
		return fail(diskimage.ErrCorrupt, offSingleEndLineChar, "header: end-of-line characters", "% x, not % x: the file was transferred in text mode", h.endLine, endLineChars)
	}
	if h.version < minVersion || h.version > maxVersion {
		return fail(diskimage.ErrUnsupported, offVersion, "header: version", "%d; versions %d to %d are read", h.version, minVersion, maxVersion)
	}
	if unknown := h.flags & flagIncompatible &^ (flagCompressed | flagMarkers); unknown != 0 {
		return fail(diskimage.ErrUnsupported, offFlags, "header: flags", "unknown feature: bit %d", bits.TrailingZeros32(unknown))
	}
	if h.compressAlgorithm > compressionDeflate {
		return fail(diskimage.ErrUnsupported, offCompressAlgorithm, "header: compressAlgorithm", "%d; 0 (none) and 1 (deflate) are read", h.compressAlgorithm)
	}
	if h.compressed() != (h.compressAlgorithm != compressionNone) {
		return fail(diskimage.ErrCorrupt, offCompressAlgorithm, "header: compressAlgorithm", "%d, but the flags %#x say otherwise", h.compressAlgorithm, h.flags)
	}
	if h.grainSize < minGrain || h.grainSize > maxGrain || h.grainSize&(h.grainSize-1) != 0 {
		return fail(diskimage.ErrCorrupt, offGrainSize, "header: grainSize", "%d sectors, not a power of two from %d to %d", h.grainSize, minGrain, maxGrain)
	}
	if h.compressed() && h.grainSize > maxPackedGrain {
		return fail(diskimage.ErrLimit, offGrainSize, "header: grainSize", "%d sectors; compressed grains are read up to %d", h.grainSize, maxPackedGrain)
	}
	if h.numGTEsPerGT != numGTEsPerGT {
		return fail(diskimage.ErrCorrupt, offNumGTEsPerGT, "header: numGTEsPerGT", "%d, not %d", h.numGTEsPerGT, numGTEsPerGT)
	}
	if h.capacity > math.MaxInt64/sectorSize {
		return fail(diskimage.ErrCorrupt, offCapacity, "header: capacity", "%d sectors are more than 2^63 bytes", h.capacity)
	}
	if n := h.tables(); n > maxGTs {
		return fail(diskimage.ErrLimit, offCapacity, "header: capacity", "%d sectors need %d grain tables, %d at most", h.capacity, n, maxGTs)
	}
	if h.descriptorOffset != 0 && h.descriptorSize > maxDescriptorBytes/sectorSize {
		return fail(diskimage.ErrLimit, offDescriptorSize, "header: descriptorSize", "%d sectors, %d at most", h.descriptorSize, maxDescriptorBytes/sectorSize)
	}
	return nil
}

// validatePlaces checks that what the header names lies in a file of fileSize
// bytes.
func (h *sparseHeader) validatePlaces(fileSize int64) error {
	sectors := uint64(max(0, fileSize)) / sectorSize
	inside := func(off int64, field string, sector, bytes uint64) error {
		if n := (bytes + sectorSize - 1) / sectorSize; sector > sectors || n > sectors-sector {
			return fail(diskimage.ErrTruncated, off, "header: "+field, "what is at sector %d and takes %d bytes ends beyond the end of the file at %#x", sector, bytes, fileSize)
		}
		if sector == 0 {
			return fail(diskimage.ErrCorrupt, off, "header: "+field, "it is the sector of the header")
		}
		return nil
	}
	if h.overHead > sectors {
		return fail(diskimage.ErrTruncated, offOverHead, "header: overHead", "%d sectors of metadata in a file of %d", h.overHead, sectors)
	}
	if h.descriptorOffset != 0 {
		if err := inside(offDescriptorOffset, "descriptorOffset", h.descriptorOffset, h.descriptorSize*sectorSize); err != nil {
			return err
		}
	}
	directory := uint64(h.tables()) * gdeBytes
	if directory == 0 {
		return nil
	}
	apart := func(off int64, field string, sector uint64) error {
		if err := inside(off, field, sector, directory); err != nil {
			return err
		}
		if n := (directory + sectorSize - 1) / sectorSize; h.descriptorOffset != 0 && sector < h.descriptorOffset+h.descriptorSize && h.descriptorOffset < sector+n {
			return fail(diskimage.ErrCorrupt, off, "header: "+field, "the directory at sector %d overlaps the descriptor", sector)
		}
		return nil
	}
	if h.redundant() {
		h.rgdDamage = apart(offRgdOffset, "rgdOffset", h.rgdOffset)
	}
	h.gdDamage = apart(offGdOffset, "gdOffset", h.gdOffset)
	if h.gdDamage != nil && !h.redundant() {
		return h.gdDamage
	}
	return nil
}

// readFooter takes the grain directory's offset from the footer, whose copy of
// the header must agree with h in all that describes the disk.
func (h *sparseHeader) readFooter(src diskimage.Source) error {
	// The file may have been filled up: with zeros, as the end-of-stream marker
	// is too, or with less than a sector of anything.
	start := max(0, src.Size()-maxFill-footerSectors*sectorSize) &^ (sectorSize - 1)
	b := make([]byte, src.Size()-start)
	if err := readFull(src, b, start, "footer"); err != nil {
		return err
	}
	last := len(b) &^ (sectorSize - 1)
	for last >= footerSectors*sectorSize && zero.Is(b[last-2*sectorSize:last]) {
		last -= sectorSize
	}
	off := start + int64(last) - footerSectors*sectorSize
	if last < footerSectors*sectorSize || off < sparseHeaderLen {
		return fail(diskimage.ErrTruncated, max(0, src.Size()), "footer", "the grain directory is at the end, and the file ends before it")
	}
	h.footerOff, h.fill = off, int64(len(b)-last)
	if h.fill > maxFill || h.fill >= sectorSize && !zero.Is(b[last:]) {
		return fail(diskimage.ErrTruncated, start+int64(last), "footer", "the file does not end in a footer and an end-of-stream marker: %d bytes follow", h.fill)
	}
	return h.takeFooter(b[last-footerSectors*sectorSize:last], off)
}

// takeFooter is readFooter for the three sectors b from off: the footer's
// marker, the footer and the end-of-stream marker.
func (h *sparseHeader) takeFooter(b []byte, off int64) error {
	footer, end := decodeMarker(b), decodeMarker(b[2*sectorSize:])
	if footer.size != 0 || footer.kind != markerFooter || end != (marker{}) {
		return fail(diskimage.ErrTruncated, off, "footer", "the grain directory is at the end, and the file does not end in a footer and an end-of-stream marker")
	}
	off += sectorSize
	f, err := decodeSparseHeader(b[sectorSize:][:sparseHeaderLen])
	if err != nil {
		return fail(diskimage.ErrCorrupt, off, "footer: magicNumber", "not a copy of the header")
	}
	if f.gdOffset == gdAtEnd {
		return fail(diskimage.ErrCorrupt, off+offGdOffset, "footer: gdOffset", "it does not say where the grain directory is")
	}
	for _, field := range []struct {
		name       string
		off        int64
		head, foot uint64
	}{
		{"version", offVersion, uint64(h.version), uint64(f.version)},
		{"flags", offFlags, uint64(h.flags), uint64(f.flags)},
		{"capacity", offCapacity, h.capacity, f.capacity},
		{"grainSize", offGrainSize, h.grainSize, f.grainSize},
		{"descriptorOffset", offDescriptorOffset, h.descriptorOffset, f.descriptorOffset},
		{"descriptorSize", offDescriptorSize, h.descriptorSize, f.descriptorSize},
		{"numGTEsPerGT", offNumGTEsPerGT, uint64(h.numGTEsPerGT), uint64(f.numGTEsPerGT)},
		{"compressAlgorithm", offCompressAlgorithm, uint64(h.compressAlgorithm), uint64(f.compressAlgorithm)},
	} {
		if field.head != field.foot {
			return fail(diskimage.ErrCorrupt, off+field.off, "footer: "+field.name, "%d, but the header says %d", field.foot, field.head)
		}
	}
	h.gdOffset, h.rgdOffset = f.gdOffset, f.rgdOffset
	return nil
}

// A marker stands in front of a block of a streamOptimized extent.
type marker struct {
	val  uint64 // a grain's guest sector; how many sectors of metadata follow
	size uint32 // bytes of a grain's data; 0 for metadata
	kind uint32 // of metadata; of a grain the first bytes of its data
}

// decodeMarker takes a marker from the first 16 bytes of its sector.
func decodeMarker(b []byte) marker {
	le := binary.LittleEndian
	return marker{le.Uint64(b[offMarkerVal:]), le.Uint32(b[offMarkerSize:]), le.Uint32(b[offMarkerType:])}
}

// encode puts the marker into b, 16 bytes or more.
func (m marker) encode(b []byte) {
	le := binary.LittleEndian
	le.PutUint64(b[offMarkerVal:], m.val)
	le.PutUint32(b[offMarkerSize:], m.size)
	le.PutUint32(b[offMarkerType:], m.kind)
}

// checkMarkerVal checks how many sectors a marker at off says that there are of
// the metadata behind it, which is called what.
func (h *sparseHeader) checkMarkerVal(m marker, off int64, what string) error {
	least, most := uint64(1), uint64(1)
	switch m.kind {
	case markerGT:
		least, most = gtBytes/sectorSize, gtBytes/sectorSize
	case markerGD:
		least = uint64(roundUp(h.tables()*gdeBytes, sectorSize)) / sectorSize
		most = least + grainSectors // room for what no table needs does no harm
	}
	if m.val < least || m.val > most {
		return fail(diskimage.ErrCorrupt, off+offMarkerVal, what+" marker: val", "%d sectors; it takes %d", m.val, least)
	}
	return nil
}

// fail returns an [diskimage.Error] of this format.
func fail(kind diskimage.ErrorKind, off int64, field, format string, args ...any) error {
	return fault.New(Name, kind, off, field, format, args...)
}

// readFull fills p from offset off of src. field names what is read, in the
// error for a file that ends too early.
func readFull(src io.ReaderAt, p []byte, off int64, field string) error {
	return fault.ReadFull(Name, src, p, off, field)
}

// within says in err's field which object the field belongs to.
func within(err error, format string, args ...any) error {
	return fault.Within(Name, err, format, args...)
}
