package qcow2

import (
	"fmt"
	"io"

	"github.com/diskimage-go/diskimage"
)

// NextExtent returns the extent at off, as [diskimage.VirtualDisk] has it: a
// compressed cluster, or a run that is alike as far as one table shows it. It
// allocates nothing.
//
// Zero extents have a Host where clusters are kept for them. What the disk
// does not hold is told by the backing image, one Depth below; behind that
// image's end is a hole of this one.
func (d *Disk) NextExtent(off int64) (diskimage.Extent, error) {
	if off == d.size {
		return diskimage.Extent{}, io.EOF
	}
	if off < 0 || off > d.size {
		return diskimage.Extent{}, fmt.Errorf("%s: extent at %d of a disk of %d bytes", Name, off, d.size)
	}
	m, err := d.lookup(off, d.size-off)
	e := diskimage.Extent{Off: off, Len: m.n, Host: m.host}
	if err != nil {
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
		if d.h.hasDataFile() {
			e.File = 1
		}
	case packed:
		e.Stored, e.HostLen = d.h.encoding(), m.hostLen
	case zeros:
		e.Kind = diskimage.Zero
	default:
		e, err = d.below.Extent(off, m.n)
		if err == nil && e.Kind == diskimage.Hole && e.Depth == 1 {
			e.Host = m.host
			if e.Host >= 0 && d.h.hasDataFile() {
				e.File = 1
			}
		}
		return e, err
	}
	return e, nil
}

// ReadStored returns the compressed stream of e, as [diskimage.StoredReader]
// has it. Where the stream ends is known to the sector only.
// Extents of the backing image are its own to read; what a layer above it left
// of a cluster is refused.
func (d *Disk) ReadStored(e diskimage.Extent, buf []byte) (diskimage.Stored, error) {
	none := diskimage.Stored{}
	if e.Depth > 0 {
		return d.below.ReadStored(e, buf)
	}
	if e.Off < 0 || e.Off >= d.size {
		return none, fmt.Errorf("%s: extent at %d of a disk of %d bytes", Name, e.Off, d.size)
	}
	m, err := d.lookup(e.Off, d.size-e.Off)
	if err != nil {
		return none, err
	}
	if m.state != packed || m.n != e.Len || e.Off&(d.clusterSize-1) != 0 {
		return none, fmt.Errorf("%s: extent at %#x is not one whole compressed cluster", Name, e.Off)
	}
	stream, err := d.units.readStream(buf, m, e.Off)
	return diskimage.Stored{Stream: stream}, err
}
