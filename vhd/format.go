package vhd

// The structures and constants of Microsoft's "Virtual Hard Disk Image Format
// Specification", version 1.0 (October 2006), in its order and words. All
// numbers on disk are big-endian. Limits say who sets them.

// Name is the format's name in errors, notes and on the command line, which is
// QEMU's for it.
const Name = "vpc"

const sectorSize = 512

// Section "Hard Disk Footer Format".
const (
	footerCookie = "conectix"
	footerLen    = 512
	oldFooterLen = 511 // Virtual PC before 2004 leaves out the last reserved byte

	formatVersion = 0x00010000

	featureTemporary = 1 << 0
	featureReserved  = 1 << 1 // always set

	noOffset = 1<<64 - 1 // where no structure follows

	// MaxSize is the most that a disk may hold, in bytes: 2040 GiB, the limit of
	// Virtual PC, Hyper-V and QEMU. The specification's own is that a sector's
	// number has 32 bits.
	MaxSize = 0xff000000 * sectorSize
)

// Byte offsets of the footer's fields.
const (
	offCookie         = 0
	offFeatures       = 8
	offFormatVersion  = 12
	offDataOffset     = 16
	offTimeStamp      = 24
	offCreator        = 28
	offCreatorVersion = 32
	offCreatorOS      = 36
	offOriginalSize   = 40
	offCurrentSize    = 48
	offCylinders      = 56
	offHeads          = 58
	offSectors        = 59
	offDiskType       = 60
	offChecksum       = 64
	offUniqueID       = 68
	offSavedState     = 84
)

// A DiskType is a footer's disk type, in the specification's numbers.
type DiskType uint32

const (
	Fixed        DiskType = 2
	Dynamic      DiskType = 3
	Differencing DiskType = 4
)

// Section "Dynamic Disk Header Format".
const (
	headerCookie  = "cxsparse"
	headerLen     = 1024
	headerVersion = 0x00010000

	offTableOffset     = 16
	offHeaderVersion   = 24
	offMaxTableEntries = 28
	offBlockSize       = 32
	offHeaderChecksum  = 36
	offParentUniqueID  = 40
	offParentTimeStamp = 56
	offParentName      = 64
	parentNameLen      = 512
	offLocators        = 576
	locatorLen         = 24
	locators           = 8

	minBlockSize     = 512
	maxBlockSize     = 256 << 20 // ours: Virtual PC makes 512 KiB and 2 MiB, Hyper-V 2 MiB, Disk2vhd 2 MiB
	defaultBlockSize = 2 << 20   // specification
)

// Section "Parent Locator Entries".
const (
	platformWi2r = 0x57693272 // deprecated
	platformWi2k = 0x5769326b // deprecated
	platformW2ru = 0x57327275 // UTF-16, a Windows path relative to the image
	platformW2ku = 0x57326b75 // UTF-16, an absolute Windows path
	platformMac  = 0x4d616320 // a Mac OS alias
	platformMacX = 0x4d616358 // UTF-8, a file URL

	maxLocatorLen = 64 << 10 // ours: a Windows path has at most 32,767 characters
)

// Section "Block Allocation Table and Data Blocks".
const (
	unusedEntry = 0xffffffff

	// maxTableEntries is what is kept of a block allocation table: 16 MiB. That
	// is enough for 2040 GiB in blocks of 512 KiB, the smallest that products
	// make; a table that outgrows it is one of blocks too small for the disk.
	maxTableEntries = 4 << 20
)
