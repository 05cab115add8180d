package vhd

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/internal/chain"
	"github.com/diskimage-go/diskimage/internal/guest"
	"github.com/diskimage-go/diskimage/internal/holes"
	"github.com/diskimage-go/diskimage/internal/notes"
)

// Options say how [Open] reads an image. The zero value is right for an image
// that stands alone.
type Options struct {
	// Name is what the image is called when it names its parent, so that the
	// opener can resolve relative names. Default: not known.
	Name string

	// Opener opens the parent of a differencing disk. Default: such a disk is
	// refused.
	Opener diskimage.Opener

	// Depth is how many references lead to this image: what
	// [diskimage.Reference] gave its opener. Default 0.
	Depth int

	// SkipExternal does not open the parent, which is enough to look at an
	// image; reads that need it fail with ErrExternal. Default false.
	SkipExternal bool

	// SizeRule says which of the footer's fields tells the disk's size.
	// Default SizeAuto: the current size, but for programs that go by the
	// geometry (Virtual PC, QEMU without force_size) the larger of the two,
	// noted.
	SizeRule SizeRule

	// Salvage reads what can be read of a damaged image: a missing footer, a
	// footer that describes another disk than its copy and a parent of another
	// identifier are notes, and for a block that lies where none can NextExtent
	// tells of data at no known place, with a note, for which ReadAt fails.
	// Default false.
	Salvage bool

	// Notes are what the caller already has to say of the image: the first of
	// the Disk's own. Default: none.
	Notes []diskimage.Note
}

// A Disk is the guest disk of a VHD image. All its methods but Close are safe
// for concurrent use.
//
// The extents of a dynamic or differencing disk are as long as its blocks, or
// shorter where a sector bitmap has clear bits. A sector whose bit is clear is
// the parent's, or a hole where there is none, which is noted where that is
// unusual. A block in which all are, and which has data, is an error: its place
// in the table, or its bitmap, is wrong.
type Disk struct {
	src     diskimage.Source
	salvage bool
	f       *footers
	size    int64
	notes   notes.List
	names   []ParentName
	parent  chain.Below
	holes   *holes.Map // of a fixed disk

	// Of dynamic and differencing disks; h is nil in a fixed one.
	h           *header
	table       []uint32
	blockSize   int64
	bitmapBytes int64
	bitmaps     bitmapCache
}

var (
	_ diskimage.VirtualDisk    = (*Disk)(nil)
	_ diskimage.Sourcer        = (*Disk)(nil)
	_ diskimage.MapChecker     = (*Disk)(nil)
	_ diskimage.Noter          = (*Disk)(nil)
	_ diskimage.ChangeDetector = (*Disk)(nil)
	_ diskimage.Attester       = (*Disk)(nil)
)

// Open opens a VHD image and shows its disk: fixed, dynamic or differencing. It
// reads the footer and its copy, the dynamic disk header and the block
// allocation table (at most 16 MiB); sector bitmaps are read when they are
// needed. The context bounds the opening, not the disk's life.
//
// The parent of a differencing disk is opened by o.Opener only, by the first of
// its names (see [Info]) that leads to the image with the identifier that the
// disk has for it. If Open succeeds, closing the Disk closes src (if it is an
// io.Closer) and the parent; if it fails, src stays open.
//
// Errors are of the kinds of [diskimage.ErrorKind] for what is wrong with the
// image, and wrap src's for what cannot be read.
func Open(ctx context.Context, src diskimage.Source, o Options) (*Disk, error) {
	if o.Depth < 0 || o.SizeRule > SizeGeometry {
		return nil, fmt.Errorf("%s: bad option: Depth %d, SizeRule %v", Name, o.Depth, o.SizeRule)
	}
	f, err := findFooter(src, o.Salvage)
	if err != nil {
		return nil, err
	}
	if err := f.validate(f.off); err != nil {
		return nil, err
	}
	d := &Disk{src: src, holes: holes.Of(Name, src), salvage: o.Salvage, f: f}
	if f.diskType == Fixed {
		d.size, err = f.settleSize(o.SizeRule, f.end, diskimage.ErrTruncated)
		if left := f.end - d.size; err == nil && left > 0 {
			f.note("%d bytes between the disk's end and the footer are not part of the disk", left)
		}
	} else {
		err = d.openTables(o)
	}
	if err != nil {
		return nil, err
	}
	if f.savedState != 0 {
		f.note("the disk is that of a machine in saved state: what its memory held is not in it")
	}
	d.notes.Format = Name
	d.notes.Start(o.Notes)
	for _, text := range f.notes {
		d.notes.Add("%s", text)
	}
	if f.diskType == Differencing {
		if err := d.openParent(ctx, o); err != nil {
			return nil, err
		}
	}
	return d, nil
}

// openTables reads what a dynamic or differencing disk has beside the footer.
func (d *Disk) openTables(o Options) (err error) {
	if d.h, err = readHeader(d.src, d.f); err != nil {
		return err
	}
	d.blockSize, d.bitmapBytes = int64(d.h.blockSize), d.h.bitmapBytes()
	if d.size, err = d.f.settleSize(o.SizeRule, d.h.room(), diskimage.ErrCorrupt); err != nil {
		return err
	}
	if d.table, err = d.h.readTable(d.src, d.size); err != nil {
		return err
	}
	if d.f.diskType == Differencing {
		d.names = d.h.readParentNames(d.src, d.f)
	}
	return nil
}

// Size returns the guest disk's size in bytes.
func (d *Disk) Size() int64 { return d.size }

// Attest asks the source, if it lies in a container with checksums, whether it
// is what those are of.
func (d *Disk) Attest(ctx context.Context) error {
	if a, ok := d.src.(diskimage.Attester); ok {
		return a.Attest(ctx)
	}
	return nil
}

// A mapping says what a run of guest bytes is.
type mapping struct {
	data bool  // at host; else the parent's, or zeros
	zero bool  // nothing is there: the file has a hole
	host int64 // of data
	n    int64 // bytes
}

// lookup returns what the guest bytes from off on are, at most n of them, as
// far as one block shows it.
func (d *Disk) lookup(off, n int64) (mapping, error) {
	if d.h == nil {
		end, hole, err := d.holes.Run(off, off+n)
		if err != nil {
			return mapping{n: n}, err
		}
		return mapping{true, hole, off, end - off}, nil
	}
	block, within := off/d.blockSize, off%d.blockSize
	want, n := n, min(n, d.blockSize-within)
	entry := d.table[block]
	if entry == unusedEntry {
		// All that follow alike, too: an empty disk is one run.
		for block++; n < want && d.table[block] == unusedEntry; block++ {
			n = min(n+d.blockSize, want)
		}
		return mapping{n: n}, nil
	}
	start, err := d.blockAt(block, entry)
	if err != nil {
		return mapping{n: n}, err
	}
	bits, err := d.bitmaps.get(d, block, start)
	if err != nil {
		return mapping{n: n}, err
	}
	data, run := bits.run(within / sectorSize)
	n = min(n, run*sectorSize-within%sectorSize)
	if !data {
		return mapping{n: n}, nil
	}
	return mapping{data: true, host: start + d.bitmapBytes + within, n: n}, nil
}

// blockAt returns the host offset of the block that an entry of the table
// names, which must lie inside the file and behind the footer's copy.
func (d *Disk) blockAt(block int64, entry uint32) (int64, error) {
	start := int64(entry) * sectorSize
	switch {
	case start < footerLen:
		return 0, d.badEntry(block, diskimage.ErrCorrupt, "the block lies in the footer's copy")
	case start+d.bitmapBytes+d.blockSize > d.f.end:
		kind, end := diskimage.ErrTruncated, d.src.Size()
		if start+d.bitmapBytes+d.blockSize <= end {
			kind = diskimage.ErrCorrupt // it is there, and the footer is in it
		}
		return 0, d.badEntry(block, kind, fmt.Sprintf("the block at %#x ends at %#x, the file's data at %#x", start, start+d.bitmapBytes+d.blockSize, d.f.end))
	}
	return start, nil
}

func (d *Disk) badEntry(block int64, kind diskimage.ErrorKind, msg string) error {
	return fail(kind, int64(d.h.tableOffset)+block*4, fmt.Sprintf("block allocation table: entry %d", block), "guest offset %#x: %s", block*d.blockSize, msg)
}

// ReadAt reads guest bytes, as [diskimage.VirtualDisk] has it.
func (d *Disk) ReadAt(p []byte, off int64) (int, error) {
	return guest.ReadAt(Name, d.size, p, off, d.readRun)
}

// readRun fills p from off on, as far as one run reaches.
func (d *Disk) readRun(p []byte, off int64) (int, error) {
	m, err := d.lookup(off, int64(len(p)))
	if err != nil {
		return 0, err
	}
	p = p[:m.n]
	switch {
	case m.zero:
		clear(p)
	case m.data:
		err = readFull(d.src, p, m.host, "data")
	default:
		err = d.parent.Read(p, off)
	}
	return len(p), err
}

// NextExtent returns the extent at off, as [diskimage.VirtualDisk] has it.
func (d *Disk) NextExtent(off int64) (diskimage.Extent, error) {
	if off == d.size {
		return diskimage.Extent{}, io.EOF
	}
	if off < 0 || off > d.size {
		return diskimage.Extent{}, fmt.Errorf("%s: extent at %d of a disk of %d bytes", Name, off, d.size)
	}
	m, err := d.lookup(off, d.size-off)
	e := diskimage.Extent{Off: off, Len: m.n, Host: m.host}
	switch {
	case err != nil && !d.salvage:
		return diskimage.Extent{}, err
	case err != nil:
		// Data that ReadAt fails for: whoever salvages fills it and says so.
		d.notes.Add("%v", err)
		e.Host = -1
		return e, nil
	case m.data:
		if m.zero {
			e.Kind = diskimage.Zero
		}
		return e, nil
	}
	return d.parent.Extent(off, m.n)
}

// Close closes the image file and the parent.
func (d *Disk) Close() error {
	err := d.parent.Close()
	if c, ok := d.src.(io.Closer); ok {
		err = errors.Join(err, c.Close())
	}
	return err
}

// SourceOf returns the file of an extent, as [diskimage.Sourcer] has it.
func (d *Disk) SourceOf(e diskimage.Extent) diskimage.Source {
	if e.Depth > 0 {
		return d.parent.SourceOf(e)
	}
	return d.src
}

// Changed returns an error of kind [diskimage.ErrChanged] if a file that the
// disk reads is not what it was when it was opened, as far as that is known.
func (d *Disk) Changed() error {
	if c, ok := d.src.(diskimage.ChangeDetector); ok {
		if err := c.Changed(); err != nil {
			return err
		}
	}
	return d.parent.Changed()
}
