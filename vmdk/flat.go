package vmdk

import (
	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/internal/holes"
)

// A flat is a plain extent: FLAT or VMFS. Holes of its file read as zeros, and
// are told as zeros and not as absent: nothing below them shows.
type flat struct {
	partFile
	off, length int64
	holes       *holes.Map
}

// newFlat opens a plain extent of length bytes at off in its file.
func newFlat(f partFile, off, length int64) (*flat, error) {
	if have := f.src.Size(); off > have || length > have-off {
		return nil, fail(diskimage.ErrTruncated, have, "data", "the file ends here, and should hold %d bytes at %#x", length, off)
	}
	return &flat{partFile: f, off: off, length: length, holes: holes.Of(Name, f.src)}, nil
}

func (s *flat) size() int64 { return s.length }

func (s *flat) locate(off, limit int64) (mapping, error) {
	m := mapping{state: plain, n: limit, host: s.off + off}
	end, hole, err := s.holes.Run(m.host, m.host+limit)
	if err != nil {
		return m, err
	}
	m.n = end - m.host
	if hole {
		m.state = zeros
	}
	return m, nil
}

func (s *flat) read(p []byte, _ int64, m mapping) error { return readFull(s.src, p, m.host, "data") }

func (s *flat) checkMap() error { return nil }

// A blank is an extent of zeros, which no file holds.
type blank struct{ length int64 }

func (z blank) size() int64 { return z.length }

func (z blank) locate(_, limit int64) (mapping, error) {
	return mapping{state: zeros, n: limit, host: -1}, nil
}

func (z blank) read([]byte, int64, mapping) error { return nil }

func (z blank) checkMap() error { return nil }

// A withheld is an extent that is not to be read, or could not be opened: all
// of it is data that cannot be had, and why.
type withheld struct {
	length int64
	why    error
}

func (w withheld) size() int64 { return w.length }

func (w withheld) locate(_, limit int64) (mapping, error) { return mapping{n: limit, host: -1}, w.why }

func (w withheld) read([]byte, int64, mapping) error { return w.why }

func (w withheld) checkMap() error { return w.why }
