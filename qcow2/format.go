package qcow2

// The structures and constants of "The QCOW2 image format" (QEMU,
// docs/interop/qcow2.rst), in the specification's order and words. All numbers
// on disk are big-endian. Limits say who sets them.

// Name is the format's name in errors, notes and on the command line.
const Name = "qcow2"

// Section "Header".
const (
	Magic = 0x514649fb // "QFI\xfb"

	headerLenV2  = 72  // bytes of a version 2 header
	headerLenMin = 104 // bytes of a version 3 header at least
	headerLenNew = 112 // bytes of a version 3 header as written: with the compression type

	minClusterBits = 9  // specification
	maxClusterBits = 21 // QEMU: 2 MiB; the specification sets no upper limit

	cryptNone = 0
	cryptAES  = 1
	cryptLUKS = 2

	maxRefcountOrder     = 6 // specification: 64 bits
	defaultRefcountOrder = 4 // version 2 has no field: 16 bits

	maxBackingName    = 1023        // specification
	maxL1Bytes        = 32 << 20    // QEMU
	maxRefTableBytes  = 8 << 20     // QEMU
	maxSnapshots      = 65536       // QEMU
	maxSnapshotBytes  = 64 << 20    // QEMU: the snapshot table
	maxSnapshotExtra  = 1024        // QEMU: extra data of one snapshot
	maxBitmaps        = 65535       // QEMU
	maxBitmapDirBytes = 65535 << 10 // QEMU: 64 MiB less 1 KiB
	maxBitmapName     = 1023        // specification
)

// Byte offsets of the header's fields.
const (
	offMagic            = 0
	offVersion          = 4
	offBackingOffset    = 8
	offBackingSize      = 16
	offClusterBits      = 20
	offSize             = 24
	offCryptMethod      = 32
	offL1Size           = 36
	offL1Offset         = 40
	offRefTableOffset   = 48
	offRefTableClusters = 56
	offNbSnapshots      = 60
	offSnapshotsOffset  = 64
	offIncompatible     = 72
	offCompatible       = 80
	offAutoclear        = 88
	offRefcountOrder    = 96
	offHeaderLength     = 100
	offCompressionType  = 104
)

// Incompatible feature bits.
const (
	incompatDirty       = 1 << 0 // refcounts may be wrong
	incompatCorrupt     = 1 << 1 // any structure may be wrong
	incompatDataFile    = 1 << 2 // guest clusters lie in an external data file
	incompatCompression = 1 << 3 // the compression type is not deflate
	incompatExtendedL2  = 1 << 4 // L2 entries of 128 bits with subclusters

	incompatKnown = incompatDirty | incompatCorrupt | incompatDataFile | incompatCompression | incompatExtendedL2
)

// Compatible feature bits.
const compatLazyRefcounts = 1 << 0

// Autoclear feature bits.
const (
	autoclearBitmaps = 1 << 0 // the bitmaps extension is consistent
	autoclearDataRaw = 1 << 1 // the external data file reads as a raw image
)

// Compression types.
const (
	compressionDeflate = 0
	compressionZstd    = 1
)

// Section "Header extensions": types.
const (
	extEnd           = 0x00000000
	extBackingFormat = 0xe2792aca
	extFeatureNames  = 0x6803f857
	extBitmaps       = 0x23852875
	extCrypto        = 0x0537be77
	extDataFile      = 0x44415441

	extHeaderLen     = 8  // type and length
	featureNameLen   = 48 // one entry of the feature name table
	bitmapsExtLen    = 24
	maxBackingFormat = 15 // QEMU
)

// Section "Host cluster management": the refcount table.
const refTableOffsetMask = 0xfffffffffffffe00 // bits 9..63; 0..8 are reserved

// Section "Cluster mapping": entries of the L1 table.
//
//	bit  0..8    reserved
//	bit  9..55   offset of the L2 table, cluster-aligned; 0: none
//	bit 56..62   reserved
//	bit 63       COPIED: the L2 table's refcount is exactly one
const (
	l1OffsetMask   = 0x00fffffffffffe00
	l1ReservedMask = 0x7f000000000001ff

	flagCopied = 1 << 63
)

// Section "Cluster mapping": entries of an L2 table.
//
//	bit 0..61    cluster descriptor
//	bit 62       COMPRESSED
//	bit 63       COPIED: the cluster's refcount is exactly one; never of compressed ones
//
// Standard cluster descriptor:
//
//	bit  0       ZERO: reads as zeros (version 3, not with extended L2 entries)
//	bit  1..8    reserved
//	bit  9..55   offset of the host cluster
//	bit 56..61   reserved
//
// Compressed cluster descriptor, x = 62 - (cluster_bits - 8):
//
//	bit  0..x-1  host offset, to the byte; bits above 55 must be zero
//	bit  x..61   number of 512-byte sectors beyond the one the offset lies in
const (
	flagCompressed = 1 << 62
	flagZero       = 1 << 0

	l2OffsetMask           = 0x00fffffffffffe00
	l2ReservedMask         = 0x3f000000000001fe // of a standard descriptor
	l2ReservedMaskExtended = 0x3f000000000001ff // with extended L2 entries: bit 0 too

	sectorSize = 512
)

// Section "Extended L2 Entries": the second half of an entry.
//
//	bit  0..31   subcluster i is allocated
//	bit 32..63   subcluster i reads as zeros
const (
	subclustersPerCluster  = 32
	minExtendedClusterBits = 14 // QEMU: subclusters of 512 bytes at least
)

// compressedShift returns x of the compressed cluster descriptor.
func compressedShift(clusterBits uint) uint { return 62 - (clusterBits - 8) }

// Section "Snapshots": the fixed part of an entry of the snapshot table.
const (
	snapshotHeaderLen = 40
	snapshotExtraV3   = 16 // version 3: VM state size and disk size at least
	snapshotExtraIcnt = 24 // and the instruction count
)

// Section "Bitmaps".
const (
	bitmapDirEntryLen   = 24
	bitmapTypeDirty     = 1
	bitmapInUse         = 1 << 0
	bitmapAuto          = 1 << 1
	bitmapExtraCompat   = 1 << 2
	bitmapFlagsReserved = 0xfffffff8
	minBitmapGranBits   = 9
	maxBitmapGranBits   = 31 // QEMU; the specification allows 63

	bitmapTableOffsetMask   = 0x00fffffffffffe00
	bitmapTableReservedMask = 0xff000000000001fe
	bitmapTableAllOnes      = 1 << 0 // only where the offset is 0
)
