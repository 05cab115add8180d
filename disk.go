package diskimage

import (
	"context"
	"io"
	"iter"
)

// A VirtualDisk is a guest disk: read-only, random access. All methods but
// Close are safe for concurrent use.
//
// ReadAt reads guest bytes; holes read as zeros. It returns fewer than len(p)
// bytes only with an error, and that is io.EOF only at the disk's end. Any
// other error means that the bytes are not known: nothing is ever made up.
type VirtualDisk interface {
	io.ReaderAt
	io.Closer

	// Size returns the guest disk's length, exact to the byte.
	Size() int64

	// NextExtent returns the extent that holds the guest offset off, cut to
	// start there. It returns io.EOF when off is Size(), and an error that is
	// not io.EOF for any other offset outside the disk.
	NextExtent(off int64) (Extent, error)
}

// Extents ranges over the guest bytes [off, off+n), clipped to the disk, as
// the longest extents that can be said of them: neighbours of one kind, one
// layer and, for data that is stored plain, one host run become one. A
// compressed extent is one unit and is never joined with another.
// The iteration ends at the first error, which it yields with a zero Extent.
func Extents(d VirtualDisk, off, n int64) iter.Seq2[Extent, error] {
	return func(yield func(Extent, error) bool) {
		end := min(d.Size(), satAdd(off, n))
		var held Extent
		for off < end {
			e, err := d.NextExtent(off)
			if err == nil && (e.Off != off || e.Len <= 0) {
				err = &Error{Kind: ErrCorrupt, Off: -1, Msg: "an extent is empty or does not start where it was asked for"}
			}
			if err != nil {
				if err == io.EOF { // the disk ends before its Size
					err = io.ErrUnexpectedEOF
				}
				if held.Len > 0 && !yield(held, nil) {
					return
				}
				yield(Extent{}, err)
				return
			}
			e = e.Clip(off, end-off)
			off += e.Len
			switch {
			case held.Len == 0:
				held = e
			case held.Continues(e):
				held.Len += e.Len
			default:
				if !yield(held, nil) {
					return
				}
				held = e
			}
		}
		if held.Len > 0 {
			yield(held, nil)
		}
	}
}

// satAdd adds two lengths and stops at the largest int64.
func satAdd(a, b int64) int64 {
	if s := a + b; s >= a || b < 0 {
		return s
	}
	return 1<<63 - 1
}

// A Source is the bytes of an image file: random access, safe for concurrent
// use. An *os.File is made one by package convert; anything else that can be
// read at an offset by [NewSource].
//
// What else a Source can do it says by implementing [HoleMapper], [Prefetcher]
// or io.Closer.
type Source interface {
	io.ReaderAt
	// Size returns the file's length.
	Size() int64
}

// A HoleMapper is a Source that knows which of its bytes are not allocated,
// as SEEK_DATA and SEEK_HOLE of lseek(2) tell.
type HoleMapper interface {
	// NextRange returns the end (exclusive) of the range of allocated bytes,
	// or of the hole, that off lies in. off is inside the file.
	NextRange(off int64) (end int64, hole bool, err error)
}

// A Prefetcher is a Source whose bytes are far away, and that can have them
// come before they are read.
type Prefetcher interface {
	// Prefetch says that the n bytes at off will be read, once, and after
	// those of the calls before. It is a hint: no ReadAt returns other bytes
	// or fails for it, it may be dropped, and what of it lies outside of the
	// file counts for nothing. It returns without waiting for a byte, and is
	// safe to call at any time, after Close too.
	Prefetch(off, n int64)
}

// NewSource returns the first size bytes of r as a Source.
func NewSource(r io.ReaderAt, size int64) Source { return readerSource{r, size} }

type readerSource struct {
	io.ReaderAt
	size int64
}

func (s readerSource) Size() int64 { return s.size }

func (s readerSource) Close() error {
	if c, ok := s.ReaderAt.(io.Closer); ok {
		return c.Close()
	}
	return nil
}

// A Stream is a guest disk that can be read once, front to back: a pipe. What
// else it can do it says by implementing [Unsorted].
type Stream interface {
	io.Closer

	// Size returns the guest disk's length, or -1 while it is not known; after
	// NextBlock has returned io.EOF it is known.
	Size() int64

	// NextBlock returns the next block of the guest disk, in ascending order,
	// reading into buf, which must hold at least one unit of the format. What
	// lies between two blocks is zeros. The block is valid until buf is used
	// again.
	NextBlock(buf []byte) (Block, error)
}

// An Unsorted is a Stream whose blocks may lie in any order in what it is read
// from. It returns those that come in ascending order, and refuses the first
// that does not with [ErrUnsupported], unless AnyOrder was called before the
// first NextBlock: then it returns all as they come, each guest byte once.
type Unsorted interface {
	AnyOrder()
}

// A Sourcer is a VirtualDisk that can hand over the files in which its extents'
// bytes lie.
type Sourcer interface {
	// SourceOf returns the file in which e, which NextExtent returned, lies at
	// e.Host, or nil if that is not known. It stays the disk's to close.
	SourceOf(e Extent) Source
}

// A StoredReader is a VirtualDisk that can hand over a compressed extent as
// it is stored.
type StoredReader interface {
	// ReadStored returns the compressed extent e, which NextExtent returned
	// whole, using buf's memory if it is large enough: the stream may start
	// anywhere in it.
	ReadStored(e Extent, buf []byte) (Stored, error)
}

// Stored is one compressed unit as it lies in an image.
type Stored struct {
	// Stream is the bare deflate (RFC 1951) or zstd (RFC 8878) stream, and
	// what may follow it.
	Stream []byte

	// Exact says that nothing follows the stream but the checksum, if there is
	// one; if not, the rest of Stream is to be ignored.
	Exact bool

	// Adler32 says that the four bytes behind a deflate stream's end are the
	// Adler-32 of the guest bytes, big-endian (RFC 1950, section 2.2). Whoever
	// decodes the stream holds it against them.
	Adler32 bool
}

// A MapChecker is a VirtualDisk that can tell, without reading guest data,
// whether its tables hold together: whatever they point to lies inside the
// file, nothing is used twice that may be used once, and no data lies inside
// metadata.
type MapChecker interface {
	CheckMap() error
}

// An Attester is a Source or VirtualDisk that may lie in a container with
// checksums of the file that it is read from, as an OVA's manifest has.
type Attester interface {
	// Attest reads that file whole and returns an error of kind [ErrCorrupt] if
	// it is not what the checksums are of. It is safe to call while the disk is
	// read, and does so no more than once. Where there are no checksums it
	// returns nil at once.
	Attest(ctx context.Context) error
}

// A Noter has something to say that is no error: a damaged copy survived, a
// size padded. Notes returns what was noted so far, in a stable order. A
// disk's are followed by those of the Source that it is read from.
type Noter interface {
	Notes() []Note
}

// A Note is one such fact.
type Note struct {
	Format string // the format's name, as in [Error]
	Text   string // one line
}

func (n Note) String() string {
	if n.Format == "" {
		return n.Text
	}
	return n.Format + ": " + n.Text
}

// NotesOf returns what v notes, or nil.
func NotesOf(v any) []Note {
	if n, ok := v.(Noter); ok {
		return n.Notes()
	}
	return nil
}

// A ChangeDetector is a Source or VirtualDisk that can tell whether the file
// under it is still what it was when it was opened. Changed returns an error
// of kind [ErrChanged] if it is not.
type ChangeDetector interface {
	Changed() error
}
