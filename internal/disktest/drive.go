package disktest

import (
	"context"
	"math/rand/v2"
	"sync"

	"github.com/diskimage-go/diskimage"
)

// Fill gives a batch its guest bytes, in blocks of 64 KiB or one unit.
func Fill(b *diskimage.Batch, guest []byte, unit int64) {
	end := min(b.Off+b.Len, int64(len(guest)))
	clear(b.Buf)
	copy(b.Buf, guest[b.Off:end])
	step := max(unit, 64<<10)
	for off := b.Off; off < end; off += step {
		n := (min(step, end-off) + unit - 1) &^ (unit - 1)
		b.Blocks = append(b.Blocks, diskimage.Block{Off: off, Len: n, Data: b.Buf[off-b.Off:][:n]})
	}
}

// Drive gives w a guest disk, with so many batches in flight, which are encoded
// at the same time and stored in an order drawn from a seed. To finish w is left
// to the caller.
func Drive(w diskimage.Writer, guest []byte, inFlight int, seed uint64) error {
	rnd := rand.New(rand.NewPCG(seed, 1))
	batches := make([]*diskimage.Batch, inFlight)
	for i := range batches {
		batches[i] = w.NewBatch()
	}
	size := int64(len(guest))
	for off := int64(0); off < size; {
		var group []*diskimage.Batch
		for _, b := range batches {
			if off < size {
				b.Reset(off, min(diskimage.BatchSize, size-off))
				Fill(b, guest, w.Unit())
				group = append(group, b)
				off += b.Len
			}
		}
		if err := each(group, w.Encode); err != nil {
			return err
		}
		for _, b := range group {
			if err := w.Place(b); err != nil {
				return err
			}
		}
		rnd.Shuffle(len(group), func(i, j int) { group[i], group[j] = group[j], group[i] })
		if err := each(group, func(b *diskimage.Batch) error { return w.Store(context.Background(), b) }); err != nil {
			return err
		}
	}
	return nil
}

// each calls f for all at the same time, or for one alone.
func each(group []*diskimage.Batch, f func(*diskimage.Batch) error) error {
	if len(group) == 1 {
		return f(group[0])
	}
	errs := make([]error, len(group))
	var wg sync.WaitGroup
	for i, b := range group {
		wg.Go(func() { errs[i] = f(b) })
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
