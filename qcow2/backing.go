package qcow2

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/diskimage-go/diskimage"
)

// openReferences opens the external data file and the backing image, or none
// of them.
func (img *image) openReferences(ctx context.Context, o Options) (err error) {
	if img.h.hasDataFile() {
		img.data, img.dataSize = nil, 0
	}
	if o.SkipExternal {
		return nil
	}
	if img.h.hasDataFile() {
		ref, err := img.reference(diskimage.RoleDataFile, o)
		if err != nil {
			return err
		}
		if img.data, err = o.Opener.OpenSource(ctx, ref); err != nil {
			return atReference(ref, err)
		}
		img.dataSize = img.data.Size()
	}
	if img.h.backingName != "" {
		ref, err := img.reference(diskimage.RoleBacking, o)
		if err == nil {
			if img.backing, err = o.Opener.OpenDisk(ctx, ref); err != nil {
				err = atReference(ref, err)
			}
		}
		if err != nil {
			_ = img.closeData()
			return err
		}
	}
	return nil
}

// Backing returns the disk of the image below, or nil if there is none or it
// was not opened. It belongs to d: closing d closes it.
func (d *Disk) Backing() diskimage.VirtualDisk { return d.backing }

// reference returns what the image says of another file, or the error for one
// that may not be opened.
func (img *image) reference(role diskimage.Role, o Options) (diskimage.Reference, error) {
	ref := diskimage.Reference{Name: img.h.backingName, Role: role, Format: img.h.backingFormat, From: o.Name, Depth: o.Depth + 1}
	if role == diskimage.RoleDataFile {
		ref.Name, ref.Format = img.h.dataFile, "raw"
	}
	switch {
	case ref.Name == "":
		return ref, fail(diskimage.ErrExternal, -1, role.String(), "the image has one, but does not name it")
	case o.Opener == nil:
		return ref, diskimage.Refuse(Name, ref, "nothing was given that may open it")
	case ref.Depth > diskimage.MaxDepth:
		return ref, fail(diskimage.ErrLimit, -1, role.String(), "%s is the %d. in the chain, %d are followed", diskimage.Quote(ref.Name), ref.Depth, diskimage.MaxDepth)
	}
	return ref, nil
}

// A referenceError is an error of a file that an image names.
type referenceError struct {
	ref diskimage.Reference
	err error
}

func (e *referenceError) Error() string {
	return fmt.Sprintf("%s: %s %s: %v", Name, e.ref.Role, diskimage.Quote(e.ref.Name), e.err)
}

func (e *referenceError) Unwrap() error { return e.err }

// atReference says that err is of the file that ref names, unless it says
// already which file further down a chain it is of.
func atReference(ref diskimage.Reference, err error) error {
	if inner := (*referenceError)(nil); errors.As(err, &inner) {
		return err
	}
	return &referenceError{ref, err}
}

// refuseSkipped returns the error for a file that is needed and was not to be
// opened.
func (img *image) refuseSkipped(role diskimage.Role) error {
	name := img.h.backingName
	if role == diskimage.RoleDataFile {
		name = img.h.dataFile
	}
	return diskimage.Refuse(Name, diskimage.Reference{Name: name, Role: role}, "the image was opened without the files that it names")
}

// backingExtent returns what the backing image says of the n guest bytes at
// off.
func (img *image) backingExtent(off, n int64) (diskimage.Extent, error) {
	if img.backing == nil && img.h.backingName != "" {
		return diskimage.Extent{}, img.refuseSkipped(diskimage.RoleBacking)
	}
	if img.backing == nil || off >= img.backing.Size() {
		return diskimage.Extent{Off: off, Len: n, Kind: diskimage.Hole, Depth: 1, Host: -1}, nil
	}
	e, err := img.backing.NextExtent(off)
	if err != nil {
		return diskimage.Extent{}, img.backingError(err)
	}
	e = e.Clip(off, n)
	e.Depth++
	return e, nil
}

// readBacking fills p with the backing image's bytes at off, and zeros behind
// its end.
func (img *image) readBacking(p []byte, off int64) error {
	var n int64
	if img.h.backingName != "" {
		if img.backing == nil {
			return img.refuseSkipped(diskimage.RoleBacking)
		}
		n = min(int64(len(p)), max(0, img.backing.Size()-off))
	}
	clear(p[n:])
	if n == 0 {
		return nil
	}
	got, err := img.backing.ReadAt(p[:n], off)
	if int64(got) == n {
		return nil
	}
	return img.backingError(err)
}

// backingError wraps an error of the backing image.
func (img *image) backingError(err error) error {
	if err == io.EOF || err == nil { // before its Size
		err = io.ErrUnexpectedEOF
	}
	return atReference(diskimage.Reference{Name: img.h.backingName, Role: diskimage.RoleBacking}, err)
}

// closeData closes the external data file if there is one.
func (img *image) closeData() error {
	if img.h.hasDataFile() {
		return closeAny(img.data)
	}
	return nil
}

// closeAny closes v if it can be closed.
func closeAny(v any) error {
	if c, ok := v.(io.Closer); ok {
		return c.Close()
	}
	return nil
}
