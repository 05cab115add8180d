package vmdk

import "github.com/diskimage-go/diskimage"

// Place gives the batch's pieces their places in the image.
func (w *Writer) Place(b *diskimage.Batch) error {
	p, err := w.plan(b, planEncoded)
	if err != nil {
		return err
	}
	if b.Off < w.next {
		return w.fail(misuse("the batch at %#x is placed after that at %#x", b.Off, w.next-diskimage.BatchSize))
	}
	p.writes.Reset()
	p.tables = p.tables[:0]
	w.next = b.Off + diskimage.BatchSize
	if end := p.dataEnd(w.unit()); end > 0 {
		if end > roundUp(w.size, w.unit()) {
			return w.fail(misuse("data at %#x, beyond the disk's end", end-w.unit()))
		}
		if err := w.place(p, b.Off); err != nil {
			return w.fail(err)
		}
	}
	w.placed++
	p.step = planPlaced
	return nil
}

// dataEnd returns the guest offset after the last piece, 0 if there is none.
func (p *writePlan) dataEnd(unit int64) int64 {
	if n := len(p.runs); n > 0 {
		return p.runs[n-1].off + p.runs[n-1].n
	}
	if n := len(p.pieces); n > 0 {
		return p.pieces[n-1].off + unit
	}
	return 0
}
