package vhd

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"time"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/internal/chain"
)

// Parent returns the disk of the parent image, or nil if there is none or it
// was not opened. It belongs to d: closing d closes it.
func (d *Disk) Parent() diskimage.VirtualDisk { return d.parent.Disk }

// ParentName returns the file name by which the parent was opened, or the first
// that would be tried; "" if there is no parent.
func (d *Disk) ParentName() string { return d.parent.Ref.Name }

// openParent opens the parent under the first of its names that leads to it.
// Where none does, the error is that of a file that was found, if one was.
func (d *Disk) openParent(ctx context.Context, o Options) error {
	names := candidates(d.names)
	if len(names) == 0 {
		return fail(diskimage.ErrCorrupt, d.h.off+offLocators, "parent locators", "the disk differs from a parent, and has no name of it that can be followed")
	}
	below := chain.Below{Format: Name, Ref: diskimage.Reference{Name: names[0], Role: diskimage.RoleParent, Format: Name, From: o.Name, Depth: o.Depth + 1}}
	d.parent = below
	if o.SkipExternal {
		return nil
	}
	var found, absent error
	for _, name := range names {
		below.Ref.Name = name
		err := below.Open(ctx, o.Opener)
		if err == nil {
			if err = d.admit(&below); err == nil {
				d.parent = below
				return nil
			}
			err = errors.Join(chain.At(Name, below.Ref, err), below.Close())
		}
		first := &found
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, diskimage.ErrExternal) {
			first = &absent
		}
		if *first == nil {
			*first = err
		}
		if ctx.Err() != nil {
			break
		}
	}
	return cmp.Or(found, absent)
}

// admit refuses a disk that is not the parent that this one was made of.
func (d *Disk) admit(below *chain.Below) error {
	p, ok := below.Disk.(interface{ UniqueID() [16]byte }) // a Disk, or what stands for one
	if !ok {
		return fail(diskimage.ErrCorrupt, -1, "", "it is no VHD image")
	}
	if id := p.UniqueID(); id != d.h.parentID {
		err := fail(diskimage.ErrCorrupt, d.h.off+offParentUniqueID, "dynamic disk header: parent unique id",
			"it is %s, that of the file is %s", formatID(d.h.parentID), formatID(id))
		if !d.salvage {
			return err
		}
		d.notes.Add("%v", err)
	}
	// The time is that of the parent's file, which copying changes, and many
	// programs leave it out: it proves nothing, and may explain much.
	if m, ok := p.(interface{ ModTime() (time.Time, bool) }); ok && d.h.parentTimeStamp != 0 {
		said := timeOf(d.h.parentTimeStamp)
		if found, ok := m.ModTime(); ok && said.Sub(found).Abs() > 2*time.Second { // FAT counts in steps of two
			d.notes.Add("the parent %s was last written at %s; when this disk was made of it, that was %s", diskimage.Quote(below.Ref.Name),
				found.Format(time.RFC3339), said.Format(time.RFC3339))
		}
	}
	return nil
}

// UniqueID returns the image's identifier: what a differencing disk made of it
// has to know, see [Parent].
func (d *Disk) UniqueID() [16]byte { return d.f.uniqueID }

// ModTime returns when the image's file was last written, if its source knows.
func (d *Disk) ModTime() (time.Time, bool) {
	if m, ok := d.src.(interface{ ModTime() time.Time }); ok {
		return m.ModTime().UTC(), true
	}
	return time.Time{}, false
}

// timeOf returns the time that a time stamp tells.
func timeOf(stamp uint32) time.Time {
	return time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(stamp) * time.Second)
}
