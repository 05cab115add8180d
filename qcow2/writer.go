package qcow2

import (
	"fmt"
	"sync/atomic"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/internal/codec"
	"github.com/diskimage-go/diskimage/internal/freelist"
	"github.com/diskimage-go/diskimage/internal/imagefile"
)

// A Writer builds a QCOW2 image. It is a [diskimage.Writer], a
// [diskimage.SizeSetter], a [diskimage.StoredTaker], a [diskimage.Prefixer]
// and a [diskimage.Noter].
//
// Host space is given in ascending order and never again, cluster 0 last:
//
//	cluster 0   1 ...                                                          end
//	┌────────┬───────────────────────────────────────────┬─────┬────┬─────────┬──────────┐
//	│ header │ of each batch: compressed clusters, plain │ L2  │ L1 │ refcount│ refcount │
//	│        │ clusters, L2 tables and refcount blocks   │     │    │ blocks  │ table    │
//	│        │ that have become complete                 │     │    │         │          │
//	└────────┴───────────────────────────────────────────┴─────┴────┴─────────┴──────────┘
//	 written                                              what is left, by Finish
//	 last
//
// So the writer holds the L2 tables and refcount blocks that are still open,
// the L1 and the refcount table, and no more. Compressed clusters are packed
// byte-tight. What would leave the last host cluster of a batch's compressed
// run half empty is kept back and begins the next such run: at most two
// clusters of data.
//
// The bytes depend on the options and the batches alone; a batch that holds
// nothing but zeros leaves no trace, as if it had not been placed.
type Writer struct {
	file imagefile.File
	o    WriterOptions
	geometry
	size  int64 // guest bytes, a multiple of 512; -1: not known yet
	notes []diskimage.Note

	zeros     []byte // zeros to be written, shared and never changed; see zeroBytes
	packLimit int    // the longest stream that is worth storing instead of the cluster

	state  writerState
	failed atomic.Pointer[error] // why a step has failed: only Abort is left

	encoders freelist.List[*codec.Encoder]
	buffers  freelist.List[[]byte] // for tables: a cluster each

	// Of Place and Finish, one call at a time.
	cursor  int64 // host offset of the next byte to give
	given   int64 // host offset after the last byte given: padding lies between it and the cursor
	next    int64 // the guest offset that the next batch starts at, at least
	top     int64 // number of the guest cluster after the last that is mapped
	l1      []byte
	tables  []*l2Table // the open ones, ascending
	held    []piece    // compressed clusters kept back for the next run
	heldBuf []byte     // their streams
	refs    refcountWriter
	placed  int64

	// Of Store.
	stored atomic.Int64
}

type writerState uint8

const (
	writerOpen writerState = iota
	writerFinished
	writerAborted
)

var (
	_ diskimage.Writer      = (*Writer)(nil)
	_ diskimage.SizeSetter  = (*Writer)(nil)
	_ diskimage.StoredTaker = (*Writer)(nil)
	_ diskimage.Prefixer    = (*Writer)(nil)
	_ diskimage.Noter       = (*Writer)(nil)
)

// NewWriter returns a Writer that builds an image in out, of whose optional
// abilities it uses [diskimage.Truncater], [diskimage.Syncer]
// and [diskimage.ZeroFiller]. It writes nothing yet.
//
// A bad option is an error of kind [diskimage.ErrUnsupported]; a disk that is
// too large for the cluster size one of kind [diskimage.ErrLimit].
func NewWriter(out diskimage.Output, o WriterOptions) (*Writer, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	w := &Writer{file: imagefile.New(Name, out), o: o, geometry: o.geometry(), size: -1}
	w.packLimit = int(w.clusterSize() - sectorSize)
	if w.clusterSize() == sectorSize {
		w.packLimit = sectorSize - 1
	}
	w.cursor = w.clusterSize()
	w.given = w.cursor
	w.refs = newRefcountWriter(w.geometry, &w.buffers)
	if err := w.refs.add(0, 1); err != nil { // the header
		return nil, err
	}
	if o.Size >= 0 {
		if err := w.SetSize(o.Size); err != nil {
			return nil, err
		}
	}
	if _, err := w.encodeHeader(headerFields{}); err != nil { // the names must fit
		return nil, err
	}
	if o.Compression != diskimage.Plain {
		enc, err := w.newEncoder()
		if err != nil {
			return nil, err
		}
		w.encoders.Put(enc)
	}
	w.zeros = make([]byte, w.zeroBytes())
	return w, nil
}

// zeroBytes is how many zeros are ever written in one piece: padding before a
// boundary, a guest range that has to be allocated.
func (w *Writer) zeroBytes() int64 {
	switch {
	case w.o.AllocateZeros, w.o.BackingFile != "" && w.o.Version == 2:
		return diskimage.BatchSize
	case w.file.ZeroFilled():
		return 0
	}
	return w.clusterSize()
}

// Unit returns the cluster size.
func (w *Writer) Unit() int64 { return w.clusterSize() }

// Prefix returns the length of the header's cluster.
func (w *Writer) Prefix() int64 { return w.clusterSize() }

// Notes returns what became of the size.
func (w *Writer) Notes() []diskimage.Note { return w.notes }

// SetSize says the guest disk's size, rounded up to a multiple of 512, of a
// writer that was made without it. It may be called until Finish, but not while
// another call is under way.
func (w *Writer) SetSize(size int64) error {
	switch {
	case w.state != writerOpen:
		return misuse("SetSize after the end")
	case size < 0:
		return badOption("size", "%d is negative", size)
	}
	if err := w.checkSize(size); err != nil {
		return err
	}
	padded := (size + sectorSize - 1) &^ (sectorSize - 1)
	switch {
	case w.size == padded:
		return nil
	case w.size >= 0:
		return misuse("the size is %d, and cannot become %d", w.size, size)
	case w.clusters(padded) < w.top:
		return misuse("there is data beyond the size %d", size)
	}
	w.size = padded
	if padded != size {
		w.notes = append(w.notes, diskimage.Note{Format: Name,
			Text: fmt.Sprintf("the disk's size, %d bytes, is no multiple of %d: padded with zeros to %d", size, sectorSize, padded)})
	}
	return nil
}

// TakesStored reports whether a unit of guest data can be moved as it is
// stored: it must be a whole cluster in the image's own encoding. The stream
// must be shorter than the cluster; one that is not is for the caller to decode.
func (w *Writer) TakesStored(enc diskimage.Encoding, unit int64) (terms diskimage.StoredTerms, ok bool) {
	if enc == diskimage.Plain || enc != w.o.Compression || unit != w.clusterSize() {
		return terms, false
	}
	if w.o.Window == deflateWindow {
		terms.MaxDistance = deflateWindow
	}
	return terms, true
}

// Abort gives up. What was written stays in the output and is no image: its
// first cluster was not written.
func (w *Writer) Abort() error {
	if w.state == writerOpen {
		w.state = writerAborted
	}
	return nil
}

func (w *Writer) newEncoder() (*codec.Encoder, error) {
	return codec.NewEncoder(codec.EncoderOptions{Encoding: w.o.Compression, Level: w.o.Level, Window: w.o.Window})
}

// fail remembers why the image cannot be finished, and returns err.
func (w *Writer) fail(err error) error {
	w.failed.CompareAndSwap(nil, &err)
	return err
}

// afterFailure returns the error of a call after one that has failed.
func (w *Writer) afterFailure() error {
	if err := w.failed.Load(); err != nil {
		return fmt.Errorf(Name+": writer: given up: %w", *err)
	}
	return nil
}

// misuse returns the error of a caller who breaks the rules of
// [diskimage.Writer].
func misuse(format string, args ...any) error {
	return fmt.Errorf(Name+": writer: "+format, args...)
}
