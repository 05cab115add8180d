package raw

import (
	"context"
	"fmt"
	"io"
	"slices"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/internal/fault"
	"github.com/diskimage-go/diskimage/internal/holes"
)

// Options say which part of the source is the disk.
type Options struct {
	Offset int64 // where in the source the disk starts, in bytes; 0
	Size   int64 // the disk's length in bytes; 0: all that follows Offset

	Notes []diskimage.Note // what the caller already has to say of the image; the disk's Notes tell it; none
}

// A Disk is a raw image as a disk. All methods but Close are safe for
// concurrent use.
//
// Its extents are Data, or Zero where the source has a hole, all of them plain
// and with their place in the source. A hole of the host's file is Zero and
// not Hole, since a raw image says something of each of its bytes: put above
// another image it hides all of it. (`qemu-img map` says the same: present,
// zero, no data, with its offset.)
type Disk struct {
	src    diskimage.Source
	holes  *holes.Map
	offset int64
	size   int64
	notes  []diskimage.Note
}

var (
	_ diskimage.VirtualDisk    = (*Disk)(nil)
	_ diskimage.Sourcer        = (*Disk)(nil)
	_ diskimage.ChangeDetector = (*Disk)(nil)
	_ diskimage.Attester       = (*Disk)(nil)
	_ diskimage.Noter          = (*Disk)(nil)
)

// Open returns src, or the part of it that o says, as a disk. Any length will
// do, none too. A part that goes beyond the source's end is ErrTruncated.
// Closing the disk closes src if it is an io.Closer; after an error src is
// left to the caller.
func Open(src diskimage.Source, o Options) (*Disk, error) {
	have := src.Size()
	switch {
	case o.Offset < 0:
		return nil, fmt.Errorf("raw: option Offset: %d is negative", o.Offset)
	case o.Size < 0:
		return nil, fmt.Errorf("raw: option Size: %d is negative", o.Size)
	case have < 0:
		return nil, fmt.Errorf("raw: the source's size is negative: %d", have)
	case o.Offset > have || o.Size > have-o.Offset:
		return nil, &diskimage.Error{Kind: diskimage.ErrTruncated, Format: Name, Off: have, Field: "disk",
			Msg: fmt.Sprintf("the file ends here, the disk was said to lie at %d and be %d bytes long", o.Offset, o.Size)}
	}
	d := &Disk{src: src, offset: o.Offset, size: o.Size, notes: slices.Clone(o.Notes), holes: holes.Of(Name, src)}
	if d.size == 0 {
		d.size = have - o.Offset
	}
	return d, nil
}

// Size returns the disk's length, exact to the byte.
func (d *Disk) Size() int64 { return d.size }

// Notes returns what was noted of the image when it was opened, and of its file
// so far.
func (d *Disk) Notes() []diskimage.Note { return slices.Concat(d.notes, diskimage.NotesOf(d.src)) }

// Close closes the source if it is an io.Closer.
func (d *Disk) Close() error {
	if c, ok := d.src.(io.Closer); ok {
		return c.Close()
	}
	return nil
}

// SourceOf returns the file of an extent, as [diskimage.Sourcer] has it.
func (d *Disk) SourceOf(diskimage.Extent) diskimage.Source { return d.src }

// Changed asks the source, if it can tell, whether it has changed.
func (d *Disk) Changed() error {
	if c, ok := d.src.(diskimage.ChangeDetector); ok {
		return c.Changed()
	}
	return nil
}

// Attest asks the source, if it lies in a container with checksums, whether it
// is what those are of.
func (d *Disk) Attest(ctx context.Context) error {
	if a, ok := d.src.(diskimage.Attester); ok {
		return a.Attest(ctx)
	}
	return nil
}

// ReadAt reads guest bytes, as diskimage.VirtualDisk says. A source that ends
// before its size is ErrTruncated.
func (d *Disk) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("raw: read at the negative offset %d", off)
	}
	if len(p) == 0 {
		return 0, nil
	}
	if off >= d.size {
		return 0, io.EOF
	}
	var end error
	if left := d.size - off; int64(len(p)) > left {
		p, end = p[:left], io.EOF
	}
	n, err := d.src.ReadAt(p, d.offset+off)
	if n == len(p) { // with io.EOF or without
		return n, end
	}
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return n, fmt.Errorf("%s: data: reading %d bytes at %#x: %w", Name, len(p), d.offset+off, err)
	}
	return n, fault.New(Name, diskimage.ErrTruncated, d.offset+off+int64(n), "data", "the file ends here, it should hold %d bytes", d.offset+d.size)
}

// NextExtent returns the extent that holds off, as diskimage.VirtualDisk says.
// It is as long as the source's run of data or hole.
func (d *Disk) NextExtent(off int64) (diskimage.Extent, error) {
	if off == d.size {
		return diskimage.Extent{}, io.EOF
	}
	if off < 0 || off > d.size {
		return diskimage.Extent{}, fmt.Errorf("raw: offset %d is outside the disk of %d bytes", off, d.size)
	}
	host := d.offset + off
	end, hole, err := d.holes.Run(host, d.offset+d.size)
	if err != nil {
		return diskimage.Extent{}, err
	}
	e := diskimage.Extent{Off: off, Len: end - host, Host: host}
	if hole {
		e.Kind = diskimage.Zero
	}
	return e, nil
}
