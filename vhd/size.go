package vhd

import (
	"fmt"

	"github.com/diskimage-go/diskimage"
)

// A SizeRule says which of a footer's fields tells the disk's size.
type SizeRule uint8

const (
	SizeAuto     SizeRule = iota // by the program that made the image: see [Open]
	SizeCurrent                  // the current size
	SizeGeometry                 // cylinders times heads times sectors per track; the largest geometry tells none
)

func (r SizeRule) String() string {
	switch r {
	case SizeAuto:
		return "auto"
	case SizeCurrent:
		return "current"
	case SizeGeometry:
		return "geometry"
	}
	return fmt.Sprintf("SizeRule(%d)", uint8(r))
}

// ParseSizeRule returns the rule of a name as String gives it; the empty name
// is SizeAuto.
func ParseSizeRule(name string) (SizeRule, error) {
	switch name {
	case "", "auto":
		return SizeAuto, nil
	case "current":
		return SizeCurrent, nil
	case "geometry":
		return SizeGeometry, nil
	}
	return SizeAuto, fail(diskimage.ErrUnsupported, -1, "option size rule", "%s is not auto, current or geometry", diskimage.Quote(name))
}

// goesByGeometry reports whether the program that made the image shows its
// guests the geometry's size, and may have written another as current size:
// Virtual PC, and QEMU where it was not told to keep a size. All others that
// are known show the current size: Hyper-V and Windows ("win "), Disk2vhd
// ("d2v "), VirtualBox ("vbox"), Virtual Server ("vs  "), XenServer ("tap" and
// "CTXS"), Azure ("wa"), QEMU with force_size ("qem2").
func (f *footer) goesByGeometry() bool {
	return (f.creator == [4]byte{'v', 'p', 'c', ' '} || f.creator == [4]byte{'q', 'e', 'm', 'u'}) && f.geometry != largest
}

// settleSize returns the disk's size under the rule. The image holds at most
// room bytes; short is the kind of error for one that needs more.
func (f *footers) settleSize(rule SizeRule, room int64, short diskimage.ErrorKind) (int64, error) {
	current, geometry := int64(f.currentSize), f.geometry.Size()
	size, off, field := current, f.off+offCurrentSize, "footer: current size"
	switch {
	case rule == SizeGeometry && f.geometry == largest:
		f.note("the geometry is the largest there is, which tells no size; the footer's current size, %d, was taken", current)
	case rule == SizeGeometry:
		size, off, field = geometry, f.off+offCylinders, "footer: disk geometry"
		if geometry < current {
			f.note("the disk is shown by its geometry, as asked: %d bytes of the footer's current size, %d, are left out", current-geometry, current)
		}
	case rule == SizeCurrent || !f.goesByGeometry() || geometry == current:
	case geometry > current && geometry > room:
		f.note("the geometry covers %d bytes, more than there is room for; the footer's current size, %d, was taken", geometry, current)
	default:
		size = max(current, geometry)
		f.note("the footer's current size is %d bytes, its geometry covers %d: the larger was taken", current, geometry)
	}
	if size > room {
		return 0, fail(short, off, field, "%d bytes, there is room for %d", size, room)
	}
	return size, nil
}
