package vhd

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/diskimage-go/diskimage"
)

// StreamOptions say how a stream is shown. The zero value follows the footer.
type StreamOptions struct {
	// SizeRule is as in [Options]. Default: SizeAuto.
	SizeRule SizeRule

	// OrRaw says that the input may be a raw disk as well: if it does not end in
	// a footer, all of it is the disk. Default: it is an image, or an error.
	OrRaw bool

	// Notes are what is known of the image already: Notes returns them first.
	// Default: none.
	Notes []diskimage.Note
}

// A Stream is a fixed disk that is read once, front to back. Its last bytes,
// which tell what it is, are held back until its end is known. It is not safe
// for concurrent use.
type Stream struct {
	r     *bufio.Reader
	in    io.Reader
	o     StreamOptions
	front []byte // of the file, a footer's length
	off   int64  // bytes given so far
	size  int64
	notes []diskimage.Note
	err   error // what ended the stream
}

var (
	_ diskimage.Stream = (*Stream)(nil)
	_ diskimage.Noter  = (*Stream)(nil)
)

// streamBuffer is what is read ahead: a block and a footer.
const streamBuffer = diskimage.BatchSize + footerLen

// NewStream shows the fixed disk that r gives. The other types need random
// access: what tells where their blocks are may come behind them. Closing the
// stream closes r if it is an io.Closer.
func NewStream(r io.Reader, o StreamOptions) *Stream {
	return &Stream{r: bufio.NewReaderSize(r, streamBuffer), in: r, o: o, size: -1, notes: o.Notes}
}

// Size returns the disk's length, or -1 until NextBlock has returned io.EOF.
func (s *Stream) Size() int64 { return s.size }

// Notes returns what was noted so far.
func (s *Stream) Notes() []diskimage.Note { return s.notes }

// Close closes the reader if it is an io.Closer.
func (s *Stream) Close() error {
	if c, ok := s.in.(io.Closer); ok {
		return c.Close()
	}
	return nil
}

// NextBlock returns what follows as a block of plain data, as
// [diskimage.Stream] has it.
func (s *Stream) NextBlock(buf []byte) (diskimage.Block, error) {
	if s.err != nil {
		return diskimage.Block{}, s.err
	}
	if len(buf) == 0 {
		return diskimage.Block{}, errors.New("vpc: a block cannot be read into an empty buffer")
	}
	buf = buf[:min(len(buf), diskimage.BatchSize)]
	ahead, err := s.r.Peek(len(buf) + footerLen)
	switch {
	case err == nil:
		if s.off == 0 {
			s.front = bytes.Clone(ahead[:footerLen])
		}
		ahead = ahead[:len(buf)]
	case err != io.EOF:
		s.err = fmt.Errorf("vpc: reading the input at %d: %w", s.off+int64(len(ahead)), err)
		return diskimage.Block{}, s.err
	case s.size < 0:
		if s.err = s.end(ahead); s.err != nil {
			return diskimage.Block{}, s.err
		}
		fallthrough
	default: // all but the footer
		ahead = ahead[:min(s.size-s.off, int64(len(buf)))]
	}
	if len(ahead) == 0 {
		s.err = io.EOF
		return diskimage.Block{}, s.err
	}
	n := copy(buf, ahead)
	b := diskimage.Block{Off: s.off, Len: int64(n), Data: buf[:n]}
	if _, err := s.r.Discard(n); err != nil {
		return diskimage.Block{}, err // there are so many, they were seen
	}
	s.off += int64(n)
	return b, nil
}

// end finds out how long the disk is. ahead is all that is left of the input.
func (s *Stream) end(ahead []byte) error {
	f := &endedFile{front: s.front, tail: ahead, tailOff: s.off}
	if s.off == 0 {
		f.front = ahead
	}
	tail := ahead[max(0, len(ahead)-footerLen):]
	found := inspectEnd(tail)
	if found == nothing && s.o.OrRaw {
		s.size = f.Size()
		return nil
	}
	if found == sound {
		if old := len(tail) - oldFooterLen; inspect(tail) != sound {
			tail = tail[old:]
		}
		if t := decodeFooter(tail).diskType; t == Dynamic || t == Differencing {
			return fail(diskimage.ErrUnsupported, f.Size()-int64(len(tail)), "footer: disk type", "a dynamic or differencing disk needs random access: give the file's name instead of a stream, or a folder for a copy (--spool)")
		}
	}
	d, err := Open(context.Background(), f, Options{SizeRule: s.o.SizeRule, Notes: s.o.Notes})
	if err != nil {
		return err
	}
	if d.Size() < s.off {
		return fail(diskimage.ErrUnsupported, -1, "", "the disk has %d bytes, the stream had given %d when its footer said so: give the file's name instead of a stream, or a folder for a copy (--spool)", d.Size(), s.off)
	}
	s.size, s.notes = d.Size(), d.Notes()
	return nil
}

// inspectEnd says what p, the end of a file, is, be the footer as short as old
// ones.
func inspectEnd(p []byte) finding {
	found := nothing
	if len(p) == footerLen {
		found = inspect(p)
	}
	if found == nothing && len(p) >= oldFooterLen {
		found = inspect(p[len(p)-oldFooterLen:])
	}
	return found
}

// An endedFile is a file of which only the front and what comes from tailOff on
// are known.
type endedFile struct {
	front, tail []byte
	tailOff     int64
}

func (f *endedFile) Size() int64 { return f.tailOff + int64(len(f.tail)) }

func (f *endedFile) ReadAt(p []byte, off int64) (int, error) {
	switch {
	case off >= f.tailOff:
		return bytes.NewReader(f.tail).ReadAt(p, off-f.tailOff)
	case off+int64(len(p)) <= int64(len(f.front)):
		return copy(p, f.front[off:]), nil
	}
	return 0, fmt.Errorf("vpc: %d bytes at %#x have passed", len(p), off)
}
