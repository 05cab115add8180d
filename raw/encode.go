package raw

import (
	"fmt"
	"math"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/internal/imagefile"
	"github.com/diskimage-go/diskimage/internal/zero"
)

// A plan is what Encode leaves of a batch for Place, and Place for Store.
type plan struct {
	pieces []piece
	writes imagefile.Writes // the pieces, and unless the image is sparse zeros before and behind them
}

// A piece is a run of guest bytes that have to be in the image.
type piece struct {
	off  int64
	data []byte
}

func (p piece) end() int64 { return p.off + int64(len(p.data)) }

func planOf(b *diskimage.Batch) (*plan, error) {
	p, ok := b.Plan.(*plan)
	if !ok {
		return nil, fmt.Errorf("raw: the batch at %d is another writer's", b.Off)
	}
	return p, nil
}

// add appends a piece, to the one before it if it follows in the disk and in
// memory, as what was read to its place in a batch's buffer does.
func (p *plan) add(off int64, data []byte) {
	if n := len(p.pieces); n > 0 {
		if last := &p.pieces[n-1]; last.end() == off && imagefile.Follows(last.data, data) {
			last.data = last.data[:len(last.data)+len(data)]
			return
		}
	}
	p.pieces = append(p.pieces, piece{off, data})
}

// Encode finds what is to be written of the batch: its plain data, without the
// whole units that are zeros if those are left out. Blocks in any other
// encoding are refused. The last block may end at the disk's end, or be filled
// up to a unit.
func (w *Writer) Encode(b *diskimage.Batch) error {
	p, err := planOf(b)
	if err != nil {
		return err
	}
	p.pieces = p.pieces[:0]
	if b.Off < 0 || b.Len < 0 || b.Len > diskimage.BatchSize || b.Off > math.MaxInt64-diskimage.BatchSize {
		return fmt.Errorf("raw: the batch at %d is %d bytes long", b.Off, b.Len)
	}
	size := w.size.Load()
	at := b.Off
	for i := range b.Blocks {
		blk := &b.Blocks[i]
		if blk.Off < at || blk.Off%Unit != 0 || blk.Len <= 0 || blk.Len > b.Off+diskimage.BatchSize-blk.Off {
			return fmt.Errorf("raw: the block at %d of %d bytes is not in its place in the batch at %d", blk.Off, blk.Len, b.Off)
		}
		at = blk.Off + blk.Len
		if size >= 0 && at > size && at-size >= Unit {
			return fmt.Errorf("raw: the block at %d of %d bytes lies beyond the disk of %d", blk.Off, blk.Len, size)
		}
		if blk.Kind != diskimage.Data {
			continue // what is not written, or written as zeros, is zeros
		}
		if blk.Enc != diskimage.Plain {
			return &diskimage.Error{Kind: diskimage.ErrUnsupported, Format: Name, Off: -1,
				Msg: fmt.Sprintf("a raw image takes no %s data (guest offset %d)", blk.Enc, blk.Off)}
		}
		if int64(len(blk.Data)) != blk.Len {
			return fmt.Errorf("raw: the block at %d of %d bytes comes with %d", blk.Off, blk.Len, len(blk.Data))
		}
		data := blk.Data
		if size >= 0 && at > size {
			inside := max(size-blk.Off, 0)
			if !zero.Is(data[inside:]) {
				return fmt.Errorf("raw: data beyond the disk's end at %d", size)
			}
			data = data[:inside]
		}
		w.split(p, blk.Off, data)
	}
	if size < 0 {
		trim(p)
	}
	return nil
}

// split adds data's pieces.
func (w *Writer) split(p *plan, off int64, data []byte) {
	for len(data) > 0 {
		n, isZero := len(data), false
		if w.sparse {
			n, isZero = zero.Run(data, Unit)
		}
		if !isZero {
			p.add(off, data[:n])
		}
		off, data = off+int64(n), data[n:]
	}
}

// trim cuts zeros off the last piece, less than a unit of them. While the
// disk's size is not known they may be what filled its last unit up, and an
// output that cannot be truncated must not get them. If they are the disk's
// own they are part of the gap that follows.
func trim(p *plan) {
	if len(p.pieces) == 0 {
		return
	}
	last := &p.pieces[len(p.pieces)-1]
	n := len(last.data)
	for least := n - Unit + 1; n > 0 && n > least && last.data[n-1] == 0; {
		n--
	}
	last.data = last.data[:n]
	if n == 0 {
		p.pieces = p.pieces[:len(p.pieces)-1]
	}
}
