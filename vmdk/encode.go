package vmdk

import (
	"encoding/binary"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/internal/adler32"
	"github.com/diskimage-go/diskimage/internal/codec"
	"github.com/diskimage-go/diskimage/internal/imagefile"
	"github.com/diskimage-go/diskimage/internal/zero"
)

// A run is guest data in a row that is stored as it is, or is said to be zeros.
type run struct {
	off, n int64  // guest bytes
	data   []byte // nil: zeros that have to be said
}

// A piece is a compressed grain.
type piece struct {
	off        int64 // guest bytes
	start, end int   // where its whole sectors lie in the plan's arena
}

// A writePlan is what Encode leaves for Place, and Place for Store. It belongs
// to one batch.
type writePlan struct {
	w    *Writer
	step planStep

	// Of Encode, ascending.
	runs   []run
	pieces []piece
	arena  []byte // the pieces, one behind the other

	// Of Place.
	writes imagefile.Writes // ascending in each file
	tables []byte           // what they point to, besides the runs and the arena
}

type planStep uint8

const (
	planEmpty planStep = iota
	planEncoded
	planPlaced
)

const (
	deflateWindow = 32 << 10

	// A piece is a grain marker's first fields (the guest sector and the length
	// of what follows) and a zlib stream (RFC 1950): two bytes, the deflate
	// stream, the guest bytes' Adler-32.
	pieceHeader = 8 + 4
	zlibHeader  = 0x7801 // deflate, a window of 32 KiB, the fastest level: the second byte's other values say no more than how it was made
	pieceMost   = 1024   // what a piece may be longer than its grain, at most
)

// NewBatch returns an empty batch with its buffers.
func (w *Writer) NewBatch() *diskimage.Batch {
	p := &writePlan{w: w}
	if w.compress {
		p.arena = make([]byte, 0, diskimage.BatchSize+diskimage.BatchSize/w.unit()*pieceMost)
	}
	return &diskimage.Batch{Buf: make([]byte, diskimage.BatchSize), Plan: p}
}

// plan returns the batch's plan, which must have come as far as step.
func (w *Writer) plan(b *diskimage.Batch, step planStep) (*writePlan, error) {
	p, ok := b.Plan.(*writePlan)
	switch {
	case !ok || p.w != w:
		return nil, misuse("the batch is not of this writer")
	case w.state != writerOpen:
		return nil, misuse("a batch after the end")
	case p.step != step:
		return nil, misuse("the batch at %#x is not encoded, placed and stored in this order, once", b.Off)
	}
	return p, w.afterFailure()
}

// Encode finds what is to be stored of the batch, and compresses it if the
// kind of image is a compressed one. It is safe for concurrent use on different
// batches.
func (w *Writer) Encode(b *diskimage.Batch) error {
	p, err := w.plan(b, planEmpty)
	if err != nil {
		return err
	}
	p.runs, p.pieces, p.arena = p.runs[:0], p.pieces[:0], p.arena[:0]
	if b.Off < 0 || b.Off > 1<<62 || b.Off%diskimage.BatchSize != 0 || b.Len < 0 || b.Len > diskimage.BatchSize {
		return w.fail(misuse("a batch of %d bytes at %#x", b.Len, b.Off))
	}
	var enc *codec.Encoder
	if w.compress {
		var ok bool
		if enc, ok = w.encoders.Get(); !ok {
			if enc, err = w.newEncoder(); err != nil {
				return w.fail(err)
			}
		}
		defer w.encoders.Put(enc)
	}

	between := w.o.AllocateZeros && w.o.ParentHint == ""
	at := b.Off
	for i := range b.Blocks {
		blk := &b.Blocks[i]
		if err := w.checkBlock(b, blk, at); err != nil {
			return w.fail(err)
		}
		if between {
			w.encodeZeros(p, enc, at, blk.Off-at)
		}
		switch {
		case blk.Kind == diskimage.Zero:
			w.encodeZeros(p, enc, blk.Off, blk.Len)
		case blk.Enc != diskimage.Plain:
			start := p.begin(blk.Off)
			p.arena = append(p.arena, blk.Data...)
			p.end(blk.Off, start, blk.Adler32)
		default:
			w.encodeData(p, enc, blk.Off, blk.Data)
		}
		at = blk.Off + blk.Len
	}
	if end := roundUp(b.Off+b.Len, w.unit()); between && at < end {
		w.encodeZeros(p, enc, at, end-at)
	}
	p.step = planEncoded
	return nil
}

// checkBlock checks a block that starts at guest offset at or after it.
func (w *Writer) checkBlock(b *diskimage.Batch, blk *diskimage.Block, at int64) error {
	mask := w.unit() - 1
	end := b.Off + diskimage.BatchSize
	switch {
	case blk.Off < at || blk.Len <= 0 || blk.Len > end-blk.Off:
		return misuse("the block of %d bytes at %#x does not ascend, or leaves the batch at %#x", blk.Len, blk.Off, b.Off)
	case blk.Off&mask != 0 || blk.Len&mask != 0:
		return misuse("the block of %d bytes at %#x is not of whole grains", blk.Len, blk.Off)
	case blk.Kind == diskimage.Zero:
		return nil
	case blk.Kind != diskimage.Data:
		return misuse("the block at %#x is of kind %v", blk.Off, blk.Kind)
	case blk.Enc == diskimage.Plain:
		if int64(len(blk.Data)) != blk.Len {
			return misuse("the block at %#x has %d bytes, not %d", blk.Off, len(blk.Data), blk.Len)
		}
		return nil
	case blk.Enc != diskimage.Deflate || !w.compress || blk.Len != w.unit():
		return misuse("the block of %d bytes at %#x, stored as %v, cannot be moved", blk.Len, blk.Off, blk.Enc)
	case len(blk.Data) == 0 || int64(len(blk.Data)) >= blk.Len:
		return misuse("the %v stream of %d bytes at %#x is empty or not shorter than the grain", blk.Enc, len(blk.Data), blk.Off)
	}
	return nil
}

// encodeZeros adds zeros that a block states, or that have to be stored.
func (w *Writer) encodeZeros(p *writePlan, enc *codec.Encoder, off, n int64) {
	switch {
	case n == 0:
	case w.zeros != nil:
		w.encodeStored(p, enc, off, w.zeros[off%diskimage.BatchSize:][:n]) // so that neighbours are neighbours in memory too
	case w.o.ParentHint != "":
		p.runs = append(p.runs, run{off: off, n: n})
	}
}

// encodeData adds plain data.
func (w *Writer) encodeData(p *writePlan, enc *codec.Encoder, off int64, data []byte) {
	for len(data) > 0 {
		n, isZero := len(data), false
		if !w.o.AllocateZeros {
			n, isZero = zero.Run(data, int(w.unit()))
		}
		if isZero {
			w.encodeZeros(p, enc, off, int64(n))
		} else {
			w.encodeStored(p, enc, off, data[:n])
		}
		off, data = off+int64(n), data[n:]
	}
}

// encodeStored adds data that is stored, whatever it is.
func (w *Writer) encodeStored(p *writePlan, enc *codec.Encoder, off int64, data []byte) {
	if enc == nil {
		p.addRun(off, data)
		return
	}
	for unit := int(w.unit()); len(data) > 0; data = data[unit:] {
		start := p.begin(off)
		p.arena = enc.Encode(p.arena, data[:unit])
		p.end(off, start, adler32.Checksum(data[:unit]))
		off += int64(unit)
	}
}

// addRun adds plain data, to the run before it if it follows that in the disk
// and in memory.
func (p *writePlan) addRun(off int64, data []byte) {
	if n := len(p.runs); n > 0 {
		if last := &p.runs[n-1]; last.off+last.n == off && imagefile.Follows(last.data, data) {
			last.n += int64(len(data))
			last.data = last.data[:len(last.data)+len(data)]
			return
		}
	}
	p.runs = append(p.runs, run{off, int64(len(data)), data})
}

// begin starts a piece: a deflate stream is to be appended to the arena.
func (p *writePlan) begin(off int64) (start int) {
	start = len(p.arena)
	p.arena = binary.LittleEndian.AppendUint64(p.arena, uint64(off/sectorSize))
	p.arena = binary.LittleEndian.AppendUint32(p.arena, 0)
	p.arena = binary.BigEndian.AppendUint16(p.arena, zlibHeader)
	return start
}

// end completes the piece that was begun at start, and fills its last sector
// up.
func (p *writePlan) end(off int64, start int, adler uint32) {
	p.arena = binary.BigEndian.AppendUint32(p.arena, adler)
	n := len(p.arena) - start
	binary.LittleEndian.PutUint32(p.arena[start+8:], uint32(n-pieceHeader))
	p.arena = append(p.arena, zeroSector[:-n&(sectorSize-1)]...)
	p.pieces = append(p.pieces, piece{off: off, start: start, end: len(p.arena)})
}

// zeroSector is what fills a sector up. It is never written to.
var zeroSector [sectorSize]byte

// roundUp returns the first multiple of unit, a power of two, at n or after it.
func roundUp(n, unit int64) int64 { return (n + unit - 1) &^ (unit - 1) }
