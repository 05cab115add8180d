package vmdk

import (
	"context"
	"fmt"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/internal/chain"
)

// openParent opens the image that this one differs from, if there is one and
// it is to be opened, and holds its CID against what this one says.
func (d *Disk) openParent(ctx context.Context, o Options) error {
	if d.desc == nil {
		return nil
	}
	has, hint := d.desc.parentCID != noParentCID, d.desc.parentHint
	switch {
	case !has && hint == "":
		return nil
	case !has:
		return fail(diskimage.ErrCorrupt, -1, "descriptor: parentFileNameHint", "%s, but parentCID says that there is no parent", diskimage.Quote(hint))
	case hint == "":
		return fail(diskimage.ErrExternal, -1, "descriptor: parentCID", "%08x: the image has a parent, but does not name it", d.desc.parentCID)
	}
	ref := diskimage.Reference{Name: hint, Role: diskimage.RoleParent, Format: Name, From: o.Name, Depth: o.Depth + 1}
	d.parent = chain.Below{Format: Name, Ref: ref}
	if o.SkipExternal {
		return nil
	}
	if err := d.parent.Open(ctx, o.Opener); err != nil {
		return err
	}
	return d.checkParentCID()
}

// checkParentCID refuses a parent that was written to since this image was
// made: what this one leaves to it may have changed.
func (d *Disk) checkParentCID() error {
	parent, ok := d.parent.Disk.(interface{ Info() Info })
	if !ok {
		return chain.At(Name, d.parent.Ref, fmt.Errorf("%s: its CID is not known: it is no VMDK", Name))
	}
	if cid := parent.Info().CID; cid != d.desc.parentCID {
		err := fail(diskimage.ErrCorrupt, -1, "descriptor: parentCID", "%08x, but the parent %s has the CID %08x: it is another image, or was written to", d.desc.parentCID, diskimage.Quote(d.desc.parentHint), cid)
		if !d.salvage {
			return err
		}
		d.notes.Add("%v", err)
	}
	return nil
}

// Parent returns the disk that this one differs from, or nil if there is none
// or it was not opened. It belongs to d: closing d closes it.
func (d *Disk) Parent() diskimage.VirtualDisk { return d.parent.Disk }
