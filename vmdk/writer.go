package vmdk

import (
	"context"
	"fmt"
	"sync/atomic"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/internal/codec"
	"github.com/diskimage-go/diskimage/internal/freelist"
)

// A Writer builds a VMDK image of any [Subformat]. It is a [diskimage.Writer],
// a [diskimage.StoredTaker], a [diskimage.Prefixer] and a [diskimage.Noter].
//
// The disk's size has to be known before anything is written. Zeros take no
// space, unless the options or the output ask for it, and leave no trace: the
// bytes depend on the options and on the data that is not zeros.
//
// # streamOptimized
//
// As VMware's and VirtualBox's exports are laid out, in ascending order, and
// nothing is ever changed that was written: an output for a pipe needs one
// pass.
//
//	sector 0   1            128                                                  end
//	┌────────┬────────────┬────────┬─────┬────────┬─────┬───────────┬────────┬────────┐
//	│ header │ descriptor │ grains │  GT │ grains │  GT │ grain     │ footer │ end of │
//	│        │            │        │     │        │     │ directory │        │ stream │
//	└────────┴────────────┴────────┴─────┴────────┴─────┴───────────┴────────┴────────┘
//
// Each grain, a zlib stream, and each table is led by a marker. A grain that
// deflate makes longer is stored so, as by every other product; the disk's last
// grain is whole, with zeros behind the disk's end. The writer holds one grain
// table (GT), and the grain directory: 4 bytes for each 32 MiB of the disk,
// which may have 1 PiB (QEMU's limit).
//
// # monolithicSparse
//
// As VMware and QEMU lay it out: two copies of the tables, for all of the disk,
// in front of the grains.
//
//	sector 0   1            21                                     a grain's boundary   end
//	┌────────┬────────────┬───────────────────┬───────────────────┬──────────────────────┐
//	│ header │ descriptor │ redundant grain   │ grain directory,  │ grains, as they came │
//	│        │            │ directory, tables │ tables            │                      │
//	└────────┴────────────┴───────────────────┴───────────────────┴──────────────────────┘
//	 written last, by Finish
//
// The writer holds all that lies before the grains: with grains of 64 KiB 128
// MiB for each TiB of the disk, of which an operating system takes for real
// what is used. 512 MiB are the limit (ours): 4 TiB, or more with larger grains.
//
// Either file has 2 TiB at most, and is given up when it would become longer:
// the tables number sectors with 32 bits.
//
// # Several files
//
// The descriptor is the file that is named, and is written last. Beside it lie
// the extents: of twoGbMaxExtentSparse as above without a descriptor, and no
// more than two of their tables are held; of monolithicFlat and
// twoGbMaxExtentFlat the disk's bytes and nothing else. There zeros are left
// out, in runs of 4 KiB, where unwritten bytes of the outputs read as such;
// where they do not, all bytes are written.
type Writer struct {
	layout
	o     WriterOptions
	size  int64 // guest bytes, a multiple of 512
	notes []diskimage.Note
	files []*outFile // the first is the one the user names

	compress bool   // pieces are zlib streams behind grain markers
	zeros    []byte // BatchSize zeros to be stored as data, shared and never changed; nil: none are

	state  writerState
	failed atomic.Pointer[error] // why a step has failed: only Abort is left

	encoders freelist.List[*codec.Encoder]

	// Of Place and Finish, one call at a time.
	next   int64 // the guest offset that the next batch starts at, at least
	placed int64

	stored atomic.Int64 // of Store
}

// A layout is where a kind of image has what. Its methods are called one at a
// time.
type layout interface {
	// unit returns the grain size, or what stands for it.
	unit() int64

	// prefix returns the first bytes of the first file that finish writes last.
	prefix() int64

	// place gives the pieces of an encoded batch that starts at guest offset
	// off their places, and says with writePlan.writes what goes where.
	place(p *writePlan, off int64) error

	// finish does the same with what is left, but for the first file's prefix,
	// which it returns.
	finish(p *writePlan) (front []byte, err error)
}

type writerState uint8

const (
	writerOpen writerState = iota
	writerFinished
	writerAborted
)

var (
	_ diskimage.Writer      = (*Writer)(nil)
	_ diskimage.StoredTaker = (*Writer)(nil)
	_ diskimage.Prefixer    = (*Writer)(nil)
	_ diskimage.Noter       = (*Writer)(nil)
)

// NewWriter returns a Writer that builds an image in out, of whose optional
// abilities it uses [diskimage.Truncater], [diskimage.Syncer]
// and [diskimage.ZeroFiller]. It writes nothing yet,
// but has o.Creator make the further files of an image of several (see
// [ExtentNames]); out is that of the descriptor then.
//
// A bad option is an error of kind [diskimage.ErrUnsupported]; a disk that is
// too large for the kind one of kind [diskimage.ErrLimit].
func NewWriter(out diskimage.Output, o WriterOptions) (*Writer, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	w := &Writer{o: o, files: []*outFile{newOutFile(out)}}
	if err := w.setSize(); err != nil {
		return nil, err
	}
	switch o.Subformat {
	case MonolithicSparse:
		w.layout, err = w.newMonolithicSparse()
	case StreamOptimized:
		w.layout, err = w.newStreamOptimized()
	case MonolithicFlat, TwoGbMaxExtentFlat:
		w.layout, err = w.newFlatSet()
	case TwoGbMaxExtentSparse:
		w.layout, err = w.newSplitSet()
	}
	if err != nil {
		return nil, err
	}
	if w.compress {
		enc, err := w.newEncoder()
		if err != nil {
			return nil, err
		}
		w.encoders.Put(enc)
	}
	if o.AllocateZeros || o.ParentHint != "" && !o.ZeroedGrains {
		w.zeros = make([]byte, diskimage.BatchSize)
	}
	return w, nil
}

// setSize rounds the disk's size up to sectors.
func (w *Writer) setSize() error {
	const most = int64(1) << 62 // so that nothing that is added overflows
	if w.o.Size > most {
		return errDiskLimit(w.o.Size, "no kind of image has so many sectors")
	}
	w.size = (w.o.Size + sectorSize - 1) &^ (sectorSize - 1)
	if w.size != w.o.Size {
		w.notes = append(w.notes, diskimage.Note{Format: Name,
			Text: fmt.Sprintf("the disk's size, %d bytes, is no multiple of %d: padded with zeros to %d", w.o.Size, sectorSize, w.size)})
	}
	return nil
}

func errDiskLimit(size int64, why string) error {
	return &diskimage.Error{Kind: diskimage.ErrLimit, Format: Name, Off: -1, Field: "size",
		Msg: fmt.Sprintf("a disk of %d bytes: %s", size, why)}
}

// Unit returns the grain size of the sparse kinds. In the flat ones it is what
// runs of zeros are left out in.
func (w *Writer) Unit() int64 { return w.unit() }

// Prefix returns the length of what Finish writes last: header, descriptor and
// tables of a monolithicSparse image, 0 of a streamOptimized one, which is
// written in order, and all of a descriptor that is a file of its own.
func (w *Writer) Prefix() int64 { return w.prefix() }

// Notes returns what became of the size.
func (w *Writer) Notes() []diskimage.Note { return w.notes }

// TakesStored reports whether a unit of guest data can be moved as it is
// stored: a deflate stream of a whole grain, into a streamOptimized image,
// which wants the Adler-32 of the guest bytes with it. The stream must be
// shorter than the grain; one that is not is for the caller to decode.
func (w *Writer) TakesStored(enc diskimage.Encoding, unit int64) (terms diskimage.StoredTerms, ok bool) {
	if !w.compress || enc != diskimage.Deflate || unit != w.unit() {
		return terms, false
	}
	return diskimage.StoredTerms{Adler32: true}, true
}

// Finish writes the tables and whatever else closes the image, and sets the
// length of each file. If they can be synced, they are before the prefix is
// written, and after.
func (w *Writer) Finish(ctx context.Context) error {
	switch {
	case w.state != writerOpen:
		return misuse("Finish after the end")
	case w.failed.Load() != nil:
		return w.afterFailure()
	case w.placed != w.stored.Load():
		return misuse("Finish with %d batches placed and %d stored", w.placed, w.stored.Load())
	}
	if err := w.finishFiles(ctx); err != nil {
		return w.fail(err)
	}
	w.state = writerFinished
	return nil
}

// Abort gives up. What was written stays in the output and is no image.
func (w *Writer) Abort() error {
	if w.state == writerOpen {
		w.state = writerAborted
	}
	return nil
}

func (w *Writer) newEncoder() (*codec.Encoder, error) {
	return codec.NewEncoder(codec.EncoderOptions{Encoding: diskimage.Deflate, Level: w.o.Level, Window: deflateWindow})
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
