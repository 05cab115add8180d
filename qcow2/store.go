package qcow2

import (
	"context"

	"github.com/diskimage-go/diskimage"
)

// write adds to what the plan's Store writes. What was given before and left
// as padding is written as zeros, where it does not read so by itself.
func (w *Writer) write(p *writePlan, host int64, data []byte) {
	if gap := host - w.given; gap > 0 && !w.file.ZeroFilled() {
		p.writes.Add(&w.file, w.given, w.zeros[:gap])
	}
	w.given = host + int64(len(data))
	p.writes.Add(&w.file, host, data)
}

// Store writes the batch. It is safe for concurrent use on different batches.
func (w *Writer) Store(ctx context.Context, b *diskimage.Batch) error {
	p, err := w.plan(b, planPlaced)
	if err != nil {
		return err
	}
	if err := p.writes.Store(ctx); err != nil {
		return w.fail(err)
	}
	w.buffers.Put(p.tables...)
	w.stored.Add(1)
	p.step = planEmpty
	return nil
}
