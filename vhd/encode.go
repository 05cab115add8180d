package vhd

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/internal/imagefile"
	"github.com/diskimage-go/diskimage/internal/zero"
)

// A plan is what Encode leaves of a batch for Place, and Place for Store.
type plan struct {
	pieces  []piece
	content [sha256.Size]byte // of all pieces

	// Place's.
	bitmaps []byte           // memory of the sector bitmaps
	writes  imagefile.Writes // ascending
}

// A piece is a run of guest bytes of one block that have to be in the image.
type piece struct {
	off  int64
	n    int64
	data []byte // nil: zeros
}

func planOf(b *diskimage.Batch) (*plan, error) {
	p, ok := b.Plan.(*plan)
	if !ok {
		return nil, fmt.Errorf("vpc: the batch at %d is another writer's", b.Off)
	}
	return p, nil
}

// Encode finds the pieces of the batch: its plain data without what is zeros,
// and in a differencing disk zeros that are said too. Blocks in any other
// encoding are refused.
func (w *Writer) Encode(b *diskimage.Batch) error {
	p, err := planOf(b)
	if err != nil {
		return err
	}
	p.pieces = p.pieces[:0]
	if b.Off < 0 || b.Off%diskimage.BatchSize != 0 || b.Len < 0 || b.Len > diskimage.BatchSize || b.Off > math.MaxInt64-diskimage.BatchSize {
		return misplaced("batch", b.Off, b.Len)
	}
	at := b.Off
	for i := range b.Blocks {
		blk := &b.Blocks[i]
		switch {
		case blk.Off < at || blk.Off%pieceSize != 0 || blk.Len <= 0 || blk.Len > b.Off+diskimage.BatchSize-blk.Off || blk.Off >= w.size:
			return misplaced("block", blk.Off, blk.Len)
		case blk.Kind == diskimage.Data && blk.Enc != diskimage.Plain:
			return fail(diskimage.ErrUnsupported, -1, "", "a VHD takes no %s data (guest offset %d)", blk.Enc, blk.Off)
		case blk.Kind == diskimage.Data && int64(len(blk.Data)) != blk.Len:
			return fmt.Errorf("vpc: the block at %d of %d bytes comes with %d", blk.Off, blk.Len, len(blk.Data))
		}
		at = blk.Off + blk.Len
		if err := w.split(p, blk); err != nil {
			return err
		}
	}
	if w.o.UniqueID == ([16]byte{}) && len(p.pieces) > 0 {
		p.digest()
	}
	return nil
}

// split adds the pieces of one block of data or zeros.
func (w *Writer) split(p *plan, blk *diskimage.Block) error {
	n := min(blk.Len, w.size-blk.Off)
	keep := w.o.Type == Differencing || w.o.AllocateZeros
	if blk.Kind != diskimage.Data {
		if keep {
			w.add(p, blk.Off, n, nil)
		}
		return nil
	}
	data := blk.Data
	if !zero.Is(data[n:]) {
		return fmt.Errorf("vpc: data beyond the disk's end at %d", w.size)
	}
	for off := blk.Off; n > 0; {
		length, isZero := zero.Run(data[:n], pieceSize)
		run := data[:length]
		if isZero {
			run = nil
		}
		if !isZero || keep {
			w.add(p, off, int64(length), run)
		}
		off, data, n = off+int64(length), data[length:], n-int64(length)
	}
	return nil
}

// add adds a piece, cut at the borders of blocks.
func (w *Writer) add(p *plan, off, n int64, data []byte) {
	for n > 0 {
		part := n
		if w.o.BlockSize > 0 {
			part = min(n, w.o.BlockSize-off%w.o.BlockSize)
		}
		if data == nil {
			p.pieces = append(p.pieces, piece{off, part, nil})
		} else {
			p.pieces = append(p.pieces, piece{off, part, data[:part]})
			data = data[part:]
		}
		off, n = off+part, n-part
	}
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// digest computes what the identifier is to know of the batch: a checksum of
// every 4 KiB. A digest of the data itself would cost more than writing it, and
// the identifier has to differ where contents do, not to prove it.
func (p *plan) digest() {
	h := sha256.New()
	var line [12]byte
	for _, piece := range p.pieces {
		for at := int64(0); at < piece.n; at += pieceSize {
			binary.BigEndian.PutUint64(line[:], uint64(piece.off+at))
			if piece.data == nil {
				clear(line[8:])
			} else {
				unit := piece.data[at:min(at+pieceSize, piece.n)]
				binary.BigEndian.PutUint32(line[8:], crc32.Checksum(unit, castagnoli))
			}
			h.Write(line[:])
		}
	}
	h.Sum(p.content[:0])
}

// Place gives the batch's pieces their places in the file.
func (w *Writer) Place(b *diskimage.Batch) error {
	p, err := planOf(b)
	if err != nil {
		return err
	}
	if b.Off < w.batches {
		return misplaced("batch", b.Off, b.Len)
	}
	w.batches = b.Off + b.Len
	p.writes.Reset()
	p.bitmaps = p.bitmaps[:0]
	if len(p.pieces) > 0 {
		w.content.Write(p.content[:])
	}
	if w.o.Type != Fixed {
		return w.placeBlocks(b, p)
	}
	for _, piece := range p.pieces {
		w.write(p, piece.off, piece.data)
	}
	w.fill(p, min(w.batches, w.size))
	return nil
}

// write adds data to what the plan's Store writes. Pieces of zeros have none:
// zeros are what is written where nothing else is.
func (w *Writer) write(p *plan, host int64, data []byte) {
	if data == nil {
		return
	}
	w.fill(p, host)
	p.writes.Add(&w.file, host, data)
	w.given = host + int64(len(data))
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

// placeBlocks gives host space to each block that has a piece, or to all of
// the batch if zeros are allocated too.
func (w *Writer) placeBlocks(b *diskimage.Batch, p *plan) error {
	pieces := p.pieces
	end := min(b.Off+b.Len, w.size)
	// Made at once, since the writes hold on to parts of it.
	if most := (diskimage.BatchSize/w.o.BlockSize + 1) * w.bitmap; int64(cap(p.bitmaps)) < most {
		p.bitmaps = make([]byte, 0, most)
	}
	for off := b.Off &^ (w.o.BlockSize - 1); off < end; off += w.o.BlockSize {
		n := 0
		for n < len(pieces) && pieces[n].off < off+w.o.BlockSize {
			n++
		}
		if n == 0 && !w.o.AllocateZeros {
			continue
		}
		data := (w.cursor + w.bitmap + pieceSize - 1) &^ (pieceSize - 1)
		start := data - w.bitmap
		if start/sectorSize >= unusedEntry {
			return fail(diskimage.ErrLimit, -1, "block allocation table", "the file grows beyond %d sectors", int64(unusedEntry))
		}
		w.table[off/w.o.BlockSize] = uint32(start / sectorSize)
		w.cursor = data + w.o.BlockSize
		w.write(p, start, w.bitmapOf(p, off, pieces[:n]))
		for _, piece := range pieces[:n] {
			w.write(p, data+piece.off-off, piece.data)
		}
		pieces = pieces[n:]
	}
	w.fill(p, w.cursor)
	return nil
}

// bitmapOf returns the sector bitmap of the block at off.
func (w *Writer) bitmapOf(p *plan, off int64, pieces []piece) []byte {
	at := len(p.bitmaps)
	p.bitmaps = p.bitmaps[:at+int(w.bitmap)]
	bits := p.bitmaps[at:]
	clear(bits)
	set := func(from, to int64) {
		for ; from < to; from++ {
			bits[from/8] |= 0x80 >> (from % 8)
		}
	}
	if w.o.Type == Dynamic {
		// Also the bits that only pad the bitmap are set where QEMU sets them:
		// those of the block, no more.
		set(0, w.o.BlockSize/sectorSize)
		return bits
	}
	for _, piece := range pieces {
		set((piece.off-off)/sectorSize, (piece.off-off+piece.n+sectorSize-1)/sectorSize)
	}
	return bits
}

// Store writes the batch.
func (w *Writer) Store(ctx context.Context, b *diskimage.Batch) error {
	p, err := planOf(b)
	if err != nil {
		return err
	}
	return p.writes.Store(ctx)
}
