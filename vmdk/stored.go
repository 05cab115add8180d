package vmdk

import (
	"fmt"

	"github.com/diskimage-go/diskimage"
)

// ReadStored returns the bare deflate stream of the grain e with its Adler-32
// behind it, as [diskimage.StoredReader] has it. It is exact where grains have
// markers, as all that products write have.
// Extents of the parent are its own to read; what a layer above it left of a
// grain is refused.
func (d *Disk) ReadStored(e diskimage.Extent, buf []byte) (diskimage.Stored, error) {
	none := diskimage.Stored{}
	if e.Depth > 0 {
		return d.parent.ReadStored(e, buf)
	}
	if e.Off < 0 || e.Off >= d.size {
		return none, fmt.Errorf("%s: extent at %d of a disk of %d bytes", Name, e.Off, d.size)
	}
	part := d.partAt(e.Off)
	s, ok := part.part.(*sparse)
	if !ok {
		return none, fmt.Errorf("%s: extent at %#x is not compressed", Name, e.Off)
	}
	in := e.Off - part.start
	m, err := s.locate(in, s.size()-in)
	if err != nil {
		return none, part.blame(err)
	}
	if m.state != packed || m.n != e.Len || in&(s.grain-1) != 0 {
		return none, fmt.Errorf("%s: extent at %#x is not one whole compressed grain", Name, e.Off)
	}
	stream, err := s.units.readStream(&buf, in, m)
	return diskimage.Stored{Stream: stream, Exact: s.h.markers(), Adler32: true}, part.blame(err)
}
