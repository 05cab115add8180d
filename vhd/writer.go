package vhd

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"slices"
	"time"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/internal/imagefile"
)

// A Writer builds a fixed, dynamic or differencing VHD image, as
// [diskimage.Writer] has it.
//
// A fixed disk is written in ascending order, its footer last, in one pass. Of
// the others the front (the footer's copy, the dynamic disk header, the block
// allocation table and the parent locators) is written last, in one call: it
// is [Writer.Prefix] bytes, some 4 MiB for 2040 GiB in blocks of 2 MiB, and kept
// in memory. Data starts at multiples of 4 KiB in the file.
//
// In a dynamic disk all bits of a block's sector bitmap are set; in a
// differencing disk those of the sectors that were written, zeros that hide the
// parent's data among them.
type Writer struct {
	file    imagefile.File
	o       WriterOptions
	sparse  bool // unwritten bytes of the output read as zeros: zeros are left out
	size    int64
	footer  footer
	header  header
	front   int64 // bytes of the front; 0 for a fixed disk
	bitmap  int64 // bytes of a block's sector bitmap
	notes   []diskimage.Note
	done    bool
	locator []byte // the parent's name

	// Of Place, which is called one at a time.
	table   []uint32
	batches int64     // the end of the last batch that was placed
	cursor  int64     // host offset of the next block; of a fixed disk, of the footer
	given   int64     // unless sparse: host offset after what was given to a batch to write
	content hash.Hash // of what was placed: the identifier is made of it
}

var (
	_ diskimage.Writer   = (*Writer)(nil)
	_ diskimage.Prefixer = (*Writer)(nil)
	_ diskimage.Noter    = (*Writer)(nil)
)

// NewWriter returns a Writer to out. A bad option is ErrUnsupported, a disk that
// is too large ErrLimit.
func NewWriter(out diskimage.Output, o WriterOptions) (*Writer, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	size, geometry, creator, note, err := o.settle()
	if err != nil {
		return nil, err
	}
	w := &Writer{file: imagefile.New(Name, out), o: o, size: size, cursor: size, content: sha256.New()}
	w.sparse = w.file.ZeroFilled() && !o.AllocateZeros
	if note != "" {
		w.notes = append(w.notes, diskimage.Note{Format: Name, Text: note})
	}
	w.footer = footer{
		features: featureReserved, version: formatVersion, dataOffset: noOffset, timeStamp: stampOf(o.Time),
		creator: creator, creatorVersion: creatorVersion, creatorOS: [4]byte([]byte(creatorSystem)),
		originalSize: uint64(size), currentSize: uint64(size), geometry: geometry, diskType: o.Type, uniqueID: o.UniqueID,
	}
	if o.Type != Fixed {
		if err := w.planFront(); err != nil {
			return nil, err
		}
	}
	w.seed()
	return w, nil
}

// planFront lays out what stands before the blocks.
func (w *Writer) planFront() error {
	blocks := (w.size + w.o.BlockSize - 1) / w.o.BlockSize
	if blocks > maxTableEntries {
		return fail(diskimage.ErrLimit, -1, "option block size", "a disk of %d bytes has %d blocks of %d; %d are read and written", w.size, blocks, w.o.BlockSize, maxTableEntries)
	}
	w.table = make([]uint32, blocks)
	for i := range w.table {
		w.table[i] = unusedEntry
	}
	w.footer.dataOffset = footerLen
	w.header = header{
		off: footerLen, tableOffset: footerLen + headerLen, version: headerVersion,
		tableEntries: uint32(blocks), blockSize: uint32(w.o.BlockSize),
	}
	w.bitmap = w.header.bitmapBytes()
	w.front = (w.header.tableEnd() + sectorSize - 1) &^ (sectorSize - 1)
	if p := w.o.Parent; p != nil {
		w.header.parentID = p.ID
		if !p.Time.IsZero() {
			w.header.parentTimeStamp = stampOf(p.Time)
		}
		w.header.parentName = encodeUTF16(p.Name, binary.BigEndian)
		platform, name := windowsName(p.Name)
		w.locator = encodeUTF16(name, binary.LittleEndian)
		space := (int64(len(w.locator)) + sectorSize - 1) &^ (sectorSize - 1)
		w.header.locators[0] = locator{platform, uint32(space), uint32(len(w.locator)), uint64(w.front)}
		w.front += space
	}
	w.cursor, w.given = w.front, w.front
	return nil
}

// stampOf returns the time stamp of a time, which is in its range.
func stampOf(t time.Time) uint32 { return uint32(t.Sub(timeOf(0)) / time.Second) }

// seed starts what the identifier is made of: all that is known beforehand.
func (w *Writer) seed() {
	if w.o.UniqueID != ([16]byte{}) {
		return
	}
	w.content.Write(w.footer.encode())
	if w.o.Type != Fixed {
		w.content.Write(w.header.encode())
		w.content.Write(w.locator)
	}
}

// identifier returns the image's identifier, in the form of a random one (RFC
// 9562, version 8: of the maker's own making).
func (w *Writer) identifier() (id [16]byte) {
	if w.o.UniqueID != id {
		return w.o.UniqueID
	}
	copy(id[:], w.content.Sum(nil))
	id[6] = id[6]&0x0f | 0x80
	id[8] = id[8]&0x3f | 0x80
	return id
}

// Unit returns 4096: the steps in which zeros are told from data.
func (w *Writer) Unit() int64 { return pieceSize }

// Prefix returns how many of the first bytes are written last: none of a fixed
// disk.
func (w *Writer) Prefix() int64 { return w.front }

// Notes returns what became of the size.
func (w *Writer) Notes() []diskimage.Note { return slices.Clone(w.notes) }

// Size returns the guest size of the disk that is written, which may be larger
// than that of the options: see [WriterOptions].
func (w *Writer) Size() int64 { return w.size }

// UniqueID returns the image's identifier; one that is derived is known after
// Finish.
func (w *Writer) UniqueID() [16]byte { return w.footer.uniqueID }

// BlockSize returns the bytes of a block, or 1 for a fixed disk, which has none.
func (w *Writer) BlockSize() int64 { return max(w.o.BlockSize, 1) }

// NewBatch returns an empty batch.
func (w *Writer) NewBatch() *diskimage.Batch {
	return &diskimage.Batch{Buf: make([]byte, diskimage.BatchSize), Plan: new(plan)}
}

// Finish writes the footer, then the front, sets the output's length where it
// can be set, and syncs it where it can be synced.
func (w *Writer) Finish(ctx context.Context) error {
	if w.done {
		return errors.New("vpc: the image is finished or given up already")
	}
	w.done = true
	w.footer.uniqueID = w.identifier()
	footer := w.footer.encode()
	var last plan
	w.write(&last, w.cursor, footer)
	if err := last.writes.Store(ctx); err != nil {
		return err
	}
	if err := w.file.Truncate(w.cursor + footerLen); err != nil {
		return err
	}
	if w.front > 0 {
		if err := w.file.WriteAt(ctx, w.encodeFront(footer), 0); err != nil {
			return err
		}
	}
	return w.file.Sync(ctx)
}

// encodeFront returns what stands before the blocks.
func (w *Writer) encodeFront(footer []byte) []byte {
	p := make([]byte, w.front)
	copy(p, footer)
	copy(p[w.header.off:], w.header.encode())
	at := p[w.header.tableOffset:]
	for _, entry := range w.table {
		binary.BigEndian.PutUint32(at, entry)
		at = at[4:]
	}
	// A table is padded to a sector, with what means nothing.
	for pad := int64(len(w.table)) * 4; pad%sectorSize != 0; pad += 4 {
		binary.BigEndian.PutUint32(at, unusedEntry)
		at = at[4:]
	}
	copy(p[w.header.locators[0].offset:], w.locator)
	return p
}

// Abort gives up. After Finish it does nothing.
func (w *Writer) Abort() error {
	w.done = true
	return nil
}

func misplaced(what string, off, n int64) error {
	return fmt.Errorf("vpc: the %s at %d of %d bytes is not in its place", what, off, n)
}
