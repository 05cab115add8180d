package convert

import (
	"context"
	"fmt"
	"io"

	"github.com/diskimage-go/diskimage"
)

// A streamFeed plans over a disk that comes front to back: reading is part
// of the plan, decoding is left to fill.
type streamFeed struct {
	stream    diskimage.Stream
	unit      int64 // of the writer
	mover     *mover
	o         *Options
	scattered bool // blocks may come in any order

	next  int64           // where the next batch starts
	off   int64           // where the next block may start
	held  diskimage.Block // read, but of a later batch; its Data is its own
	ended bool
	data  int64  // guest bytes in blocks
	buf   []byte // for blocks whose place is not known before they are read
}

// scatter makes the stream give its blocks in the order in which they lie in
// it, if both it and the writer can do with that.
func (s *streamFeed) scatter(w diskimage.Writer) {
	u, unsorted := s.stream.(diskimage.Unsorted)
	sc, scatters := w.(diskimage.Scatterer)
	if unsorted && scatters && sc.Scatters() && s.stream.Size() >= 0 {
		u.AnyOrder()
		s.scattered, s.buf = true, make([]byte, diskimage.BatchSize)
	}
}

func (s *streamFeed) plan(j *job) (bool, error) {
	j.extents, j.data = j.extents[:0], 0
	if s.scattered {
		return s.gather(j)
	}
	for !s.ended || s.held.Len > 0 || s.dense() && s.next < s.stream.Size() {
		if err := s.collect(j); err != nil {
			return false, err
		}
		if len(j.Blocks) > 0 || s.dense() && j.Len > 0 {
			return true, nil
		}
	}
	return false, nil
}

// dense reports whether what the stream says nothing of matters too: it is
// written as zeros, or covers what the target's backing image has there.
func (s *streamFeed) dense() bool { return s.o.AllocateZeros || s.o.OnlyTop }

// collect reads what the stream has for the next batch's range.
func (s *streamFeed) collect(j *job) error {
	j.Reset(s.next&^(diskimage.BatchSize-1), diskimage.BatchSize)
	end := j.Off + j.Len
	if s.held.Len > 0 && s.held.Off < end {
		s.take(j, s.held)
		s.held = diskimage.Block{}
	}
	for s.held.Len == 0 && !s.ended && s.off < end {
		b, err := s.stream.NextBlock(j.Buf[s.off-j.Off:])
		if err == io.EOF {
			s.ended = true
			break
		}
		if err != nil {
			return err
		}
		if err := s.sane(b); err != nil {
			return err
		}
		s.off = b.Off + b.Len
		switch {
		case b.Kind != diskimage.Data:
		case b.Off < end:
			s.take(j, b)
		default:
			s.held = b
			s.held.Data = append([]byte(nil), b.Data...)
		}
	}
	s.next = end
	if s.held.Len > 0 && !s.dense() {
		s.next = s.held.Off
	} else if s.held.Len == 0 {
		s.next = max(s.off, end)
	}
	if size := s.stream.Size(); s.ended && s.held.Len == 0 && size < end {
		j.Len = max(size-j.Off, 0)
	}
	return nil
}

// gather makes a batch of the blocks that come next, as long as they ascend in
// one batch's range. The next batch may be of the same range.
func (s *streamFeed) gather(j *job) (bool, error) {
	if err := s.hold(); err != nil || s.held.Len == 0 {
		return false, err
	}
	j.Reset(s.held.Off&^(diskimage.BatchSize-1), diskimage.BatchSize)
	at, end := j.Off, j.Off+j.Len
	for s.held.Len > 0 && s.held.Off >= at && s.held.Off < end {
		s.take(j, s.held)
		at = s.held.Off + s.held.Len
		s.held = diskimage.Block{}
		if err := s.hold(); err != nil {
			return false, err
		}
	}
	j.Len = min(j.Len, s.stream.Size()-j.Off)
	return true, nil
}

// hold reads the next block of data unless one is held. That is none at the
// end.
func (s *streamFeed) hold() error {
	for s.held.Len == 0 && !s.ended {
		b, err := s.stream.NextBlock(s.buf)
		if err == io.EOF {
			s.ended = true
			break
		}
		if err == nil {
			err = s.sane(b)
		}
		if err != nil {
			return err
		}
		if b.Kind == diskimage.Data {
			s.held = b
		}
	}
	return nil
}

// sane holds a block against what Stream promises.
func (s *streamFeed) sane(b diskimage.Block) error {
	last := b.Off + b.Len - 1
	if most := s.o.MaxVirtualSize; most > 0 && last >= most && s.stream.Size() < 0 {
		return tooLong(most)
	}
	if s.scattered && (b.Off%s.unit != 0 || b.Len%s.unit != 0 && last+1 != s.stream.Size()) {
		return fmt.Errorf("convert: the stream's block of %d bytes at %d is no whole unit", b.Len, b.Off)
	}
	if b.Off < s.off || b.Len <= 0 || b.Kind == diskimage.Data &&
		(b.Enc == diskimage.Plain && int64(len(b.Data)) != b.Len || b.Off/diskimage.BatchSize != last/diskimage.BatchSize) {
		return fmt.Errorf("convert: the stream's block of %d bytes at %d is out of order or has no place", b.Len, b.Off)
	}
	return nil
}

// take keeps a block in the batch's own memory, plain data in its place.
func (s *streamFeed) take(j *job, b diskimage.Block) {
	j.data += b.Len
	s.data += b.Len
	if b.Enc == diskimage.Plain {
		place := j.Buf[b.Off-j.Off:][:b.Len]
		if &place[0] != &b.Data[0] {
			copy(place, b.Data)
		}
		b.Data = place
	} else {
		have := len(j.Stored)
		j.Stored = append(j.Stored, b.Data...)
		b.Data = j.Stored[have:len(j.Stored):len(j.Stored)]
	}
	j.Blocks = append(j.Blocks, b)
}

// fill decodes what is compressed, and turns the stream's blocks into whole
// units with zeros where it says nothing.
func (s *streamFeed) fill(_ context.Context, j *job, w *worker) error {
	w.spans = w.spans[:0]
	at := j.Off
	zeros := func(end int64) { // from at on
		clear(j.Buf[at-j.Off : end-j.Off])
		if s.o.OnlyTop && at < end {
			w.addZero(at, end, s.unit, j.Off+j.Len)
		}
		at = end
	}
	for _, b := range j.Blocks {
		place := j.Buf[b.Off-j.Off:][:b.Len]
		zeros(b.Off)
		end := b.Off + b.Len
		if b.Enc != diskimage.Plain {
			switch verdict, err := s.mover.judge(w, place, &b, diskimage.Stored{Stream: b.Data, Exact: b.Checked, Adler32: b.Checked}); {
			case err != nil:
				return err
			case verdict == asZeros:
				zeros(end)
				continue
			case verdict == asIs:
				w.spans = append(w.spans, span{off: b.Off, end: end, stored: b})
				at = end
				continue
			}
		}
		w.addData(b.Off, end, s.unit)
		at = end
	}
	zeros(max(at, j.Off+j.Len))
	clear(j.Buf[at-j.Off:])
	if s.o.AllocateZeros {
		w.spans = append(w.spans[:0], span{off: j.Off, end: j.Off + roundUp(j.Len, s.unit)})
	}
	j.Blocks = j.Blocks[:0]
	for _, sp := range w.spans {
		b := sp.stored
		switch {
		case sp.kind != diskimage.Data:
			b = diskimage.Block{Off: sp.off, Len: sp.end - sp.off, Kind: sp.kind}
		case b.Len == 0:
			b = diskimage.Block{Off: sp.off, Len: sp.end - sp.off, Data: j.Buf[sp.off-j.Off : sp.end-j.Off]}
		}
		j.Blocks = append(j.Blocks, b)
	}
	return nil
}
