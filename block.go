package diskimage

// BatchSize is the guest range of one [Batch]. It is a constant, not an
// option: where batches end is seen in some images' bytes, and those must not
// depend on how a conversion was run.
const BatchSize = 2 << 20

// A Block is a piece of guest data on its way to a [Writer].
type Block struct {
	Off  int64    // guest offset, a multiple of the writer's unit
	Len  int64    // guest bytes, a multiple of the writer's unit
	Kind Kind     // Data; or Zero: zeros that must be said because a backing image would show through
	Enc  Encoding // how Data is encoded; a compressed block is exactly one unit
	Data []byte   // Plain: Len bytes. Compressed: the bare stream, ending where it ends. Zero: nil

	// Adler32 is the Adler-32 of a compressed block's guest bytes, for a
	// writer whose [StoredTerms] ask for it.
	Adler32 uint32

	// Checked says, of a compressed block from a [Stream], that the Adler-32
	// of its guest bytes follows the stream in Data, as [Stored] has it.
	Checked bool
}

// A Batch is what the pipeline moves at once: a guest range with the blocks
// that lie in it. Its memory belongs to the writer that made it and is used
// again after Store.
//
// The filler sets Off and Len, and appends the blocks in ascending order,
// which do not overlap; guest bytes in no block are zeros (or, for a writer
// with a backing image, the backing image's). Plain data is best read to its
// place in Buf, at its guest offset less Off. Whatever part of the last unit
// lies beyond the disk's end is filled with zeros.
type Batch struct {
	Off, Len int64 // guest range: Off is a multiple of BatchSize, Len at most BatchSize
	Blocks   []Block
	Buf      []byte // BatchSize bytes, for plain data in its place
	Stored   []byte // an arena for streams that are moved without being recompressed: reset and grown by the filler

	// Plan is the writer's own: what Encode leaves for Place, and Place for Store.
	Plan any
}

// Reset empties the batch for the guest range [off, off+n).
func (b *Batch) Reset(off, n int64) {
	b.Off, b.Len = off, n
	b.Blocks = b.Blocks[:0]
	b.Stored = b.Stored[:0]
}
