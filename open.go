package diskimage

import "context"

// A Role says what an image wants of another file that it names.
type Role uint8

const (
	RoleBacking  Role = iota // the image below, for what this one does not hold
	RoleDataFile             // a QCOW2 image's external data file
	RoleExtent               // a part of the disk
	RoleParent               // the image that this one differs from
)

func (r Role) String() string {
	switch r {
	case RoleBacking:
		return "backing file"
	case RoleDataFile:
		return "data file"
	case RoleExtent:
		return "extent"
	case RoleParent:
		return "parent"
	}
	return "file"
}

// A Reference is what an image says of another file. Its Name comes from the
// image and is not to be trusted.
type Reference struct {
	Name   string // as the image has it
	Role   Role
	Format string // the format the image declares for it ("raw", "qcow2"), "" if none
	From   string // the name of the image that names it, as its opener was told; "" if not known
	Depth  int    // how many references lead here: 1 for one named by the image that was opened first
}

// An Opener opens what images name, as its caller permits. Where an Opener is
// nil every reference is refused with [ErrExternal].
//
// Implementations must refuse an endless chain: Depth grows by one with each
// link.
type Opener interface {
	// OpenDisk opens another image (backing image, parent) as the disk it shows.
	OpenDisk(ctx context.Context, ref Reference) (VirtualDisk, error)
	// OpenSource opens a file for its plain bytes (data file, extent).
	OpenSource(ctx context.Context, ref Reference) (Source, error)
}

// MaxDepth is the longest chain of images that is followed. QEMU sets no limit
// of its own; chains in use are shorter than 64.
const MaxDepth = 128

// Refuse returns the error for a reference that may not be opened. hint says
// what would allow it, or is empty.
func Refuse(format string, ref Reference, hint string) error {
	msg := "refused to open " + ref.Role.String() + " " + Quote(ref.Name)
	if hint != "" {
		msg += " (" + hint + ")"
	}
	return &Error{Kind: ErrExternal, Format: format, Off: -1, Msg: msg}
}
