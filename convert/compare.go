package convert

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"runtime"
	"sync"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/internal/zero"
)

// CompareOptions say what counts as a difference. The zero value compares what
// a guest reads.
type CompareOptions struct {
	// Strict demands equal sizes, and that the same ranges are data, zeros and
	// holes, compressed or not. Default: what a guest reads.
	Strict bool

	// Workers is how many goroutines read and compare. Default: one for each
	// core.
	Workers int

	// Progress is told how far on the disks the comparison is; calls do not
	// overlap. Default: nobody is told.
	Progress func(off, size int64)
}

// A Comparison is what [Compare] found. Offsets are of the guest's, in bytes.
type Comparison struct {
	Identical       bool  // nothing of what follows is a difference, of sizes only if Strict
	SizesDiffer     bool  // beyond the end of the shorter disk the other was compared with zeros, unless Strict
	FirstDifference int64 // the first byte that differs, or -1
	StatusDiffers   int64 // Strict: where the first range starts that is stored otherwise, or -1
}

// A CompareError is a failure to read one of two disks.
type CompareError struct {
	Second bool  // which disk
	Map    bool  // its extents could not be told; else its bytes could not be read
	Off    int64 // guest offset
	Err    error
}

// Error names the disk and the place.
func (e *CompareError) Error() string {
	which, what := "first", "read"
	if e.Second {
		which = "second"
	}
	if e.Map {
		what = "tell what is stored"
	}
	return fmt.Sprintf("%s disk: %s at guest offset %#x: %v", which, what, e.Off, e.Err)
}

// Unwrap returns the cause.
func (e *CompareError) Unwrap() error { return e.Err }

// Compare compares two disks as "qemu-img compare" does: disks of different
// sizes are identical if what the longer has more is zeros. Ranges that are
// zeros on both are not read, and memory does not grow with the disks.
//
// The result does not depend on the number of workers: what comes first on the
// disk is what is found. A range that cannot be read is an error, a
// *[CompareError], unless a difference lies before it.
func Compare(ctx context.Context, a, b diskimage.VirtualDisk, o CompareOptions) (*Comparison, error) {
	if o.Workers < 0 {
		return nil, fmt.Errorf("option Workers: %d is negative", o.Workers)
	}
	if o.Workers == 0 {
		o.Workers = runtime.GOMAXPROCS(0)
	}
	result := &Comparison{SizesDiffer: a.Size() != b.Size(), FirstDifference: -1, StatusDiffers: -1}
	if o.Strict && result.SizesDiffer {
		return result, nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	c := &comparer{ctx: ctx, o: o, total: max(a.Size(), b.Size())}
	for i, d := range []diskimage.VirtualDisk{a, b} {
		c.sides[i] = side{d: d, ahead: mapReader{disk: d, wanted: func(diskimage.Extent) bool { return true }}}
	}
	var workers sync.WaitGroup
	for range o.Workers {
		workers.Go(c.work)
	}
	workers.Wait()

	if c.found == nil {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		result.Identical = true
		return result, nil
	}
	switch {
	case c.found.err != nil:
		return nil, c.found.err
	case c.found.status:
		result.StatusDiffers = c.found.off
	default:
		result.FirstDifference = c.found.off
	}
	return result, nil
}

// compareBlock is how much of each disk is read at once.
const compareBlock = 1 << 20

// A comparer walks the extents of two disks side by side and hands out what
// must be read, in ascending order. Whatever ends the comparison is an event,
// and the one with the lowest offset counts: when the workers are done, all
// that lies before it has been compared.
type comparer struct {
	ctx context.Context
	o   CompareOptions

	mu    sync.Mutex
	sides [2]side
	off   int64 // up to here the work has been handed out
	total int64
	found *event
}

// A side is one disk, with the extent that the walk is in.
type side struct {
	d     diskimage.VirtualDisk
	e     diskimage.Extent
	ahead mapReader
}

type event struct {
	off    int64
	status bool  // the ranges that start at off are stored differently
	err    error // a *CompareError; the bytes at off could not be had
}

// A span of guest bytes to be compared: of a side that is zeros there nothing
// is read.
type compareSpan struct {
	off, n int64
	zero   [2]bool
}

// work compares spans until there are none left, or one differs.
func (c *comparer) work() {
	var bufs [2][]byte
	for {
		s, ok := c.next()
		if !ok {
			return
		}
		if e := c.compare(s, &bufs); e != nil {
			c.mu.Lock()
			c.report(*e)
			c.mu.Unlock()
		}
	}
}

// report keeps the event if it comes first on the disk.
func (c *comparer) report(e event) {
	if c.found == nil || e.off < c.found.off {
		c.found = &e
	}
}

// next returns the next span, or false at the end of the disks, at the first
// event, and when the context is done.
func (c *comparer) next() (compareSpan, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var s compareSpan
	for c.found == nil && c.off < c.total && s.n < compareBlock {
		if c.ctx.Err() != nil {
			return s, false
		}
		n, zero, e := c.look()
		if e != nil {
			c.report(*e)
			break
		}
		switch {
		case s.n > 0 && zero != s.zero: // another kind of span: the next
			return s, true
		case !zero[0] || !zero[1]:
			n = min(n, compareBlock-s.n)
			if s.n == 0 {
				s.off, s.zero = c.off, zero
			}
			s.n += n
		}
		c.off += n
		if c.o.Progress != nil {
			c.o.Progress(c.off, c.total)
		}
	}
	return s, s.n > 0
}

// look returns for how many bytes from c.off on the extents of both disks are
// the same, and on which disk they are zeros.
func (c *comparer) look() (n int64, zero [2]bool, e *event) {
	n = c.total - c.off
	for i := range c.sides {
		s := &c.sides[i]
		if err := s.at(c.off); err != nil {
			return 0, zero, &event{off: c.off, err: &CompareError{Second: i == 1, Map: true, Off: c.off, Err: err}}
		}
		zero[i] = s.e.IsZero()
		n = min(n, s.e.End()-c.off)
	}
	x, y := c.sides[0].e, c.sides[1].e
	if c.o.Strict && (x.Kind != y.Kind || (x.Stored == diskimage.Plain) != (y.Stored == diskimage.Plain)) {
		return 0, zero, &event{off: c.off, status: true}
	}
	return n, zero, nil
}

// at moves the side's extent to the one that holds off. Beyond the disk's end
// all is a hole.
func (s *side) at(off int64) error {
	if s.e.Len > 0 && off < s.e.End() {
		return nil
	}
	if off >= s.d.Size() {
		s.e = diskimage.Extent{Off: off, Len: 1<<63 - 1 - off, Kind: diskimage.Hole, Host: -1}
		return nil
	}
	e, err := s.ahead.next(off)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	s.e = e
	return err
}

// compare reads a span and returns where it differs, or what cannot be read.
// Of an unreadable range the event is where it starts.
func (c *comparer) compare(s compareSpan, bufs *[2][]byte) *event {
	for i := range c.sides {
		if s.zero[i] {
			continue
		}
		if bufs[i] == nil {
			bufs[i] = make([]byte, compareBlock)
		}
		if n, err := c.sides[i].d.ReadAt(bufs[i][:s.n], s.off); int64(n) < s.n {
			if err == nil || err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return &event{off: s.off, err: &CompareError{Second: i == 1, Off: s.off, Err: err}}
		}
	}
	x, y := bufs[0], bufs[1]
	switch {
	case s.zero[0]:
		return differsFromZero(y[:s.n], s.off)
	case s.zero[1]:
		return differsFromZero(x[:s.n], s.off)
	case bytes.Equal(x[:s.n], y[:s.n]):
		return nil
	}
	i := 0
	for x[i] == y[i] {
		i++
	}
	return &event{off: s.off + int64(i)}
}

func differsFromZero(p []byte, off int64) *event {
	if zero.Is(p) {
		return nil
	}
	i := 0
	for p[i] == 0 {
		i++
	}
	return &event{off: off + int64(i)}
}
