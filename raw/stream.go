package raw

import (
	"errors"
	"fmt"
	"io"

	"github.com/diskimage-go/diskimage"
)

// A Stream is a raw disk that is read once, front to back: standard input, a
// pipe, a decompressor. It is not safe for concurrent use.
type Stream struct {
	r    io.Reader
	size int64 // -1: not known yet
	off  int64 // bytes read so far
	err  error // what ended the stream
}

var _ diskimage.Stream = (*Stream)(nil)

// NewStream returns what r holds as a disk of size bytes, or, if size is -1,
// of as many as there are. Where a size is given the input must be exactly as
// long: a shorter one is ErrTruncated, a longer one ErrFormat, once its end is
// reached. Closing the stream closes r if it is an io.Closer.
func NewStream(r io.Reader, size int64) *Stream {
	return &Stream{r: r, size: max(size, -1)}
}

// Size returns the disk's length, or -1 until NextBlock has returned io.EOF
// where it was not given.
func (s *Stream) Size() int64 { return s.size }

// Close closes the reader if it is an io.Closer.
func (s *Stream) Close() error {
	if c, ok := s.r.(io.Closer); ok {
		return c.Close()
	}
	return nil
}

// NextBlock fills buf, whatever pieces the reader gives, and returns it as a
// block of plain data; the blocks follow each other without a gap. The last
// one is as long as what is left, to the byte: filling it up to a unit of
// some format is for the one who writes it. After the last one it returns
// io.EOF. An error stays.
func (s *Stream) NextBlock(buf []byte) (diskimage.Block, error) {
	if s.err != nil {
		return diskimage.Block{}, s.err
	}
	if len(buf) == 0 {
		return diskimage.Block{}, errors.New("raw: a block cannot be read into an empty buffer")
	}
	if s.size >= 0 {
		left := s.size - s.off
		if left == 0 {
			s.err = s.end()
			return diskimage.Block{}, s.err
		}
		buf = buf[:min(int64(len(buf)), left)]
	}
	n, err := fill(s.r, buf)
	b := diskimage.Block{Off: s.off, Len: int64(n), Data: buf[:n]}
	s.off += int64(n)
	switch {
	case err == nil:
		return b, nil
	case err != io.EOF:
		s.err = fmt.Errorf("raw: reading the input at %d: %w", s.off, err)
		return diskimage.Block{}, s.err
	case s.size >= 0: // less than buf, which was cut to the size
		s.err = &diskimage.Error{Kind: diskimage.ErrTruncated, Format: Name, Off: s.off, Field: "input",
			Msg: fmt.Sprintf("ends here, it should hold %d bytes", s.size)}
		return diskimage.Block{}, s.err
	}
	s.size, s.err = s.off, io.EOF
	if n == 0 {
		return diskimage.Block{}, io.EOF
	}
	return b, nil
}

// end returns io.EOF if the input ends where the disk does.
func (s *Stream) end() error {
	var one [1]byte
	switch n, err := fill(s.r, one[:]); {
	case n > 0:
		return &diskimage.Error{Kind: diskimage.ErrFormat, Format: Name, Off: s.off, Field: "input",
			Msg: fmt.Sprintf("goes on here, it should hold %d bytes", s.size)}
	case err != io.EOF:
		return fmt.Errorf("raw: reading the input at %d: %w", s.off, err)
	}
	return io.EOF
}

// fill reads until p is full or the reader returns an error. Unlike
// io.ReadFull it tells an end after some bytes by io.EOF, believes a reader's
// io.ErrUnexpectedEOF to be its own (a decompressor's, whose input is cut
// short), and gives up on one that returns nothing time and again.
func fill(r io.Reader, p []byte) (n int, err error) {
	const patience = 100
	for idle := 0; n < len(p); {
		m, err := r.Read(p[n:])
		if m < 0 || m > len(p)-n {
			return n, errors.New("the reader returns an impossible count")
		}
		n += m
		if n == len(p) {
			break // an error that came along comes again
		}
		if err != nil {
			return n, err
		}
		if idle++; m > 0 {
			idle = 0
		} else if idle == patience {
			return n, io.ErrNoProgress
		}
	}
	return n, nil
}
