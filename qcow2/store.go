package qcow2

import (
	"context"
	"fmt"

	"github.com/diskimage-go/diskimage"
)

// A segment is bytes for one place in the image.
type segment struct {
	host int64
	data []byte
}

const (
	stagingBytes = 256 << 10
	directBytes  = 32 << 10 // less is gathered first: copying costs less than a call
)

// write adds to what the plan's Store writes. What was given before and left
// as padding is written as zeros, where it does not read so by itself.
func (w *Writer) write(p *writePlan, host int64, data []byte) {
	if gap := host - w.given; gap > 0 && !w.zeroFilled {
		p.writes = append(p.writes, segment{w.given, w.zeros[:gap]})
	}
	w.given = host + int64(len(data))
	if n := len(p.writes); n > 0 {
		if last := &p.writes[n-1]; last.host+int64(len(last.data)) == host && follows(last.data, data) {
			last.data = last.data[:len(last.data)+len(data)]
			return
		}
	}
	p.writes = append(p.writes, segment{host, data})
}

// Store writes the batch. It is safe for concurrent use on different batches.
func (w *Writer) Store(ctx context.Context, b *diskimage.Batch) error {
	p, err := w.plan(b, planPlaced)
	if err != nil {
		return err
	}
	if err := w.store(ctx, p); err != nil {
		return w.fail(err)
	}
	w.buffers.put(p.tables...)
	w.stored.Add(1)
	p.step = planEmpty
	return nil
}

// store writes the plan's segments, ascending, in few calls: small ones that
// follow each other are gathered.
func (w *Writer) store(ctx context.Context, p *writePlan) error {
	start := int64(0) // host offset of what is gathered
	gathered := p.staging[:0]
	flush := func() error {
		if len(gathered) == 0 {
			return nil
		}
		err := w.writeAt(ctx, gathered, start)
		gathered = gathered[:0]
		return err
	}
	for _, s := range p.writes {
		direct := len(s.data) >= directBytes
		if direct || start+int64(len(gathered)) != s.host || len(gathered)+len(s.data) > stagingBytes {
			if err := flush(); err != nil {
				return err
			}
		}
		if direct {
			if err := w.writeAt(ctx, s.data, s.host); err != nil {
				return err
			}
			continue
		}
		if len(gathered) == 0 {
			start = s.host
		}
		gathered = append(gathered, s.data...)
	}
	err := flush()
	p.staging = gathered
	return err
}

// writeAt writes one piece of the image.
func (w *Writer) writeAt(ctx context.Context, data []byte, host int64) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	n, err := w.out.WriteAt(data, host)
	if err == nil && n != len(data) {
		err = fmt.Errorf("%d bytes written", n)
	}
	if err != nil {
		return fmt.Errorf(Name+": writing %d bytes at %#x: %w", len(data), host, err)
	}
	return nil
}
