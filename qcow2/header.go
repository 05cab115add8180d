package qcow2

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/internal/fault"
)

// A header is the image header with its extensions and the backing file's
// name: everything that lies in the first cluster. It comes about in three
// steps: decodeHeader takes the fields as they are, validate holds them
// against the specification's rules and the limits of QEMU, and readHeader
// uses them to read the rest. Once readHeader has returned a header, every
// field is in its range and may be shifted, multiplied and added.
type header struct {
	version          uint32
	backingOffset    uint64
	backingSize      uint32
	clusterBits      uint32
	size             uint64
	cryptMethod      uint32
	l1Size           uint32 // entries
	l1Offset         uint64
	refTableOffset   uint64
	refTableClusters uint32
	nbSnapshots      uint32
	snapshotsOffset  uint64
	incompatible     uint64
	compatible       uint64
	autoclear        uint64
	refcountOrder    uint32
	length           uint32 // header_length
	compressionType  uint8

	extensions
	backingName string // "" if there is none
	notes       []diskimage.Note
}

// clusterSize returns the bytes of a cluster.
func (h *header) clusterSize() int64 { return 1 << h.clusterBits }

// entrySize returns the bytes of an L2 entry: 8, or 16 with extended L2 entries.
func (h *header) entrySize() int64 {
	if h.extendedL2() {
		return 16
	}
	return 8
}

// l2Bits returns the binary logarithm of the number of entries of an L2 table.
func (h *header) l2Bits() uint {
	if h.extendedL2() {
		return uint(h.clusterBits) - 4
	}
	return uint(h.clusterBits) - 3
}

func (h *header) extendedL2() bool  { return h.incompatible&incompatExtendedL2 != 0 }
func (h *header) hasDataFile() bool { return h.incompatible&incompatDataFile != 0 }
func (h *header) dataFileRaw() bool { return h.autoclear&autoclearDataRaw != 0 }
func (h *header) dirty() bool       { return h.incompatible&incompatDirty != 0 }
func (h *header) corrupt() bool     { return h.incompatible&incompatCorrupt != 0 }

// refcountBits returns the width of a refcount: 1 to 64.
func (h *header) refcountBits() int { return 1 << h.refcountOrder }

// encoding returns how compressed clusters are stored.
func (h *header) encoding() diskimage.Encoding {
	if h.compressionType == compressionZstd {
		return diskimage.Zstd
	}
	return diskimage.Deflate
}

func (h *header) note(format string, args ...any) {
	h.notes = append(h.notes, diskimage.Note{Format: Name, Text: fmt.Sprintf(format, args...)})
}

// readHeader reads and validates the header, its extensions and the backing
// file's name. It opens nothing, and neither the corrupt bit nor encryption
// stop it: those are for its callers to judge.
func readHeader(src diskimage.Source) (*header, error) {
	first := make([]byte, min(headerLenNew, max(0, src.Size())))
	if err := readFull(src, first, 0, "header"); err != nil {
		return nil, err
	}
	h, err := decodeHeader(first)
	if err != nil {
		return nil, err
	}
	if err := h.validateLayout(); err != nil {
		return nil, err
	}
	cluster := make([]byte, min(h.clusterSize(), src.Size())) // at most 2 MiB
	if err := readFull(src, cluster, 0, "header"); err != nil {
		return nil, err
	}
	extErr := h.decodeExtensions(cluster)
	// What an unknown feature changes is not known: it goes before all other
	// complaints, and the feature name table may tell its name.
	if err := h.validateFeatures(); err != nil {
		return nil, err
	}
	if extErr != nil {
		return nil, extErr
	}
	if err := h.decodeBackingName(cluster); err != nil {
		return nil, err
	}
	if err := h.validate(src.Size()); err != nil {
		return nil, err
	}
	return h, nil
}

// decodeHeader takes the header's fields from the first bytes of a file.
func decodeHeader(b []byte) (*header, error) {
	be := binary.BigEndian
	if !Probe(b) {
		return nil, fail(diskimage.ErrFormat, offMagic, "header: magic", "not a QCOW2 image")
	}
	if len(b) < offVersion+4 {
		return nil, fail(diskimage.ErrTruncated, int64(len(b)), "header", "the file ends after %d bytes", len(b))
	}
	h := &header{version: be.Uint32(b[offVersion:])}
	need := headerLenMin
	switch h.version {
	case 3:
	case 2:
		need = headerLenV2
	case 1:
		return nil, fail(diskimage.ErrUnsupported, offVersion, "header: version", "qcow v1, the format before QCOW2, is not read")
	default:
		return nil, fail(diskimage.ErrUnsupported, offVersion, "header: version", "%d; versions 2 and 3 are read", h.version)
	}
	if len(b) < need {
		return nil, fail(diskimage.ErrTruncated, int64(len(b)), "header", "the file ends after %d bytes, inside the %d of a version %d header", len(b), need, h.version)
	}
	h.backingOffset = be.Uint64(b[offBackingOffset:])
	h.backingSize = be.Uint32(b[offBackingSize:])
	h.clusterBits = be.Uint32(b[offClusterBits:])
	h.size = be.Uint64(b[offSize:])
	h.cryptMethod = be.Uint32(b[offCryptMethod:])
	h.l1Size = be.Uint32(b[offL1Size:])
	h.l1Offset = be.Uint64(b[offL1Offset:])
	h.refTableOffset = be.Uint64(b[offRefTableOffset:])
	h.refTableClusters = be.Uint32(b[offRefTableClusters:])
	h.nbSnapshots = be.Uint32(b[offNbSnapshots:])
	h.snapshotsOffset = be.Uint64(b[offSnapshotsOffset:])
	if h.version == 2 {
		h.refcountOrder = defaultRefcountOrder
		h.length = headerLenV2
		return h, nil
	}
	h.incompatible = be.Uint64(b[offIncompatible:])
	h.compatible = be.Uint64(b[offCompatible:])
	h.autoclear = be.Uint64(b[offAutoclear:])
	h.refcountOrder = be.Uint32(b[offRefcountOrder:])
	h.length = be.Uint32(b[offHeaderLength:])
	if h.length > offCompressionType {
		if len(b) <= offCompressionType {
			return nil, fail(diskimage.ErrTruncated, int64(len(b)), "header: compression_type", "the file ends after %d bytes", len(b))
		}
		h.compressionType = b[offCompressionType]
	}
	return h, nil
}

// validateLayout checks what says where the rest of the header lies.
func (h *header) validateLayout() error {
	if h.clusterBits < minClusterBits || h.clusterBits > maxClusterBits {
		return fail(diskimage.ErrCorrupt, offClusterBits, "header: cluster_bits", "%d, not in %d to %d", h.clusterBits, minClusterBits, maxClusterBits)
	}
	if h.version >= 3 && (h.length < headerLenMin || int64(h.length) > h.clusterSize()) {
		return fail(diskimage.ErrCorrupt, offHeaderLength, "header: header_length", "%d, not in %d to the cluster size %d", h.length, headerLenMin, h.clusterSize())
	}
	if h.backingOffset == 0 {
		if h.backingSize != 0 { // of no meaning, says the specification
			h.note("there are %d bytes of a backing file's name, but no place for it: it has none", h.backingSize)
		}
		return nil
	}
	if h.backingSize == 0 {
		return fail(diskimage.ErrCorrupt, offBackingSize, "header: backing_file_size", "0 bytes, of a name at %#x", h.backingOffset)
	}
	if h.backingOffset > uint64(h.clusterSize()) {
		return fail(diskimage.ErrCorrupt, offBackingOffset, "header: backing_file_offset", "%#x is outside the first cluster", h.backingOffset)
	}
	if most := min(maxBackingName, h.clusterSize()-int64(h.backingOffset)); int64(h.backingSize) > most {
		return fail(diskimage.ErrCorrupt, offBackingSize, "header: backing_file_size", "%d bytes, %d at most", h.backingSize, most)
	}
	return nil
}

// validateFeatures checks the feature bits and what goes with them.
func (h *header) validateFeatures() error {
	for bit := range uint(64) {
		if h.incompatible&^incompatKnown&(1<<bit) == 0 {
			continue
		}
		text := fmt.Sprintf("bit %d", bit)
		if name := h.featureName(featureIncompatible, uint8(bit)); name != "" {
			text += ", which the image calls " + diskimage.Quote(name)
		}
		return fail(diskimage.ErrUnsupported, offIncompatible, "header: incompatible_features", "unknown feature: %s", text)
	}
	if set := h.incompatible&incompatCompression != 0; set != (h.compressionType != compressionDeflate) {
		return fail(diskimage.ErrCorrupt, offIncompatible, "header: incompatible_features", "the compression bit is %s, but the compression type is %d", onOff(set), h.compressionType)
	}
	if h.compressionType > compressionZstd {
		return fail(diskimage.ErrUnsupported, offCompressionType, "header: compression_type", "%d; 0 (deflate) and 1 (zstd) are read", h.compressionType)
	}
	if h.extendedL2() && h.clusterBits < minExtendedClusterBits {
		return fail(diskimage.ErrCorrupt, offClusterBits, "header: cluster_bits", "%d; extended L2 entries need %d at least", h.clusterBits, minExtendedClusterBits)
	}
	if h.dataFileRaw() && !h.hasDataFile() {
		return fail(diskimage.ErrCorrupt, offAutoclear, "header: autoclear_features", "the raw data file bit is set in an image without a data file")
	}
	if h.dataFileRaw() && h.backingOffset != 0 {
		return fail(diskimage.ErrCorrupt, offBackingOffset, "header: backing_file_offset", "an image with a raw data file cannot have a backing file")
	}
	if h.refcountOrder > maxRefcountOrder {
		return fail(diskimage.ErrCorrupt, offRefcountOrder, "header: refcount_order", "%d, %d at most", h.refcountOrder, maxRefcountOrder)
	}
	if h.cryptMethod > cryptLUKS {
		return fail(diskimage.ErrUnsupported, offCryptMethod, "header: crypt_method", "%d is unknown", h.cryptMethod)
	}
	return nil
}

// validate checks the sizes and places of the tables, in an image file of
// fileSize bytes.
func (h *header) validate(fileSize int64) error {
	if h.autoclear&autoclearBitmaps != 0 && !h.hasBitmaps {
		return fail(diskimage.ErrCorrupt, offAutoclear, "header: autoclear_features", "the bitmaps bit is set, but there is no bitmaps extension")
	}
	if h.size > math.MaxInt64 {
		return fail(diskimage.ErrCorrupt, offSize, "header: size", "%d bytes, above 2^63-1", h.size)
	}
	if uint64(h.l1Size)*8 > maxL1Bytes {
		return fail(diskimage.ErrCorrupt, offL1Size, "header: l1_size", "%d entries, %d at most", h.l1Size, maxL1Bytes/8)
	}
	if need := h.l1Entries(h.size); uint64(h.l1Size) < need {
		return fail(diskimage.ErrCorrupt, offL1Size, "header: l1_size", "%d entries, %d needed for a disk of %d bytes", h.l1Size, need, h.size)
	}
	if err := h.validateTable(offL1Offset, "l1_table_offset", h.l1Offset, uint64(h.l1Size)*8); err != nil {
		return err
	}
	if h.l1Size > 0 && h.l1Offset == 0 {
		return fail(diskimage.ErrCorrupt, offL1Offset, "header: l1_table_offset", "the table lies in the header's cluster")
	}
	if end := int64(h.l1Offset) + int64(h.l1Size)*8; h.l1Size > 0 && end > fileSize {
		return fail(diskimage.ErrTruncated, int64(h.l1Offset), "l1 table", "it ends at %#x, the file at %#x", end, fileSize)
	}
	refTableBytes := uint64(h.refTableClusters) << h.clusterBits
	if refTableBytes > maxRefTableBytes {
		return fail(diskimage.ErrCorrupt, offRefTableClusters, "header: refcount_table_clusters", "%d clusters, %d MiB at most", h.refTableClusters, maxRefTableBytes>>20)
	}
	if err := h.validateTable(offRefTableOffset, "refcount_table_offset", h.refTableOffset, refTableBytes); err != nil {
		return err
	}
	if h.nbSnapshots > maxSnapshots {
		return fail(diskimage.ErrLimit, offNbSnapshots, "header: nb_snapshots", "%d, %d at most", h.nbSnapshots, maxSnapshots)
	}
	if err := h.validateTable(offSnapshotsOffset, "snapshots_offset", h.snapshotsOffset, uint64(h.nbSnapshots)*snapshotHeaderLen); err != nil {
		return err
	}

	// What reading can do without is noted.
	if h.size == 0 {
		h.note("the disk's size is 0")
	}
	if h.size%sectorSize != 0 {
		h.note("the disk's size %d is no multiple of %d: it is kept, but other readers cut it", h.size, sectorSize)
	}
	if h.dirty() {
		h.note("the image was not closed properly (dirty bit): its refcounts may be wrong, its data is not")
	}
	if h.refTableOffset == 0 || h.refTableOffset+refTableBytes > uint64(max(0, fileSize)) {
		h.note("the refcount table at %#x does not lie in the file: the image must not be written to", h.refTableOffset)
	}
	return nil
}

// l1Entries returns the number of L1 entries that a guest disk of size bytes
// needs.
func (h *header) l1Entries(size uint64) uint64 {
	bits := uint(h.clusterBits) + h.l2Bits()
	n := size >> bits
	if size&(1<<bits-1) != 0 {
		n++
	}
	return n
}

// validateTable checks that a table of n bytes, whose offset the header's
// field at off gives, starts at a cluster and ends below 2^63.
func (h *header) validateTable(off int64, field string, offset, n uint64) error {
	if offset&uint64(h.clusterSize()-1) != 0 {
		return fail(diskimage.ErrCorrupt, off, "header: "+field, "%#x is not the start of a cluster", offset)
	}
	if offset > math.MaxInt64-n {
		return fail(diskimage.ErrCorrupt, off, "header: "+field, "%#x is above 2^63", offset)
	}
	return nil
}

// decodeBackingName takes the backing file's name from the first cluster.
func (h *header) decodeBackingName(cluster []byte) error {
	if h.backingOffset == 0 {
		return nil
	}
	end := h.backingOffset + uint64(h.backingSize)
	if end > uint64(len(cluster)) {
		return fail(diskimage.ErrCorrupt, int64(h.backingOffset), "backing file name", "it ends at %#x, the file at %#x", end, len(cluster))
	}
	name, err := text(cluster[h.backingOffset:end], int64(h.backingOffset), "backing file name")
	h.backingName = name
	return err
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

func onOff(set bool) string {
	if set {
		return "set"
	}
	return "clear"
}

// within says in err's field which object the field belongs to.
func within(err error, format string, args ...any) error {
	return fault.Within(Name, err, format, args...)
}
