package vmdk

// The structures and constants of VMware's technical note "Virtual Disk Format
// 5.0", in its order and words; and of the older COWD extents, which the note
// calls "ESX Server sparse extents". All numbers on disk are little-endian, and
// all offsets and sizes are in sectors unless said. Limits say who sets them.

// Name is the format's name in errors, notes and on the command line.
const Name = "vmdk"

const sectorSize = 512

// Section "The Descriptor File".
const (
	descriptorMark = "disk descriptorfile" // in the first comment, in any case; AWS leaves no space in front of it
	noParentCID    = 0xffffffff            // parentCID of an image without a parent

	maxDescriptorBytes = 1 << 20 // QEMU
	maxExtents         = 10_000  // ours: VMware's products write some hundreds at most
)

// Section "Hosted Sparse Extents": the SparseExtentHeader, byte offsets of its
// fields.
const (
	magicKDMV       = 0x564d444b // "KDMV"
	sparseHeaderLen = 512

	offMagicNumber        = 0  // uint32
	offVersion            = 4  // uint32
	offFlags              = 8  // uint32
	offCapacity           = 12 // uint64: of this extent
	offGrainSize          = 20 // uint64
	offDescriptorOffset   = 28 // uint64: of the embedded descriptor, 0 if there is none
	offDescriptorSize     = 36 // uint64
	offNumGTEsPerGT       = 44 // uint32
	offRgdOffset          = 48 // uint64: of the redundant grain directory
	offGdOffset           = 56 // uint64: of the grain directory, or gdAtEnd
	offOverHead           = 64 // uint64: what the metadata in front takes
	offUncleanShutdown    = 72 // uint8
	offSingleEndLineChar  = 73 // '\n'
	offNonEndLineChar     = 74 // ' '
	offDoubleEndLineChar1 = 75 // '\r'
	offDoubleEndLineChar2 = 76 // '\n'
	offCompressAlgorithm  = 77 // uint16
	offPad                = 79 // 433 bytes

	endLineChars = "\n \r\n" // the four of them

	minVersion = 1
	maxVersion = 3 // 2: zeroed grains; 3: streamOptimized as products export it, and changed block tracking

	gdAtEnd = 0xffffffffffffffff // gdOffset: it is in the footer's header

	numGTEsPerGT   = 512 // specification
	gtBytes        = numGTEsPerGT * gteBytes
	gdeBytes       = 4 // a grain directory entry: the sector of a grain table, 0 if there is none
	gteBytes       = 4 // a grain table entry: the sector of a grain, or one of the next two
	gteAbsent      = 0 // the parent's, or zeros
	gteZeroed      = 1 // zeros, with flagZeroedGTE
	grainSectors   = 128
	minGrain       = 8        // specification: 4 KiB
	maxGrain       = 0x200000 // QEMU: 1 GiB
	maxPackedGrain = 4096     // ours: 2 MiB; products compress grains of 64 KiB
	maxGTs         = 32 << 20 // QEMU
)

// Flags of the header. Readers may pass over those of the lower half, not over
// those of the upper.
//
//	bit  0   the end-of-line characters are valid
//	bit  1   there is a redundant grain directory, and it is to be used
//	bit  2   a grain table entry of 1 is a grain of zeros
//	bit 16   grains are compressed
//	bit 17   markers say what each block of data or metadata is
const (
	flagNewLineTest  = 1 << 0
	flagRedundant    = 1 << 1
	flagZeroedGTE    = 1 << 2
	flagCompressed   = 1 << 16
	flagMarkers      = 1 << 17
	flagIncompatible = 0xffff0000
)

// compressAlgorithm.
const (
	compressionNone    = 0
	compressionDeflate = 1 // RFC 1951 inside of RFC 1950
)

// Section "Stream-Optimized Compressed Sparse Extents": a marker starts at a
// sector. With a size that is not 0 it is a grain's: size bytes of compressed
// data follow it at once, and what is left of their last sector is padding. With
// size 0 it is of metadata, takes the sector, and says by its type what the next
// val sectors are.
const (
	offMarkerVal  = 0  // uint64: a grain's guest sector; sectors of metadata
	offMarkerSize = 8  // uint32, in bytes
	offMarkerType = 12 // uint32, of metadata
	offMarkerData = 12 // of a grain

	grainMarkerLen = offMarkerData

	markerEOS    = 0 // end of stream
	markerGT     = 1 // grain table
	markerGD     = 2 // grain directory
	markerFooter = 3 // footer: the header once more, with gdOffset

	maxFill       = 1 << 20 // ours: how much may follow the end of the stream
	footerSectors = 3       // at the end of the file: the footer's marker, the footer, the end-of-stream marker
)

// Section "ESX Server Sparse Extents": the COWDisk_Header, byte offsets of its
// fields. Only a root has the geometry, only a child the parent's name.
const (
	magicCOWD     = 0x44574f43 // "COWD"
	cowdHeaderLen = 2048

	offCOWDVersion          = 4    // uint32: 1
	offCOWDFlags            = 8    // uint32: 3
	offCOWDNumSectors       = 12   // uint32: of the disk
	offCOWDGrainSize        = 16   // uint32
	offCOWDGdOffset         = 20   // uint32: 4
	offCOWDNumGDEntries     = 24   // uint32
	offCOWDFreeSector       = 28   // uint32: the first that is not used
	offCOWDCylinders        = 32   // uint32, root
	offCOWDHeads            = 36   // uint32, root
	offCOWDSectors          = 40   // uint32, root
	offCOWDParentFileName   = 32   // 1024 bytes, child
	offCOWDParentGeneration = 1056 // uint32, child
	offCOWDGeneration       = 1060 // uint32
	offCOWDName             = 1064 // 60 bytes
	offCOWDDescription      = 1124 // 512 bytes
	offCOWDSavedGeneration  = 1636 // uint32
	offCOWDReserved         = 1640 // 8 bytes
	offCOWDUncleanShutdown  = 1648 // uint32

	cowdVersion   = 1
	cowdFlags     = 3
	cowdGTEsPerGT = 4096
)

// SESparse extents, "space-efficient", which no note of VMware describes: as
// QEMU and libvmdk read them. There are two headers of one sector each; all
// fields are uint64.
const (
	magicSESparse   = 0x00000000cafebabe // of the constant header
	magicSEVolatile = 0x00000000cafecafe // of the volatile header
	seHeaderLen     = 512

	offSEVersion          = 8   // seVersion
	offSECapacity         = 16  // of this extent
	offSEGrainSize        = 24  // seGrainSectors
	offSEGrainTableSize   = 32  // seTableSectors
	offSEFlags            = 40  // none is known
	offSEReserved         = 48  // 32 bytes
	offSEVolatileHeader   = 80  // from here on an offset, and a size behind it
	offSEJournalHeader    = 96  //
	offSEJournal          = 112 //
	offSEGrainDirectory   = 128 //
	offSEGrainTables      = 144 // all of them, one behind the other
	offSEFreeBitmap       = 160 // of grains
	offSEBackmap          = 176 // from grains to table entries
	offSEGrains           = 192 // all of them, one behind the other
	offSEPad              = 208 // 304 bytes
	offSEFreeGT           = 8   // volatile header: the first grain table that is not used
	offSENextTxnSeqNumber = 16  // volatile header
	offSEReplayJournal    = 24  // volatile header: 0 if the journal has nothing that the tables do not
	offSEVolatilePad      = 32  // volatile header: 480 bytes
	seVersion             = 0x0000000200000001
	seGrainSectors        = 8
	seTableSectors        = 64
	seGTEsPerGT           = seTableSectors * sectorSize / seEntryBytes
	seEntryBytes          = 8
	maxSESectors          = 64 << 40 / sectorSize // ours: vSphere's largest disk has 62 TiB
)

// Entries of a SESparse grain directory:
//
//	bits  0 - 31   index of the grain table
//	bits 32 - 63   0x10000000; the whole entry is 0 if there is no table
//
// Entries of a SESparse grain table:
//
//	bits  0 - 47   bits 12 - 59 of the grain's index
//	bits 48 - 59   bits 0 - 11 of it
//	bits 60 - 63   what there is: see below
const (
	seTableAllocated = 0x10000000 << 32
	seTableIndexMask = 0x00000000ffffffff

	seStateShift     = 60
	seStateAbsent    = 0 // with an index of 0: the parent's, or zeros
	seStateUnmapped  = 1 // zeros: the guest gave the grain back
	seStateZero      = 2 // zeros
	seStateAllocated = 3 // a grain
	seIndexHighMask  = 0x0000ffffffffffff
	seIndexHighShift = 12
	seIndexLowMask   = 0x0fff000000000000
	seIndexLowShift  = 48
)
