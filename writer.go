package diskimage

import (
	"context"
	"io"
)

// A Writer builds one image, front to back. Three steps per batch, so that
// only the cheap one is serial:
//
//   - Encode, concurrent, splits a batch into pieces: zeros are dropped, runs
//     of plain data found, units compressed.
//   - Place, one batch at a time and in ascending guest order, gives the
//     pieces their host offsets. It does no I/O.
//   - Store, concurrent, writes them in few large writes.
//
// A batch goes through each step once, in this order; ranges that no batch
// covers are zeros. Then exactly one of Finish or Abort. Deferring Abort is
// always safe: after Finish it does nothing. Neither may run while another
// call is under way.
//
// After an error the writer is good for Abort only.
type Writer interface {
	// Unit returns the guest bytes that the format maps at once (cluster,
	// grain, block): a power of two, at most BatchSize. Blocks are made of
	// whole units.
	Unit() int64

	// NewBatch returns an empty batch with its buffers.
	NewBatch() *Batch

	Encode(b *Batch) error
	Place(b *Batch) error
	Store(ctx context.Context, b *Batch) error

	// Finish writes the tables, then the header, and syncs the output where
	// it can be synced.
	Finish(ctx context.Context) error

	// Abort gives up. What was written stays in the output and is no image.
	Abort() error
}

// A SizeSetter is a Writer that can be made with an unknown size (-1) and be
// told before Finish: for sources whose size is known at their end.
type SizeSetter interface {
	SetSize(size int64) error
}

// A StoredTaker is a Writer that takes some compressed blocks as they are.
type StoredTaker interface {
	// TakesStored reports whether a unit of guest data in this encoding can be
	// moved in its stored form, and on which terms.
	TakesStored(enc Encoding, unit int64) (terms StoredTerms, ok bool)
}

// StoredTerms say what a writer asks of a unit that it takes in its stored
// form.
type StoredTerms struct {
	MaxDistance int  // the longest match distance that a deflate stream may use, in bytes; 0: any
	Adler32     bool // Block.Adler32 is needed
}

// A Scatterer is a Writer that may take batches in any order, and a guest
// range in several batches whose blocks do not overlap: one whose output has
// every byte at its guest offset.
type Scatterer interface {
	// Scatters reports whether this one does.
	Scatters() bool
}

// A Creator makes the further files of an image that consists of several.
type Creator interface {
	// Create returns the output for the file of this name, which is a plain
	// name without a folder: the file is to lie beside the image's own. Who
	// made the Creator completes, names and closes the files.
	Create(name string) (Output, error)
}

// An Output takes an image's bytes. Writers in this module write each byte
// once, in ascending order of Place, and the first bytes last; concurrent
// calls of Store arrive in any order.
//
// What else an Output can do it says by implementing [Truncater], [Syncer] or
// [ZeroFiller].
type Output interface {
	io.WriterAt
}

// A Truncater is an Output whose length can be set.
type Truncater interface {
	Truncate(size int64) error
}

// A Syncer is an Output that can be made durable.
type Syncer interface {
	Sync() error
}

// A ZeroFiller says whether bytes that were never written read as zeros: true
// of a new file, false of a used block device. An Output that does not say is
// taken not to: every zero is written.
type ZeroFiller interface {
	ZeroFilled() bool
}

// A Prefixer is a Writer that writes its image's first bytes last.
type Prefixer interface {
	// Prefix returns how many of the first bytes are written by Finish, after
	// everything else, in one call.
	Prefix() int64
}
