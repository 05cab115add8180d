// Package chain is about an image that shows another where it holds nothing
// itself: a backing image, a parent. All formats that have such a thing treat
// it alike.
package chain

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/diskimage-go/diskimage"
)

// A Below is the image below another. The zero value is none: all that the
// image does not hold is a hole.
type Below struct {
	Format string                // of the image above, for errors
	Ref    diskimage.Reference   // what the image above says of it; without a name there is none
	Disk   diskimage.VirtualDisk // nil if there is none or it was not opened
}

// Check refuses a reference that may not be followed whatever it names.
func Check(format string, ref diskimage.Reference, opener diskimage.Opener) error {
	switch {
	case opener == nil:
		return diskimage.Refuse(format, ref, "nothing was given that may open it")
	case ref.Depth > diskimage.MaxDepth:
		return &diskimage.Error{Kind: diskimage.ErrLimit, Format: format, Off: -1, Field: ref.Role.String(),
			Msg: fmt.Sprintf("%s is the %d. in the chain, %d are followed", diskimage.Quote(ref.Name), ref.Depth, diskimage.MaxDepth)}
	}
	return nil
}

// Open opens the image below.
func (b *Below) Open(ctx context.Context, opener diskimage.Opener) error {
	if err := Check(b.Format, b.Ref, opener); err != nil {
		return err
	}
	disk, err := opener.OpenDisk(ctx, b.Ref)
	if err != nil {
		return At(b.Format, b.Ref, err)
	}
	b.Disk = disk
	return nil
}

// Extent returns what the image below says of the n guest bytes at off, with
// the depth as seen from above; behind its end is a hole.
func (b *Below) Extent(off, n int64) (diskimage.Extent, error) {
	if b.skipped() {
		return diskimage.Extent{}, b.refuse()
	}
	if b.Disk == nil || off >= b.Disk.Size() {
		return diskimage.Extent{Off: off, Len: n, Kind: diskimage.Hole, Depth: 1, Host: -1}, nil
	}
	e, err := b.Disk.NextExtent(off)
	if err != nil {
		return diskimage.Extent{}, b.wrap(err)
	}
	e = e.Clip(off, n)
	e.Depth++
	return e, nil
}

// Read fills p with the guest bytes at off, zeros behind the end.
func (b *Below) Read(p []byte, off int64) error {
	if b.skipped() {
		return b.refuse()
	}
	var n int64
	if b.Disk != nil {
		n = min(int64(len(p)), max(0, b.Disk.Size()-off))
	}
	clear(p[n:])
	if n == 0 {
		return nil
	}
	got, err := b.Disk.ReadAt(p[:n], off)
	if int64(got) == n {
		return nil
	}
	return b.wrap(err)
}

// ReadStored hands over an extent of the image below, or of one further down.
func (b *Below) ReadStored(e diskimage.Extent, buf []byte) (diskimage.Stored, error) {
	sr, ok := b.Disk.(diskimage.StoredReader)
	if !ok {
		return diskimage.Stored{}, fmt.Errorf("%s: extent at %#x is of a %s that stores nothing compressed", b.Format, e.Off, b.Ref.Role)
	}
	e.Depth--
	return sr.ReadStored(e, buf)
}

// SourceOf returns the file of an extent of the image below, or of one further
// down, nil if that is not known.
func (b *Below) SourceOf(e diskimage.Extent) diskimage.Source {
	s, ok := b.Disk.(diskimage.Sourcer)
	if !ok {
		return nil
	}
	e.Depth--
	return s.SourceOf(e)
}

// CheckMap checks the map of the image below, if it has one.
func (b *Below) CheckMap() error {
	if mc, ok := b.Disk.(diskimage.MapChecker); ok {
		if err := mc.CheckMap(); err != nil {
			return b.wrap(err)
		}
	}
	return nil
}

// Changed asks the image below whether it changed.
func (b *Below) Changed() error {
	if c, ok := b.Disk.(diskimage.ChangeDetector); ok {
		return c.Changed()
	}
	return nil
}

// Close closes the image below, if it is open.
func (b *Below) Close() error {
	if b.Disk == nil {
		return nil
	}
	return b.Disk.Close()
}

func (b *Below) skipped() bool { return b.Disk == nil && b.Ref.Name != "" }

func (b *Below) refuse() error {
	return diskimage.Refuse(b.Format, b.Ref, "the image was opened without the files that it names")
}

func (b *Below) wrap(err error) error {
	if err == io.EOF || err == nil { // before its Size
		err = io.ErrUnexpectedEOF
	}
	return At(b.Format, b.Ref, err)
}

// A referenceError is an error of a file that an image names.
type referenceError struct {
	format string
	ref    diskimage.Reference
	err    error
}

func (e *referenceError) Error() string {
	return fmt.Sprintf("%s: %s %s: %v", e.format, e.ref.Role, diskimage.Quote(e.ref.Name), e.err)
}

func (e *referenceError) Unwrap() error { return e.err }

// At says that err is of the file that ref names, unless it says already which
// file further down a chain it is of.
func At(format string, ref diskimage.Reference, err error) error {
	if inner := (*referenceError)(nil); errors.As(err, &inner) {
		return err
	}
	return &referenceError{format, ref, err}
}
