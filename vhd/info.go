package vhd

import (
	"fmt"
	"slices"
	"time"

	"github.com/diskimage-go/diskimage"
)

// Info is what an image says of itself.
type Info struct {
	Type          DiskType
	Creator       string    // the four characters of the program that made the image, as they are: "win ", "vpc ", "qemu"
	CreatorOS     string    // likewise, of the system it ran on: "Wi2k", "Mac "
	CreatorVer    uint32    // major and minor, 16 bits each
	Time          time.Time // of the time stamp, in UTC
	OriginalSize  uint64    // bytes, when the disk was made
	CurrentSize   uint64    // bytes, by the footer
	Geometry      Geometry
	GeometrySize  int64    // bytes that the geometry covers; 0 of the largest one, which tells no size
	SizeRule      SizeRule // the field that the disk's Size was taken from: SizeCurrent or SizeGeometry
	UniqueID      string   // in hexadecimal, as the bytes lie in the file
	Temporary     bool     // the disk may be deleted when the machine is turned off
	SavedState    bool     // the disk is that of a machine in saved state
	OldFooter     bool     // a footer of 511 bytes, as Virtual PC before 2004 writes
	BlockSize     int64    // bytes; 0 of a fixed disk
	Blocks        int64    // that the disk has
	Allocated     int64    // of those, the ones with a place in the file
	ParentID      string   // of a differencing disk, as UniqueID
	ParentTime    time.Time
	ParentNames   []ParentName // in the order in which they are tried
	ParentsToTry  []string     // the file names that are made of them
	FooterDamaged bool         // one of the footer and its copy was not sound
}

// Info returns what the image says of itself.
func (d *Disk) Info() Info {
	f := d.f
	i := Info{
		Type: f.diskType, Creator: string(f.creator[:]), CreatorOS: string(f.creatorOS[:]), CreatorVer: f.creatorVersion,
		Time: timeOf(f.timeStamp), OriginalSize: f.originalSize, CurrentSize: f.currentSize, Geometry: f.geometry,
		SizeRule: SizeCurrent, UniqueID: formatID(f.uniqueID), Temporary: f.features&featureTemporary != 0,
		SavedState: f.savedState != 0, OldFooter: f.old, FooterDamaged: f.otherDamaged,
	}
	if d.size != int64(f.currentSize) {
		i.SizeRule = SizeGeometry
	}
	if f.geometry != largest {
		i.GeometrySize = f.geometry.Size()
	}
	if d.h == nil {
		return i
	}
	i.BlockSize, i.Blocks = d.blockSize, int64(len(d.table))
	for _, entry := range d.table {
		if entry != unusedEntry {
			i.Allocated++
		}
	}
	if f.diskType == Differencing {
		i.ParentID, i.ParentTime = formatID(d.h.parentID), timeOf(d.h.parentTimeStamp)
		i.ParentNames, i.ParentsToTry = slices.Clone(d.names), candidates(d.names)
	}
	return i
}

// formatID returns an identifier in the usual groups, in the order of its bytes
// as vhdiinfo has it.
func formatID(id [16]byte) string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:])
}

// Notes returns what was noted of the image and its file so far, then of its
// parent.
func (d *Disk) Notes() []diskimage.Note {
	return slices.Concat(d.notes.All(), diskimage.NotesOf(d.src), diskimage.NotesOf(d.parent.Disk))
}
