package raw

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/internal/imagefile"
)

// Unit is the grain of the writer: runs of zeros are left out in whole units,
// aligned in the disk. It is a page, and the block of most file systems.
const Unit = 4096

// WriterOptions say what a Writer makes.
type WriterOptions struct {
	Size          int64 // the disk's length in bytes, exact; -1: told by SetSize before Finish; 0
	AllocateZeros bool  // write zeros too, so that the image has no holes; false
}

// A Writer writes a raw image, as diskimage.Writer says.
//
// Where unwritten bytes of the output read as zeros (diskimage.ZeroFiller),
// zeros are not written, in whole units of [Unit], unless AllocateZeros asks
// for them. Everywhere else each byte of the image is written exactly once,
// gaps between batches too: a gap by the batch that follows it, or by Finish.
// Batches that are stored in order are written in ascending order, so that an
// output for a pipe needs no more than one buffer.
//
// A Writer that leaves zeros out has nothing to write between batches, and so
// takes them in any order (diskimage.Scatterer).
type Writer struct {
	file   imagefile.File
	sparse bool         // zeros are left out
	size   atomic.Int64 // -1: not known yet
	done   bool

	// Of Place, which is called one at a time.
	batches int64 // the end of the last batch that was placed
	given   int64 // if sparse: the end of the last piece; else all before it was given to a batch to write
}

var (
	_ diskimage.Writer     = (*Writer)(nil)
	_ diskimage.SizeSetter = (*Writer)(nil)
	_ diskimage.Scatterer  = (*Writer)(nil)
)

// NewWriter returns a Writer to out. Where the size is known and the output's
// length can be set (diskimage.Truncater) that is done at once: an output that
// is too small says so before anything is written.
func NewWriter(out diskimage.Output, o WriterOptions) (*Writer, error) {
	if o.Size < -1 {
		return nil, fmt.Errorf("raw: option Size: %d is negative", o.Size)
	}
	w := &Writer{file: imagefile.New(Name, out)}
	w.size.Store(o.Size)
	w.sparse = w.file.ZeroFilled() && !o.AllocateZeros
	if o.Size >= 0 {
		if err := w.file.Truncate(o.Size); err != nil {
			return nil, err
		}
	}
	return w, nil
}

// Unit returns [Unit].
func (w *Writer) Unit() int64 { return Unit }

// NewBatch returns an empty batch.
func (w *Writer) NewBatch() *diskimage.Batch {
	return &diskimage.Batch{Buf: make([]byte, diskimage.BatchSize), Plan: new(plan)}
}

// SetSize tells the disk's length to a Writer that was made without.
func (w *Writer) SetSize(size int64) error {
	if size < 0 {
		return fmt.Errorf("raw: size %d is negative", size)
	}
	if !w.size.CompareAndSwap(-1, size) && w.size.Load() != size {
		return fmt.Errorf("raw: size %d: it is %d already", size, w.size.Load())
	}
	return nil
}

// Scatters reports whether zeros are left out: then Place takes batches in any
// order, and several of one guest range as long as their blocks do not overlap,
// which is for the caller to see to.
func (w *Writer) Scatters() bool { return w.sparse }

// Place adds to the batch's pieces the zeros of the gap before it that are the
// batch's to write.
func (w *Writer) Place(b *diskimage.Batch) error {
	p, err := planOf(b)
	if err != nil {
		return err
	}
	if b.Off < w.batches && !w.sparse {
		return fmt.Errorf("raw: the batch at %d comes after one that ends at %d", b.Off, w.batches)
	}
	w.batches = b.Off + b.Len
	p.writes.Reset()
	for _, piece := range p.pieces {
		w.fill(p, piece.off)
		p.writes.Add(&w.file, piece.off, piece.data)
		w.given = max(w.given, piece.end())
	}
	w.fill(p, min(w.batches, w.size.Load())) // the size is -1 while it is not known
	return nil
}

// Store writes the batch.
func (w *Writer) Store(ctx context.Context, b *diskimage.Batch) error {
	p, err := planOf(b)
	if err != nil {
		return err
	}
	return p.writes.Store(ctx)
}

// fill adds zeros for what was left out before to, unless that reads as zeros
// without being written.
func (w *Writer) fill(p *plan, to int64) {
	if w.sparse || w.given >= to {
		return
	}
	p.writes.AddZeros(&w.file, w.given, to-w.given)
	w.given = to
}

// Finish writes the zeros that are left, sets the output's length and syncs
// it, where either can be done.
func (w *Writer) Finish(ctx context.Context) error {
	if w.done {
		return errors.New("raw: the image is finished or given up already")
	}
	w.done = true
	size := w.size.Load()
	if size < 0 {
		return errors.New("raw: the disk's size is not known: SetSize was not called")
	}
	if w.given > size {
		return fmt.Errorf("raw: data up to %d was written to a disk of %d bytes", w.given, size)
	}
	var last plan
	w.fill(&last, size)
	if w.given < size && !w.file.Truncates() { // the last byte makes the length
		last.writes.AddZeros(&w.file, size-1, 1)
	}
	if err := last.writes.Store(ctx); err != nil {
		return err
	}
	return w.file.Close(ctx, size)
}

// Abort gives up. After Finish it does nothing.
func (w *Writer) Abort() error {
	w.done = true
	return nil
}
