// Package holes tells what of a disk that lies plain in a file the file has
// not allocated.
package holes

import (
	"fmt"
	"sync/atomic"

	"github.com/diskimage-go/diskimage"
)

// A Map is a source's map of holes. It is safe for concurrent use.
type Map struct {
	format string                 // for errors
	holes  diskimage.HoleMapper   // nil if the source does not tell
	last   atomic.Pointer[single] // what it told last
}

// A single is a range of the file that is all data or all hole.
type single struct {
	off, end int64
	hole     bool
}

// Of returns the map of src's holes. format is what its errors are of.
func Of(format string, src diskimage.Source) *Map {
	m := &Map{format: format}
	m.holes, _ = src.(diskimage.HoleMapper)
	return m
}

// Run returns where the run of data, or of a hole, that the host offset off
// lies in ends, and which of the two it is; no run ends after end. A source
// that does not tell has data only.
//
// The last run is kept: a walk in small steps asks the file system once for
// each.
func (m *Map) Run(off, end int64) (runEnd int64, hole bool, err error) {
	if m.holes == nil {
		return end, false, nil
	}
	s := m.last.Load()
	if s == nil || off < s.off || s.end <= off {
		if s, err = m.ask(off); err != nil {
			return 0, false, err
		}
		m.last.Store(s)
	}
	return min(s.end, end), s.hole, nil
}

func (m *Map) ask(off int64) (*single, error) {
	end, hole, err := m.holes.NextRange(off)
	if err != nil {
		return nil, fmt.Errorf("%s: map of holes: %w", m.format, err)
	}
	if end <= off {
		return nil, &diskimage.Error{Kind: diskimage.ErrCorrupt, Format: m.format, Off: off, Field: "map of holes",
			Msg: fmt.Sprintf("the source says that the range here ends at %d", end)}
	}
	return &single{off, end, hole}, nil
}
