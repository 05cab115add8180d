package vhd

import (
	"encoding/binary"
	"fmt"
	"strings"
	"time"

	"github.com/diskimage-go/diskimage"
)

// WriterOptions say what kind of image a [Writer] builds. The zero value is
// what every reader takes for a disk of no bytes: dynamic, in blocks of 2 MiB.
type WriterOptions struct {
	Size      int64    // guest bytes, at most 2040 GiB. A size that is no multiple of 512 is rounded up, and noted. Default 0
	Type      DiskType // Fixed, Dynamic or Differencing, the last with Parent. Default 0: Dynamic
	BlockSize int64    // bytes, a power of two from 4 KiB to 2 MiB, of which a disk has at most 8 Mi; not of a fixed disk. Default 2 MiB

	// Geometric pads the disk up to the next size that a geometry covers
	// exactly, which is noted, and goes by the geometry: what Virtual PC and
	// QEMU without force_size do and expect. Default false: the size is kept,
	// and the image marked so that no known reader goes by its geometry.
	Geometric bool

	// Azure makes what Azure takes: a fixed disk of whole MiB, padded up to
	// that, which is noted. It goes with no other Type and not with Geometric.
	// Default false.
	Azure bool

	Parent *Parent // of a differencing disk. Default nil

	UniqueID [16]byte  // the image's identifier. Default: derived from the options and the content
	Time     time.Time // of the time stamp, between 2000 and 2136. Default: the start of 2000

	AllocateZeros bool // give zeros their blocks too, and write them. Default false
}

// A Parent is the image that a differencing disk differs from.
type Parent struct {
	Name string    // its file's, relative to the image or absolute, with slashes or backslashes
	ID   [16]byte  // its identifier, see [Disk.UniqueID]
	Time time.Time // when its file was last written. Default: not said, as Windows leaves it
}

const (
	batchBlocks = diskimage.BatchSize // a block lies in one batch
	pieceSize   = 4096                // zeros are told from data in steps of this
	mebibyte    = 1 << 20
)

// The creator's versions: of the program and of the system, as QEMU has them.
const (
	creatorVersion = 0x00050003
	creatorSystem  = "Wi2k"
)

// withDefaults returns o with its defaults filled in, or the error of a bad
// value.
func (o WriterOptions) withDefaults() (WriterOptions, error) {
	if o.Azure && o.Type == 0 {
		o.Type = Fixed
	}
	if o.Type == 0 {
		o.Type = Dynamic
	}
	if o.BlockSize == 0 && o.Type != Fixed {
		o.BlockSize = defaultBlockSize
	}
	if o.Time.IsZero() {
		o.Time = timeOf(0)
	}
	switch b := o.BlockSize; {
	case o.Size < 0:
		return o, badOption("size", "%d: it has to be known before anything is written", o.Size)
	case o.Type != Fixed && o.Type != Dynamic && o.Type != Differencing:
		return o, badOption("type", "%d is not fixed, dynamic or differencing", o.Type)
	case o.Azure && (o.Type != Fixed || o.Geometric):
		return o, badOption("azure", "it takes fixed disks of exact size")
	case o.Type == Fixed && b != 0:
		return o, badOption("block size", "a fixed disk has no blocks")
	case o.Type != Fixed && (b < pieceSize || b > batchBlocks || b&(b-1) != 0):
		return o, badOption("block size", "%d is not a power of two from %d to %d", b, pieceSize, batchBlocks)
	case o.Time.Before(timeOf(0)) || o.Time.After(timeOf(1<<32-1)):
		return o, badOption("time", "%v cannot be said in 32 bits of seconds since 2000", o.Time)
	case (o.Parent != nil) != (o.Type == Differencing):
		return o, badOption("parent", "a differencing disk has one, and no other")
	case o.Type == Differencing && (o.Geometric || o.AllocateZeros):
		return o, badOption("parent", "a differencing disk has its parent's size, and not all blocks")
	case o.Parent != nil && o.Parent.Name == "" || o.Parent != nil && strings.ContainsRune(o.Parent.Name, 0):
		return o, badOption("parent", "%s is no file name", diskimage.Quote(o.Parent.Name))
	case o.Parent != nil && len(encodeUTF16(o.Parent.Name, binary.BigEndian)) > parentNameLen:
		return o, badOption("parent", "its name is longer than %d characters", parentNameLen/2)
	}
	return o, nil
}

// settle returns the sizes that come of the options, and what is to be noted
// of them.
func (o WriterOptions) settle() (size int64, g Geometry, creator [4]byte, note string, err error) {
	if o.Size > MaxSize { // itself a multiple of all that sizes are rounded to
		return 0, g, creator, "", &diskimage.Error{Kind: diskimage.ErrLimit, Format: Name, Off: -1, Field: "option size",
			Msg: fmt.Sprintf("%d bytes, a VHD holds at most %d (2040 GiB); QCOW2 has no such limit", o.Size, int64(MaxSize))}
	}
	size = (o.Size + sectorSize - 1) &^ (sectorSize - 1)
	why := fmt.Sprintf("no multiple of %d", sectorSize)
	if o.Azure {
		size, why = (o.Size+mebibyte-1)&^(mebibyte-1), "no whole MiB, which Azure wants"
	}
	creator = [4]byte{'q', 'e', 'm', '2'} // QEMU's for an image of exact size, which all its versions keep
	g = geometryOf(size / sectorSize)
	if o.Geometric {
		creator = [4]byte{'q', 'e', 'm', 'u'}
		if g = geometryFor(size / sectorSize); g != largest && g.Size() != size {
			size, why = g.Size(), "none that a geometry covers exactly"
		}
	}
	if size != o.Size {
		note = fmt.Sprintf("the disk's size, %d bytes, is %s: padded with zeros to %d", o.Size, why, size)
	}
	return size, g, creator, note, nil
}

func badOption(name, format string, args ...any) error {
	return fail(diskimage.ErrUnsupported, -1, "option "+name, format, args...)
}
