package convert

import (
	"context"
	"io/fs"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/internal/hostfile"
	"github.com/diskimage-go/diskimage/qcow2"
	"github.com/diskimage-go/diskimage/raw"
	"github.com/diskimage-go/diskimage/vhd"
	"github.com/diskimage-go/diskimage/vmdk"
)

// OpenOptions say how an image is opened. The zero value tells the format by
// the content and opens nothing but the image itself.
type OpenOptions struct {
	// Format is what the image is declared to be. A content that contradicts
	// it is refused. Images that a guest can write to as raw disks must be
	// declared raw: else what the guest wrote says what they are.
	// Default: told by the content, see [Detect].
	Format Format

	// Name is what the image is called: relative names in it are resolved
	// against its folder. Default: the file's name, if it has one.
	Name string

	// Opener opens what the image names: backing files, data files, extents and
	// parents. See [NewDirOpener]. Default: an image that names another is
	// refused.
	Opener diskimage.Opener

	// RawAnyway takes a file that is declared raw for raw though its content
	// is another image, an archive or a document. Default: refused.
	RawAnyway bool

	// Salvage reads what can be read of a damaged image. Default: refused.
	Salvage bool

	// SkipExternal opens nothing that the image names, which is enough to look
	// at an image, not to read it. Default false.
	SkipExternal bool

	// MaxVirtualSize is how large the image's guest disk may be, in bytes: a
	// larger one is refused with [diskimage.ErrLimit], before anything that the
	// image names is opened; a stream that does not say its size, when it has
	// given more. Default: there is no limit.
	MaxVirtualSize int64

	// Snapshot is the id or the name of the internal snapshot to show.
	// Default: the active disk.
	Snapshot string

	// SizeRule says which field of a VHD's footer tells the disk's size.
	// Default: by the program that made the image, see [vhd.Options].
	SizeRule vhd.SizeRule

	// Member is the disk of an OVA to show: its number in the package's
	// descriptor, from 1, or the name of its file, or its diskId there.
	// Default: the only one.
	Member string

	// Unwrap reads an image that is compressed with gzip or zstd, or lies in a
	// tar archive, by itself there or as the file of the name Member, or in a
	// compressed archive. [OpenStream] does so front to back, [Open] in a copy
	// (Spool). Default: if Name ends in .gz, .tgz, .zst, .tzst or .tar; else
	// what is wrapped is refused, and named.
	//
	// A small file can unpack to any size, unless MaxVirtualSize sets a limit.
	Unwrap bool

	// Spool is a folder for a temporary copy of what is compressed, or lies in
	// an archive, since only the copy can be read with random access. Default:
	// it is refused; [OpenStream] reads what can be read front to back.
	Spool string

	unwrapped bool // what is left is not unwrapped again
}

// Open shows the image in src as a disk: a *[raw.Disk], a *[qcow2.Disk], a
// *[vmdk.Disk] or a *[vhd.Disk]. The context bounds the opening, not the
// disk's life.
//
// Closing the disk closes src if it is an io.Closer, and what the image made
// the opener open. After an error src is left to the caller.
//
// If o.Opener is a *[DirOpener], RawAnyway and Salvage hold for the images below
// too.
//
// Of an OVA it shows a disk inside, which names nothing but what the package
// holds. The package's digests are not held against the disk's file, which
// would have to be read: conversions do so, and [diskimage.Attester] does.
//
// Errors of detection are as [Detect] says.
func Open(ctx context.Context, src diskimage.Source, o OpenOptions) (diskimage.VirtualDisk, error) {
	return open(ctx, src, o.inherited(nil), 0, nil)
}

// open opens an image to which so many references lead. notes are what is
// known of it already.
func open(ctx context.Context, src diskimage.Source, o OpenOptions, depth int, notes []diskimage.Note) (diskimage.VirtualDisk, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if depth == 0 {
		switch file, inner, err := UnwrapFile(ctx, src, o); {
		case err != nil:
			return nil, err
		case file != nil:
			return openUnwrapped(ctx, src, file, inner, notes)
		}
	}
	format, looks, err := decide(src, o.Format, o.RawAnyway)
	if err != nil {
		return nil, err
	}
	notes = append(notes, looks...)
	switch {
	case format == OVA && depth > 0:
		return nil, &diskimage.Error{Kind: diskimage.ErrUnsupported, Format: OVA.String(), Off: -1, Msg: "no image can lie in a package below another"}
	case format == OVA:
		return openOVA(ctx, src, o, notes)
	case o.Member != "":
		return nil, &diskimage.Error{Kind: diskimage.ErrUnsupported, Format: format.String(), Off: -1,
			Msg: "this is no OVA, disk " + diskimage.Quote(o.Member) + " of one was asked for"}
	}
	return openAs(ctx, src, format, o, depth, notes)
}

// openAs opens an image of a known format, if its disk is not too large.
func openAs(ctx context.Context, src diskimage.Source, format Format, o OpenOptions, depth int, notes []diskimage.Note) (diskimage.VirtualDisk, error) {
	if o.MaxVirtualSize != 0 {
		if err := o.checkSize(ctx, src, format, depth); err != nil {
			return nil, err
		}
	}
	switch format {
	case QCOW2:
		d, err := qcow2.Open(ctx, src, qcow2.Options{
			Name: o.Name, Opener: o.Opener, Depth: depth, SkipExternal: o.SkipExternal,
			Salvage: o.Salvage, Snapshot: o.Snapshot, Notes: notes,
		})
		if err != nil {
			return nil, err // not d, which would be no nil VirtualDisk
		}
		return d, nil
	case VMDK:
		if o.Snapshot != "" {
			return nil, noSnapshots(vmdk.Name, o.Snapshot)
		}
		d, err := vmdk.Open(ctx, src, vmdk.Options{
			Name: o.Name, Opener: o.Opener, Depth: depth, SkipExternal: o.SkipExternal,
			Salvage: o.Salvage, Notes: notes,
		})
		if err != nil {
			return nil, err
		}
		return d, nil
	case VHD:
		if o.Snapshot != "" {
			return nil, noSnapshots(vhd.Name, o.Snapshot)
		}
		d, err := vhd.Open(ctx, src, vhd.Options{
			Name: o.Name, Opener: o.Opener, Depth: depth, SkipExternal: o.SkipExternal,
			SizeRule: o.SizeRule, Salvage: o.Salvage, Notes: notes,
		})
		if err != nil {
			return nil, err
		}
		return d, nil
	default:
		if o.Snapshot != "" {
			return nil, noSnapshots(raw.Name, o.Snapshot)
		}
		d, err := raw.Open(src, raw.Options{Notes: notes})
		if err != nil {
			return nil, err
		}
		return d, nil
	}
}

// OpenFile opens an image file, or a block device that holds an image, as
// [Open] does. Folders, FIFOs, sockets and character devices are refused.
// Errors of the file are *fs.PathError.
func OpenFile(ctx context.Context, name string, o OpenOptions) (diskimage.VirtualDisk, error) {
	f, err := hostfile.Open(name)
	if err != nil {
		return nil, err
	}
	if o.Name == "" {
		o.Name = name
	}
	disk, err := open(ctx, f, o.inherited(f.Info()), 0, nil)
	if err != nil {
		f.Close()
		return nil, err
	}
	return disk, nil
}

// inherited returns o with an opener of ours made that of this image: it knows
// the image's file, if there is one, and what holds for the images below.
func (o OpenOptions) inherited(image fs.FileInfo) OpenOptions {
	if d, ok := o.Opener.(*DirOpener); ok && d != nil {
		o.Opener = d.below(image, "", o)
	}
	return o
}

// FormatOf returns the format of a disk that [Open] returned, or Auto for any
// other.
func FormatOf(d diskimage.VirtualDisk) Format {
	switch d.(type) {
	case *raw.Disk:
		return Raw
	case *qcow2.Disk:
		return QCOW2
	case *vmdk.Disk:
		return VMDK
	case *vhd.Disk:
		return VHD
	}
	return Auto
}

// noSnapshots returns the error for a snapshot of a format that has none.
func noSnapshots(format, name string) error {
	return &diskimage.Error{Kind: diskimage.ErrUnsupported, Format: format, Off: -1,
		Msg: "the format has no snapshots, asked for was " + diskimage.Quote(name)}
}
