package raw

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"

	"github.com/diskimage-go/diskimage"
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
	out    diskimage.Output
	sparse bool         // zeros are left out
	size   atomic.Int64 // -1: not known yet
	done   bool

	// Of Place, which is called one at a time.
	batches int64 // the end of the last batch that was placed
	written int64 // if sparse: the end of the last piece; else all before it is written or about to be
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
	w := &Writer{out: out}
	w.size.Store(o.Size)
	z, ok := out.(diskimage.ZeroFiller)
	w.sparse = ok && z.ZeroFilled() && !o.AllocateZeros
	if t, ok := out.(diskimage.Truncater); ok && o.Size >= 0 {
		if err := t.Truncate(o.Size); err != nil {
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

// Place finds out which gap before the batch is the batch's to fill.
func (w *Writer) Place(b *diskimage.Batch) error {
	p, err := planOf(b)
	if err != nil {
		return err
	}
	if b.Off < w.batches && !w.sparse {
		return fmt.Errorf("raw: the batch at %d comes after one that ends at %d", b.Off, w.batches)
	}
	w.batches = b.Off + b.Len
	end := w.written
	if n := len(p.pieces); n > 0 {
		end = p.pieces[n-1].end()
	}
	p.from, p.to = end, end
	if !w.sparse {
		p.from = w.written
		if size := w.size.Load(); size >= 0 {
			end = max(end, min(w.batches, size))
		}
		p.to = end
	}
	w.written = max(w.written, end)
	return nil
}

// Store writes the batch.
func (w *Writer) Store(ctx context.Context, b *diskimage.Batch) error {
	p, err := planOf(b)
	if err != nil {
		return err
	}
	at := p.from
	for _, piece := range p.pieces {
		if err := w.writeZeros(ctx, at, piece.off); err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := w.write(piece.data, piece.off); err != nil {
			return err
		}
		at = max(at, piece.end())
	}
	return w.writeZeros(ctx, at, p.to)
}

func (w *Writer) write(p []byte, off int64) error {
	n, err := w.out.WriteAt(p, off)
	if err == nil && n < len(p) {
		err = io.ErrShortWrite
	}
	return err
}

// zeros is what is written for zeros. It is never written to.
var zeros [1 << 20]byte

// writeZeros writes zeros to [from, to), if there is such a range and zeros
// are to be written at all.
func (w *Writer) writeZeros(ctx context.Context, from, to int64) error {
	if w.sparse {
		return nil
	}
	for from < to {
		if err := ctx.Err(); err != nil {
			return err
		}
		n := min(to-from, int64(len(zeros)))
		if err := w.write(zeros[:n], from); err != nil {
			return err
		}
		from += n
	}
	return nil
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
	if w.written > size {
		return fmt.Errorf("raw: data up to %d was written to a disk of %d bytes", w.written, size)
	}
	if err := w.writeZeros(ctx, w.written, size); err != nil {
		return err
	}
	if t, ok := w.out.(diskimage.Truncater); ok {
		if err := t.Truncate(size); err != nil {
			return err
		}
	} else if w.sparse && w.written < size { // the last byte makes the length
		if err := w.write(zeros[:1], size-1); err != nil {
			return err
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if s, ok := w.out.(diskimage.Syncer); ok {
		return s.Sync()
	}
	return nil
}

// Abort gives up. After Finish it does nothing.
func (w *Writer) Abort() error {
	w.done = true
	return nil
}
