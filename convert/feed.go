package convert

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/internal/codec"
)

// sectorSlack is what the sectors around a compressed unit add to it.
const sectorSlack = 1024

// A job is one batch on its way through the pipeline.
type job struct {
	*diskimage.Batch
	seq     int                // its place in the order
	extents []diskimage.Extent // what the plan found in its range
	data    int64              // guest bytes of data in it, for the progress
	sums    []byte             // its blocks' hashes, if they are asked for
}

// A worker is what one goroutine keeps from batch to batch.
type worker struct {
	dec   *codec.Decoder
	spans []span
}

func newWorker() *worker { return &worker{dec: codec.NewDecoder()} }

// A feed gives batches. plan is called by one goroutine at a time and claims
// the next range that holds something, with a Reset batch; it reports false at
// the end. fill may be called concurrently and appends the blocks.
type feed interface {
	plan(j *job) (bool, error)
	fill(ctx context.Context, j *job, w *worker) error
}

// A diskFeed plans over a disk's map.
type diskFeed struct {
	disk  diskimage.VirtualDisk
	size  int64
	unit  int64 // of the writer
	mover *mover
	o     *Options
	whole bool // fill Buf's gaps with zeros: a digest or a verification wants to see all of it

	ahead  mapReader
	off    int64 // plan's cursor
	held   diskimage.Extent
	counts struct{ data, zeros, holes int64 } // plan's
	lost   *losses
}

// newDiskFeed returns s, ready to plan.
func newDiskFeed(s diskFeed) *diskFeed {
	f := &s
	f.ahead = mapReader{disk: s.disk, wanted: f.wanted}
	return f
}

// next returns the extent at the cursor, cut to [off, end).
func (s *diskFeed) next(end int64) (diskimage.Extent, error) {
	if s.held.Len == 0 || s.held.End() <= s.off {
		e, err := s.ahead.next(s.off)
		if err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return e, err
		}
		if s.o.OnlyTop && e.Kind == diskimage.Hole && e.Depth <= 1 {
			// No layer below was asked: these are the disk's own zeros, and
			// the target's backing image would show through.
			e.Kind, e.Depth = diskimage.Zero, 0
		}
		s.held = e
	}
	return s.held.Clip(s.off, end-s.off), nil
}

// wanted reports whether an extent's bytes must reach the writer.
func (s *diskFeed) wanted(e diskimage.Extent) bool {
	switch {
	case s.o.AllocateZeros:
		return true
	case s.o.OnlyTop:
		return e.Depth == 0 && e.Kind != diskimage.Hole
	}
	return e.Kind == diskimage.Data
}

func (s *diskFeed) count(e diskimage.Extent) {
	switch e.Kind {
	case diskimage.Data:
		s.counts.data += e.Len
	case diskimage.Zero:
		s.counts.zeros += e.Len
	default:
		s.counts.holes += e.Len
	}
}

func (s *diskFeed) plan(j *job) (bool, error) {
	j.extents, j.data = j.extents[:0], 0
	for s.off < s.size { // to the first extent that is wanted
		e, err := s.next(s.size)
		if err != nil {
			return false, err
		}
		if s.wanted(e) {
			break
		}
		s.count(e)
		s.off = e.End()
	}
	if s.off >= s.size {
		return false, nil
	}
	start := s.off &^ (diskimage.BatchSize - 1)
	end := min(start+diskimage.BatchSize, s.size)
	j.Reset(start, end-start)
	for s.off < end {
		e, err := s.next(end)
		if err != nil {
			return false, err
		}
		s.count(e)
		if e.Kind == diskimage.Data {
			j.data += e.Len
		}
		if s.wanted(e) {
			j.extents = append(j.extents, e)
		}
		s.off = e.End()
	}
	return true, nil
}

// A span is a run of whole units of a batch: data in its place in Buf, an
// explicit zero, or one compressed unit.
type span struct {
	off, end int64
	kind     diskimage.Kind
	extent   diskimage.Extent // a compressed unit that may be moved, if its Len is not 0
	stored   diskimage.Block  // one that is moved, if its Len is not 0
}

func (s *span) single() bool { return s.extent.Len > 0 || s.stored.Len > 0 }

// addData adds the units that [off, end) touches, ascending, to the spans.
func (w *worker) addData(off, end, unit int64) {
	off, end = off&^(unit-1), roundUp(end, unit)
	if n := len(w.spans); n > 0 && w.spans[n-1].end >= off {
		last := &w.spans[n-1]
		if last.kind == diskimage.Data && !last.single() {
			last.end = max(last.end, end)
			return
		}
		off = last.end
	}
	if off < end {
		w.spans = append(w.spans, span{off: off, end: end, kind: diskimage.Data})
	}
}

// addZero adds an explicit zero: its whole units as such, parts of units as
// data.
func (w *worker) addZero(off, end, unit, size int64) {
	first, last := roundUp(off, unit), end&^(unit-1)
	if end == size {
		last = roundUp(end, unit)
	}
	if first >= last {
		w.addData(off, end, unit)
		return
	}
	if off < first {
		w.addData(off, first, unit)
	}
	w.spans = append(w.spans, span{off: first, end: last, kind: diskimage.Zero})
	if last < end {
		w.addData(last, end, unit)
	}
}

func (s *diskFeed) fill(ctx context.Context, j *job, w *worker) error {
	w.spans = w.spans[:0]
	for _, e := range j.extents {
		_, movable := s.mover.terms(e.Off, e.Len, e.Stored)
		switch {
		case movable && e.Kind == diskimage.Data:
			w.spans = append(w.spans, span{off: e.Off, end: e.End(), kind: diskimage.Data, extent: e})
		case e.Kind == diskimage.Zero && s.o.OnlyTop:
			w.addZero(e.Off, e.End(), s.unit, s.size)
		default:
			w.addData(e.Off, e.End(), s.unit)
		}
	}
	for _, sp := range w.spans {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := s.fillSpan(j, w, sp); err != nil {
			return err
		}
	}
	if s.whole {
		fillGaps(j.Batch)
	}
	return nil
}

func (s *diskFeed) fillSpan(j *job, w *worker, sp span) error {
	blk := diskimage.Block{Off: sp.off, Len: sp.end - sp.off, Kind: sp.kind}
	if sp.kind != diskimage.Data {
		j.Blocks = append(j.Blocks, blk)
		return nil
	}
	blk.Data = j.Buf[sp.off-j.Off : sp.end-j.Off]
	if sp.extent.Len > 0 {
		if moved, err := s.move(j, w, sp.extent, &blk); moved || err != nil {
			return err
		}
	} else if err := s.read(blk.Data, sp.off); err != nil {
		return err
	}
	j.Blocks = append(j.Blocks, blk)
	return nil
}

// read fills p with guest bytes from off on; what lies beyond the end is zeros.
func (s *diskFeed) read(p []byte, off int64) error {
	if in := s.size - off; in < int64(len(p)) {
		clear(p[in:])
		p = p[:in]
	}
	n, err := s.disk.ReadAt(p, off)
	if n == len(p) && (err == nil || err == io.EOF) {
		return nil
	}
	if err == nil || err == io.EOF {
		err = fmt.Errorf("convert: the source ends at %d, not at %d: %w", off+int64(n), s.size, io.ErrUnexpectedEOF)
	}
	if !s.o.Salvage {
		return err
	}
	return s.salvage(p, off)
}

// move reads a compressed unit as it is stored. It reports false when the unit
// must be encoded anew, with blk as plain data.
func (s *diskFeed) move(j *job, w *worker, e diskimage.Extent, blk *diskimage.Block) (bool, error) {
	sr := s.disk.(diskimage.StoredReader) // the mover has a taker only if it is one
	if cap(j.Stored) == 0 {               // what is kept of a stream is shorter than its unit
		j.Stored = make([]byte, 0, diskimage.BatchSize+2*s.unit+2*sectorSlack)
	}
	have := len(j.Stored)
	arena := j.Stored[have:cap(j.Stored)]
	stored, err := sr.ReadStored(e, arena)
	if err != nil {
		return false, err
	}
	unit, place := *blk, blk.Data
	unit.Enc, unit.Data = e.Stored, nil
	switch verdict, err := s.mover.judge(w, place, &unit, stored); {
	case err != nil:
		// The reader says what is wrong with it, in its own words.
		if _, rerr := s.disk.ReadAt(place, e.Off); rerr != nil && !errors.Is(rerr, io.EOF) {
			return false, rerr
		}
		return false, err
	case verdict == asData:
		return false, nil
	case verdict == asIs:
		if len(unit.Data) <= len(arena) { // else it has its own memory
			j.Stored = append(j.Stored, unit.Data...) // to the arena's front
			unit.Data = j.Stored[have:]
		}
		j.Blocks = append(j.Blocks, unit)
	case s.o.OnlyTop:
		j.Blocks = append(j.Blocks, diskimage.Block{Off: blk.Off, Len: blk.Len, Kind: diskimage.Zero})
	}
	return true, nil
}
