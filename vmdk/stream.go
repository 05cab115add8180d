package vmdk

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/internal/adler32"
	"github.com/diskimage-go/diskimage/internal/inflate"
	"github.com/diskimage-go/diskimage/internal/notes"
	"github.com/diskimage-go/diskimage/internal/zero"
)

// StreamOptions say how a stream is read.
type StreamOptions struct {
	Notes []diskimage.Note // what is known of the image already; default none
}

// A Stream is the disk in a streamOptimized image that is read once, front to
// back. It is not safe for concurrent use.
//
// Grains are handed over as they are stored, with their checksum
// ([diskimage.Block.Checked]): whoever decodes them finds out whether they are
// sound. Only the last grain of a disk that is no multiple of grains is
// decoded here.
//
// Once NextBlock has returned io.EOF the stream was whole: it has ended where
// its format lets it end, and the grain tables, wherever they are, name the
// grains that were in it, where they were, and no others.
type Stream struct {
	r       *bufio.Reader
	closer  io.Closer // of the reader that was given; nil if it has nothing to close
	pos     int64     // host offset of what r gives next
	h       *sparseHeader
	d       *descriptor
	index   streamIndex
	notes   notes.List
	started bool
	err     error // what ended the stream

	next int64               // the grain after the last one
	seen map[int64]*grainSet // in any order: which grains were there, by table; else nil
}

// A grainSet has a bit for each entry of a grain table.
type grainSet [numGTEsPerGT / 64]uint64

var (
	_ diskimage.Stream   = (*Stream)(nil)
	_ diskimage.Unsorted = (*Stream)(nil)
	_ diskimage.Noter    = (*Stream)(nil)
)

// markerLen is what there is of a marker of metadata.
const markerLen = offMarkerType + 4

// streamBuffer is how much is read at once from what gives so much.
const streamBuffer = 1 << 20

// NewStream reads the header and the descriptor of the image that r gives. It
// has to be a sparse extent with compressed grains and markers: any other kind
// is ErrUnsupported, since what its tables say is needed to read it.
//
// Memory: a buffer of 1 MiB, or of a stored grain's largest size if that is more
// (4 MiB), and some tens of bytes for each grain table that is not empty.
//
// Closing the stream closes r if it is an io.Closer. After an error r is left
// to the caller.
func NewStream(r io.Reader, o StreamOptions) (*Stream, error) {
	s := &Stream{r: bufio.NewReaderSize(r, streamBuffer), index: newStreamIndex()}
	s.notes.Format = Name
	s.notes.Start(o.Notes)
	s.closer, _ = r.(io.Closer)
	if err := s.readHeader(); err != nil {
		return nil, err
	}
	if room := int(s.maxGrainData() + 2*sectorSize); room > streamBuffer {
		s.r = bufio.NewReaderSize(s.r, room)
	}
	return s, nil
}

// Size returns the disk's length.
func (s *Stream) Size() int64 { return s.h.size() }

// Notes returns what was noted so far.
func (s *Stream) Notes() []diskimage.Note { return s.notes.All() }

// Info returns what the image says of itself.
func (s *Stream) Info() Info {
	i := infoOf(s.h, s.d)
	e := s.d.extents[0].info()
	e.GrainSize, e.Compressed = s.h.grainBytes(), true
	i.Extents = []ExtentInfo{e}
	return i
}

// Close closes the reader that was given if it is an io.Closer.
func (s *Stream) Close() error {
	if s.closer != nil {
		return s.closer.Close()
	}
	return nil
}

// AnyOrder makes NextBlock return grains in the order in which they lie in the
// stream. It remembers which there were: one bit for each.
func (s *Stream) AnyOrder() { s.seen = map[int64]*grainSet{} }

// NextBlock returns the next grain. Its Data is the stream's own memory, valid
// until the next call: buf is not used. After the last grain it returns io.EOF.
// An error stays.
func (s *Stream) NextBlock([]byte) (diskimage.Block, error) {
	if s.err != nil {
		return diskimage.Block{}, s.err
	}
	b, err := s.nextBlock()
	s.err = err
	return b, err
}

func (s *Stream) nextBlock() (diskimage.Block, error) {
	if !s.started {
		s.started = true
		if err := s.readFront(); err != nil {
			return diskimage.Block{}, err
		}
	}
	for {
		m, err := s.marker()
		switch {
		case err != nil:
			return diskimage.Block{}, err
		case m.size != 0:
			return s.grain(m)
		case m.kind == markerEOS:
			return diskimage.Block{}, s.endOfStream(m)
		case m.kind == markerFooter && s.h.gdOffset == gdAtEnd:
			err = s.footer()
		case m.kind == markerGT || m.kind == markerGD || m.kind == markerFooter:
			err = s.metadata(m)
		default:
			err = fail(diskimage.ErrCorrupt, s.pos+offMarkerType, "marker: type", "%d is none", m.kind)
		}
		if err != nil {
			return diskimage.Block{}, err
		}
	}
}

// marker returns the marker that comes next, which is left in r. Where the
// stream ends without one it returns the error that ends it.
func (s *Stream) marker() (marker, error) {
	b, err := s.peek(sectorSize)
	if err != nil {
		return marker{}, err
	}
	var head [markerLen]byte
	copy(head[:], b)
	m := decodeMarker(head[:])
	switch {
	case len(b) == sectorSize || m.size != 0: // of a grain the padding may be missing, at the end of the file
		return m, nil
	case s.h.gdOffset == gdAtEnd || !zero.Is(b):
		return m, s.cut("marker")
	}
	// Without an end-of-stream marker.
	return m, s.end(diskimage.ErrTruncated)
}

// maxGrainData returns how long the compressed data of a grain may be: QEMU's
// limit. No compressor makes more of what it cannot compress.
func (s *Stream) maxGrainData() int64 { return 2*s.h.grainBytes() - grainMarkerLen }

// grain reads the grain whose marker is m.
func (s *Stream) grain(m marker) (diskimage.Block, error) {
	none := diskimage.Block{}
	size := int64(m.size)
	switch {
	case size < minStreamLen || size > s.maxGrainData():
		return none, fail(diskimage.ErrCorrupt, s.pos+offMarkerSize, "grain marker: size", "%d is not in %d to %d", size, minStreamLen, s.maxGrainData())
	case m.val%s.h.grainSize != 0:
		return none, fail(diskimage.ErrCorrupt, s.pos+offMarkerVal, "grain marker: val", "sector %d starts no grain of %d sectors", m.val, s.h.grainSize)
	case m.val >= s.h.capacity:
		return none, fail(diskimage.ErrCorrupt, s.pos+offMarkerVal, "grain marker: val", "sector %d lies beyond the disk of %d sectors", m.val, s.h.capacity)
	}
	grain := int64(m.val / s.h.grainSize)
	if s.index.directory != 0 {
		return none, fail(diskimage.ErrCorrupt, s.pos, fmt.Sprintf("grain %d", grain), "it comes after the grain directory")
	}
	if err := s.admit(grain); err != nil {
		return none, err
	}
	used := grainMarkerLen + size
	b, err := s.peek(int(roundUp(used, sectorSize)))
	if err != nil {
		return none, err
	}
	if int64(len(b)) < used {
		return none, s.cut(fmt.Sprintf("grain %d", grain))
	}
	s.index.grain(grain, s.pos/sectorSize)
	data, err := unwrapZlib(b[grainMarkerLen:used])
	if err != nil {
		return none, fail(diskimage.ErrCorrupt, s.pos+offMarkerData, fmt.Sprintf("grain %d", grain), "%v", err)
	}
	blk := diskimage.Block{Off: int64(m.val) * sectorSize, Len: s.h.grainBytes(), Enc: diskimage.Deflate, Data: data, Checked: true}
	if inside := s.Size() - blk.Off; inside < blk.Len {
		blk, err = s.lastGrain(blk, inside)
		if err != nil {
			return none, fail(diskimage.ErrCorrupt, s.pos+offMarkerData, fmt.Sprintf("grain %d", grain), "%v", err)
		}
	}
	s.skipPeeked(b)
	return blk, nil
}

// admit takes note that a grain came, or refuses it.
func (s *Stream) admit(grain int64) error {
	twice := func() error {
		return fail(diskimage.ErrCorrupt, s.pos, fmt.Sprintf("grain %d", grain), "it was in the stream before")
	}
	if s.seen != nil {
		table := grain / numGTEsPerGT
		if s.seen[table] == nil {
			s.seen[table] = new(grainSet)
		}
		word, bit := &s.seen[table][grain%numGTEsPerGT/64], uint64(1)<<(grain%64)
		if *word&bit != 0 {
			return twice()
		}
		*word |= bit
		return nil
	}
	switch {
	case grain == s.next-1:
		return twice()
	case grain < s.next:
		return fail(diskimage.ErrUnsupported, s.pos, fmt.Sprintf("grain %d", grain),
			"it comes after grain %d: a stream out of order is read to a raw file, without a digest, or with random access (--spool)", s.next-1)
	}
	s.next = grain + 1
	return nil
}

// lastGrain decodes the grain whose end lies beyond the disk's: products
// compress all of it, QEMU only what is inside.
func (s *Stream) lastGrain(b diskimage.Block, inside int64) (diskimage.Block, error) {
	p := make([]byte, b.Len)
	var d inflate.Decoder
	n, used, _, err := d.Decode(p, b.Data)
	if err != nil {
		return b, err
	}
	p = p[:n]
	if int64(n) != inside && int64(n) != b.Len {
		return b, fmt.Errorf("it holds %d bytes, neither %d nor %d", n, inside, b.Len)
	}
	if sum := b.Data[used:]; len(sum) != adlerLen || binary.BigEndian.Uint32(sum) != adler32.Checksum(p) {
		return b, errors.New("its checksum is wrong")
	}
	return diskimage.Block{Off: b.Off, Len: inside, Data: p[:inside]}, nil
}

// peek returns the next n bytes without taking them, fewer only where the
// stream ends.
func (s *Stream) peek(n int) ([]byte, error) {
	b, err := s.r.Peek(n)
	if err != nil && err != io.EOF {
		return nil, fmt.Errorf("%s: reading the stream at %#x: %w", Name, s.pos+int64(len(b)), err)
	}
	return b, nil
}

// skipPeeked takes the bytes that peek returned, which stay as they are until
// the next peek.
func (s *Stream) skipPeeked(b []byte) {
	n, _ := s.r.Discard(len(b)) // they are in its buffer
	s.pos += int64(n)
}

// take returns the next n bytes, which must be there, and takes them.
func (s *Stream) take(n int, what string) ([]byte, error) {
	b, err := s.peek(n)
	if err != nil {
		return nil, err
	}
	if len(b) < n {
		return nil, s.cut(what)
	}
	s.skipPeeked(b)
	return b, nil
}

// cut returns the error for a stream that ends inside of something.
func (s *Stream) cut(what string) error {
	return fail(diskimage.ErrTruncated, s.pos+int64(s.r.Buffered()), what, "the stream ends here")
}

// skipTo takes what comes before the host offset off.
func (s *Stream) skipTo(off int64, what string) error {
	for s.pos < off {
		if _, err := s.take(int(min(off-s.pos, streamBuffer/2)), what); err != nil {
			return err
		}
	}
	return nil
}
