package convert

import (
	"io"
	"slices"
	"sync"

	"github.com/diskimage-go/diskimage"
)

// salvageStep is the finest piece that salvaging gives up on.
const salvageStep = 4096

// losses collects what could not be read. Safe for concurrent use.
type losses struct {
	mu     sync.Mutex
	ranges []Range
	first  error
}

func (l *losses) add(off, n int64, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.first == nil {
		l.first = err
	}
	if k := len(l.ranges); k > 0 && l.ranges[k-1].Off+l.ranges[k-1].Len == off {
		l.ranges[k-1].Len += n
		return
	}
	l.ranges = append(l.ranges, Range{off, n})
}

// sorted returns the ranges, ascending, neighbours joined.
func (l *losses) sorted() []Range {
	slices.SortFunc(l.ranges, func(a, b Range) int { return int(min(max(a.Off-b.Off, -1), 1)) })
	var out []Range
	for _, r := range l.ranges {
		if k := len(out); k > 0 && out[k-1].Off+out[k-1].Len >= r.Off {
			out[k-1].Len = max(out[k-1].Len, r.Off+r.Len-out[k-1].Off)
			continue
		}
		out = append(out, r)
	}
	return out
}

// salvage reads p piece by piece, leaves zeros where that fails and keeps
// account of it.
func (s *diskFeed) salvage(p []byte, off int64) error {
	for len(p) > 0 {
		n := min(int64(len(p)), salvageStep-off%salvageStep)
		if m, err := s.disk.ReadAt(p[:n], off); int64(m) < n || err != nil && err != io.EOF {
			clear(p[:n])
			s.lost.add(off, n, err)
		}
		p, off = p[n:], off+n
	}
	return nil
}

// fillGaps makes Buf hold the whole range of the batch, in whole chunks, with
// zeros where there is no block.
func fillGaps(b *diskimage.Batch) {
	at := b.Off
	for _, blk := range b.Blocks {
		if blk.Kind == diskimage.Data {
			clear(b.Buf[at-b.Off : blk.Off-b.Off])
			at = blk.Off + blk.Len
		}
	}
	if end := b.Off + roundUp(b.Len, chunkSize); at < end {
		clear(b.Buf[at-b.Off : end-b.Off])
	}
}

// roundUp rounds n up to a multiple of unit, a power of two.
func roundUp(n, unit int64) int64 { return (n + unit - 1) &^ (unit - 1) }
