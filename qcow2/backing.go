package qcow2

import (
	"context"
	"io"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/internal/chain"
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
		ref := img.reference(diskimage.RoleDataFile, o)
		if ref.Name == "" {
			return fail(diskimage.ErrExternal, -1, ref.Role.String(), "the image has one, but does not name it")
		}
		if err := chain.Check(Name, ref, o.Opener); err != nil {
			return err
		}
		if img.data, err = o.Opener.OpenSource(ctx, ref); err != nil {
			return chain.At(Name, ref, err)
		}
		img.dataSize = img.data.Size()
	}
	if img.h.backingName != "" {
		if err := img.below.Open(ctx, o.Opener); err != nil {
			_ = img.closeData()
			return err
		}
	}
	return nil
}

// Backing returns the disk of the image below, or nil if there is none or it
// was not opened. It belongs to d: closing d closes it.
func (d *Disk) Backing() diskimage.VirtualDisk { return d.below.Disk }

// reference returns what the image says of another file.
func (img *image) reference(role diskimage.Role, o Options) diskimage.Reference {
	ref := diskimage.Reference{Name: img.h.backingName, Role: role, Format: img.h.backingFormat, From: o.Name, Depth: o.Depth + 1}
	if role == diskimage.RoleDataFile {
		ref.Name, ref.Format = img.h.dataFile, "raw"
	}
	return ref
}

// refuseSkippedData returns the error for a data file that is needed and was
// not to be opened.
func (img *image) refuseSkippedData() error {
	ref := diskimage.Reference{Name: img.h.dataFile, Role: diskimage.RoleDataFile}
	return diskimage.Refuse(Name, ref, "the image was opened without the files that it names")
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
