package vmdk

import (
	"fmt"
	"io"

	"github.com/diskimage-go/diskimage"
)

// NextExtent returns the extent at off, as [diskimage.VirtualDisk] has it: a
// compressed grain, or a run that is alike as far as one table or file shows
// it.
//
// What the disk does not hold is told by the parent, one Depth below; behind
// its end, and where there is no parent, is a hole.
func (d *Disk) NextExtent(off int64) (diskimage.Extent, error) {
	if off == d.size {
		return diskimage.Extent{}, io.EOF
	}
	if off < 0 || off > d.size {
		return diskimage.Extent{}, fmt.Errorf("%s: extent at %d of a disk of %d bytes", Name, off, d.size)
	}
	part := d.partAt(off)
	in := off - part.start
	m, err := part.locate(in, part.size()-in)
	e := diskimage.Extent{Off: off, Len: m.n, File: part.file, Host: m.host}
	if err != nil {
		err = part.blame(err)
		if !d.salvage {
			return diskimage.Extent{}, err
		}
		// Data that ReadAt fails for: whoever salvages fills it and says so.
		d.notes.Add("%v", err)
		e.Host = -1
		return e, nil
	}
	switch m.state {
	case plain:
	case packed:
		e.Stored = diskimage.Deflate
	case zeros:
		e.Kind = diskimage.Zero
	default:
		return d.parent.Extent(off, m.n)
	}
	return e, nil
}
