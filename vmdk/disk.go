package vmdk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sort"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/internal/chain"
	"github.com/diskimage-go/diskimage/internal/guest"
	"github.com/diskimage-go/diskimage/internal/notes"
	"github.com/diskimage-go/diskimage/internal/pagecache"
)

// DefaultCacheBytes is what [Options.CacheBytes] means by 0.
const DefaultCacheBytes = 16 << 20

// Options say how [Open] reads an image. The zero value is right for an image
// of one file that stands alone.
type Options struct {
	// Name is what the image is called when it names other files, so that
	// their opener can resolve relative names. Default: not known.
	Name string

	// Opener opens the files of the extents and the parent. Default: an image
	// that has any is refused.
	Opener diskimage.Opener

	// Depth is how many references lead to this image: what
	// [diskimage.Reference] gave its opener. Default 0.
	Depth int

	// SkipExternal opens neither extents nor the parent, which is enough to
	// look at an image; reads that need them fail with ErrExternal.
	// Default false.
	SkipExternal bool

	// Salvage reads what can be read of a damaged image: extents that are not
	// accessible or not to be opened, and what damaged tables map, are told by
	// NextExtent as data at no known place, with a note, for which ReadAt
	// fails; a sparse extent that belongs to a set is shown alone.
	// Default false.
	Salvage bool

	// Notes are what the caller already has to say of the image: the first of
	// the Disk's own. Default: none.
	Notes []diskimage.Note

	// CacheBytes bounds the memory for tables. Default [DefaultCacheBytes].
	CacheBytes int64
}

// A Disk is the guest disk of a VMDK. All its methods but Close are safe for
// concurrent use.
//
// In the extents of a Disk, File is 0 for the file that was given to [Open] and
// 1 and up for the extents of the descriptor that have a file, in their order;
// [Disk.FileName] tells their names. A compressed extent is a grain; how many
// bytes it takes only the grain itself tells, so HostLen is 0. Extents with a
// Depth are the parent's, and their File and Host are what that image says.
type Disk struct {
	src     diskimage.Source
	name    string
	size    int64
	parts   []diskPart // ascending, without gaps
	desc    *descriptor
	head    *sparseHeader // of the file itself; nil if that is a descriptor
	parent  chain.Below
	salvage bool
	pages   *pagecache.Cache
	notes   notes.List
}

// A diskPart is a part at its place in the disk.
type diskPart struct {
	part
	start int64
	file  int              // as in extents
	line  *extentLine      // of the descriptor; nil if there is none
	src   diskimage.Source // opened for it; nil if it has no file of its own
}

var (
	_ diskimage.VirtualDisk    = (*Disk)(nil)
	_ diskimage.Sourcer        = (*Disk)(nil)
	_ diskimage.StoredReader   = (*Disk)(nil)
	_ diskimage.MapChecker     = (*Disk)(nil)
	_ diskimage.ChangeDetector = (*Disk)(nil)
	_ diskimage.Attester       = (*Disk)(nil)
	_ diskimage.Noter          = (*Disk)(nil)
)

// Open opens a VMDK and shows its disk. src is an image of one file, or a
// descriptor: a text that names the files of the disk's extents. Headers and
// descriptors are read; tables are read when they are needed. The context
// bounds the opening, not the disk's life.
//
// What the image names is opened by o.Opener only, and after everything that
// can be refused without it. All extents are opened at once, so that a missing
// one is known before anything is done with the others; each keeps a file open.
// If Open succeeds, closing the Disk closes src (if it is an io.Closer) and
// what was opened; if it fails, src stays open.
//
// A sparse extent that belongs to a set does not tell the disk: it is refused,
// as ErrUnsupported, unless Salvage is set.
//
// Errors are of the kinds of [diskimage.ErrorKind] for what is wrong with the
// image, and wrap src's for what cannot be read.
func Open(ctx context.Context, src diskimage.Source, o Options) (*Disk, error) {
	if o.CacheBytes < 0 || o.Depth < 0 {
		return nil, fmt.Errorf("%s: negative option: CacheBytes %d, Depth %d", Name, o.CacheBytes, o.Depth)
	}
	if o.CacheBytes == 0 {
		o.CacheBytes = DefaultCacheBytes
	}
	d := &Disk{src: src, name: o.Name, salvage: o.Salvage, pages: pagecache.New(o.CacheBytes)}
	d.notes.Format = Name
	d.notes.Start(slices.Clone(o.Notes))
	err := d.open(ctx, o)
	if err != nil {
		_ = d.closeOpened()
		return nil, err
	}
	return d, nil
}

// open fills in all that Open returns.
func (d *Disk) open(ctx context.Context, o Options) error {
	prefix := make([]byte, min(ProbeLen, max(0, d.src.Size())))
	if err := readFull(d.src, prefix, 0, "header"); err != nil {
		return err
	}
	if isDescriptor(prefix) {
		if err := d.readDescriptor(); err != nil {
			return err
		}
		if err := d.openParts(ctx, o); err != nil {
			return err
		}
	} else if err := d.openSelf(prefix); err != nil {
		return err
	}
	last := d.parts[len(d.parts)-1]
	d.size = last.start + last.size()
	return d.openParent(ctx, o)
}

// Size returns the guest disk's size in bytes, a multiple of 512.
func (d *Disk) Size() int64 { return d.size }

// Attest asks the source, if it lies in a container with checksums, whether it
// is what those are of; the container answers for the extents in it too.
func (d *Disk) Attest(ctx context.Context) error {
	if a, ok := d.src.(diskimage.Attester); ok {
		return a.Attest(ctx)
	}
	return nil
}

// partAt returns the part that holds a guest offset inside the disk.
func (d *Disk) partAt(off int64) *diskPart {
	if len(d.parts) == 1 {
		return &d.parts[0]
	}
	return &d.parts[sort.Search(len(d.parts), func(i int) bool { return d.parts[i].start > off })-1]
}

// ReadAt reads guest bytes, as [diskimage.VirtualDisk] has it.
func (d *Disk) ReadAt(p []byte, off int64) (int, error) {
	return guest.ReadAt(Name, d.size, p, off, d.readRun)
}

// readRun fills p from off on, as far as one run reaches.
func (d *Disk) readRun(p []byte, off int64) (int, error) {
	part := d.partAt(off)
	in := off - part.start
	m, err := part.locate(in, min(int64(len(p)), part.size()-in))
	if err != nil {
		return 0, part.blame(err)
	}
	p = p[:m.n]
	switch m.state {
	case plain, packed:
		err = part.blame(part.read(p, in, m))
	case zeros:
		clear(p)
	default:
		err = d.parent.Read(p, off)
	}
	return len(p), err
}

// blame says in err which of the disk's files it is about, if that is not the
// image itself.
func (p *diskPart) blame(err error) error {
	if err == nil || p.line == nil || p.file == 0 {
		return err
	}
	return within(err, "extent %s", diskimage.Quote(p.line.fileName))
}

// closeOpened closes what was opened for the disk.
func (d *Disk) closeOpened() error {
	errs := []error{d.parent.Close()}
	for i := range d.parts {
		errs = append(errs, closeAny(d.parts[i].src))
	}
	return errors.Join(errs...)
}

// Close closes the image file and what was opened for it.
func (d *Disk) Close() error { return errors.Join(d.closeOpened(), closeAny(d.src)) }

// closeAny closes v if it can be closed.
func closeAny(v any) error {
	if c, ok := v.(io.Closer); ok {
		return c.Close()
	}
	return nil
}

// SourceOf returns the file of an extent, as [diskimage.Sourcer] has it.
func (d *Disk) SourceOf(e diskimage.Extent) diskimage.Source {
	if e.Depth > 0 {
		return d.parent.SourceOf(e)
	}
	if src := d.partAt(e.Off).src; src != nil {
		return src
	}
	return d.src
}

// Changed returns an error of kind [diskimage.ErrChanged] if a file that the
// disk reads is not what it was when it was opened, as far as that is known.
func (d *Disk) Changed() error {
	if err := changed(d.src); err != nil {
		return err
	}
	for i := range d.parts {
		if err := changed(d.parts[i].src); err != nil {
			return d.parts[i].blame(err)
		}
	}
	return d.parent.Changed()
}

func changed(src diskimage.Source) error {
	if c, ok := src.(diskimage.ChangeDetector); ok {
		return c.Changed()
	}
	return nil
}
