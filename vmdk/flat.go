package vmdk

import (
	"fmt"
	"sync/atomic"

	"github.com/diskimage-go/diskimage"
)

// A flat is a plain extent: FLAT or VMFS. Holes of its file read as zeros, and
// are told as zeros and not as absent: nothing below them shows.
type flat struct {
	partFile
	off, length int64
	holes       diskimage.HoleMapper // nil if the file does not tell
	last        atomic.Pointer[span] // what it told last
}

// A span is a range of a file that is all data or all hole.
type span struct {
	off, end int64
	hole     bool
}

// newFlat opens a plain extent of length bytes at off in its file.
func newFlat(f partFile, off, length int64) (*flat, error) {
	if have := f.src.Size(); off > have || length > have-off {
		return nil, fail(diskimage.ErrTruncated, have, "data", "the file ends here, and should hold %d bytes at %#x", length, off)
	}
	s := &flat{partFile: f, off: off, length: length}
	s.holes, _ = f.src.(diskimage.HoleMapper)
	return s, nil
}

func (s *flat) size() int64 { return s.length }

func (s *flat) locate(off, limit int64) (mapping, error) {
	m := mapping{state: plain, n: limit, host: s.off + off}
	at, err := s.spanAt(m.host)
	if err != nil {
		return m, err
	}
	m.n = min(limit, at.end-m.host)
	if at.hole {
		m.state = zeros
	}
	return m, nil
}

// spanAt returns the span of the file that host lies in. The last one is kept:
// a walk in small steps asks the file system once for each.
func (s *flat) spanAt(host int64) (span, error) {
	if s.holes == nil {
		return span{host, s.off + s.length, false}, nil
	}
	if at := s.last.Load(); at != nil && at.off <= host && host < at.end {
		return *at, nil
	}
	end, hole, err := s.holes.NextRange(host)
	if err != nil {
		return span{}, fmt.Errorf("%s: map of holes: %w", Name, err)
	}
	if end <= host {
		return span{}, fail(diskimage.ErrCorrupt, host, "map of holes", "the source says that the range here ends at %d", end)
	}
	at := &span{host, end, hole}
	s.last.Store(at)
	return *at, nil
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
