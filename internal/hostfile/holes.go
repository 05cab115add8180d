package hostfile

import (
	"errors"
	"fmt"
	"io/fs"
)

// NextRange returns the end of the run of data, or of the hole, that off lies
// in, as diskimage.HoleMapper says. Where the file system does not tell holes
// the whole file is data.
//
// Seeking needs no lock though it moves the file's one offset: each call's
// result comes from its own arguments, and nobody reads at that offset.
func (h *File) NextRange(off int64) (end int64, hole bool, err error) {
	if off < 0 || off >= h.size {
		return 0, false, &fs.PathError{Op: "seek", Path: h.name, Err: fmt.Errorf("offset %d is outside the file of %d bytes", off, h.size)}
	}
	if !tellsHoles || h.noHoles.Load() {
		return h.size, false, nil
	}
	data, err := h.f.Seek(off, seekData)
	switch {
	case errors.Is(err, errNoMore):
		// No data from here on: a hole to the end, unless the end has moved.
		if now, err := h.f.Stat(); err != nil {
			return 0, false, err
		} else if now.Size() < h.size {
			return 0, false, h.shrank(now.Size())
		}
		return h.size, true, nil
	case noSeekHole(err):
		h.noHoles.Store(true)
		return h.size, false, nil
	case err != nil:
		return 0, false, err
	case data > off:
		return min(data, h.size), true, nil
	}
	end, err = h.f.Seek(off, seekHole)
	switch {
	case errors.Is(err, errNoMore): // cut off between the two calls
		return 0, false, h.shrank(off)
	case err != nil:
		return 0, false, err
	case end <= off: // punched between the two calls: what is read is right, data or not
		return min(off+1, h.size), false, nil
	}
	return min(end, h.size), false, nil
}
