package qcow2

import (
	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/internal/codec"
	"github.com/diskimage-go/diskimage/internal/imagefile"
	"github.com/diskimage-go/diskimage/internal/zero"
)

// A piece is a compressed guest cluster.
type piece struct {
	cluster int64 // guest cluster number
	stream  []byte
	host    int64 // its host offset, once placed
	held    bool  // it was kept back by an earlier batch
}

// A run is guest clusters in a row, which are stored plain, or read as zeros.
type run struct {
	cluster int64 // guest cluster number of the first
	n       int64
	data    []byte // nil: explicit zeros
}

// A writePlan is what Encode leaves for Place, and Place for Store. It belongs
// to one batch.
type writePlan struct {
	w    *Writer
	step planStep

	// Of Encode: the pieces, ascending in each list.
	compressed []piece
	plain      []run
	zero       []run
	arena      []byte // the streams of compressed

	// Of Place.
	packing []piece          // scratch
	held    []byte           // streams that were kept back by earlier batches
	writes  imagefile.Writes // ascending
	tables  [][]byte         // among them, to be used again
}

type planStep uint8

const (
	planEmpty planStep = iota
	planEncoded
	planPlaced
)

// NewBatch returns an empty batch with its buffers.
func (w *Writer) NewBatch() *diskimage.Batch {
	p := &writePlan{w: w}
	if w.o.Compression != diskimage.Plain {
		// Room for every stream that is kept, and one that is not.
		p.arena = make([]byte, 0, diskimage.BatchSize+w.clusterSize()+w.clusterSize()/8+sectorSize)
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

// Encode splits the batch into what is compressed, what is plain, and zeros.
// It is safe for concurrent use on different batches.
func (w *Writer) Encode(b *diskimage.Batch) error {
	p, err := w.plan(b, planEmpty)
	if err != nil {
		return err
	}
	p.compressed, p.plain, p.zero, p.arena = p.compressed[:0], p.plain[:0], p.zero[:0], p.arena[:0]
	if b.Off < 0 || b.Off > 1<<62 || b.Off%diskimage.BatchSize != 0 || b.Len < 0 || b.Len > diskimage.BatchSize {
		return w.fail(misuse("a batch of %d bytes at %#x", b.Len, b.Off))
	}

	var enc *codec.Encoder
	if w.o.Compression != diskimage.Plain {
		var ok bool
		if enc, ok = w.encoders.Get(); !ok {
			if enc, err = w.newEncoder(); err != nil {
				return w.fail(err)
			}
		}
		defer w.encoders.Put(enc)
	}

	between := w.o.AllocateZeros && w.o.BackingFile == ""
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
			p.compressed = append(p.compressed, piece{cluster: blk.Off >> w.clusterBits, stream: blk.Data})
		default:
			w.encodeData(p, enc, blk.Off, blk.Data)
		}
		at = blk.Off + blk.Len
	}
	if end := w.alignUp(b.Off + b.Len); between && at < end {
		w.encodeZeros(p, enc, at, end-at)
	}
	p.step = planEncoded
	return nil
}

// checkBlock checks a block that starts at guest offset at or after it.
func (w *Writer) checkBlock(b *diskimage.Batch, blk *diskimage.Block, at int64) error {
	mask := w.clusterSize() - 1
	end := b.Off + diskimage.BatchSize
	switch {
	case blk.Off < at || blk.Len <= 0 || blk.Len > end-blk.Off:
		return misuse("the block of %d bytes at %#x does not ascend, or leaves the batch at %#x", blk.Len, blk.Off, b.Off)
	case blk.Off&mask != 0 || blk.Len&mask != 0:
		return misuse("the block of %d bytes at %#x is not of whole clusters", blk.Len, blk.Off)
	case blk.Kind == diskimage.Zero:
		return nil
	case blk.Kind != diskimage.Data:
		return misuse("the block at %#x is of kind %v", blk.Off, blk.Kind)
	case blk.Enc == diskimage.Plain:
		if int64(len(blk.Data)) != blk.Len {
			return misuse("the block at %#x has %d bytes, not %d", blk.Off, len(blk.Data), blk.Len)
		}
		return nil
	case blk.Enc != w.o.Compression || blk.Len != w.clusterSize():
		return misuse("the block of %d bytes at %#x, stored as %v, cannot be moved", blk.Len, blk.Off, blk.Enc)
	case len(blk.Data) == 0 || int64(len(blk.Data)) >= blk.Len:
		return misuse("the %v stream of %d bytes at %#x is empty or not shorter than the cluster", blk.Enc, len(blk.Data), blk.Off)
	}
	return nil
}

// encodeZeros makes pieces of zeros that a block states.
func (w *Writer) encodeZeros(p *writePlan, enc *codec.Encoder, off, n int64) {
	switch {
	case n == 0:
	case w.o.AllocateZeros, w.o.BackingFile != "" && w.o.Version == 2: // which has no zero flag
		for n > 0 {
			at := off % diskimage.BatchSize // so that neighbours are neighbours in memory too
			w.encodeCluster(p, enc, off>>w.clusterBits, w.zeros[at:at+w.clusterSize()])
			off, n = off+w.clusterSize(), n-w.clusterSize()
		}
	case w.o.BackingFile != "":
		p.zero = append(p.zero, run{cluster: off >> w.clusterBits, n: n >> w.clusterBits})
	}
}

// encodeData makes pieces of plain data.
func (w *Writer) encodeData(p *writePlan, enc *codec.Encoder, off int64, data []byte) {
	size := w.clusterSize()
	for len(data) > 0 {
		if !w.o.AllocateZeros && zero.Is(data[:size]) {
			w.encodeZeros(p, enc, off, size)
		} else {
			w.encodeCluster(p, enc, off>>w.clusterBits, data[:size])
		}
		off, data = off+size, data[size:]
	}
}

// encodeCluster makes a piece of one cluster that is to be stored.
func (w *Writer) encodeCluster(p *writePlan, enc *codec.Encoder, cluster int64, data []byte) {
	if enc != nil {
		start := len(p.arena)
		p.arena = enc.Encode(p.arena, data)
		if n := len(p.arena) - start; n <= w.packLimit {
			p.compressed = append(p.compressed, piece{cluster: cluster, stream: p.arena[start:]})
			return
		}
		p.arena = p.arena[:start]
	}
	if n := len(p.plain); n > 0 {
		if last := &p.plain[n-1]; last.cluster+last.n == cluster && imagefile.Follows(last.data, data) {
			last.n++
			last.data = last.data[:len(last.data)+len(data)]
			return
		}
	}
	p.plain = append(p.plain, run{cluster: cluster, n: 1, data: data})
}
