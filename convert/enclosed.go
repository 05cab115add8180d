package convert

import (
	"errors"
	"io"
	"slices"

	"github.com/diskimage-go/diskimage"
)

// An enclosedStream is an image that comes front to back out of what encloses
// it: a package, an archive, a compressed file. Where the image ends the rest is
// read, and held against the checksums there: until then nothing that was read
// is known to be good.
type enclosedStream struct {
	diskimage.Stream
	finish func() error            // reads the rest
	within func(error) error       // says of an error of the image where the image is
	notes  func() []diskimage.Note // of what encloses the image
	close  func() error            // gives back what the reading took; nil: nothing
	err    error                   // what ended the stream
}

var (
	_ diskimage.Unsorted = (*enclosedStream)(nil)
	_ diskimage.Noter    = (*enclosedStream)(nil)
)

// AnyOrder asks the same of the stream inside; one that has an order keeps it.
func (s *enclosedStream) AnyOrder() {
	if u, ok := s.Stream.(diskimage.Unsorted); ok {
		u.AnyOrder()
	}
}

func (s *enclosedStream) NextBlock(buf []byte) (diskimage.Block, error) {
	if s.err != nil {
		return diskimage.Block{}, s.err
	}
	b, err := s.Stream.NextBlock(buf)
	if err == io.EOF {
		if ferr := s.finish(); ferr != nil {
			err = ferr
		}
	} else if err != nil {
		err = s.within(err)
	}
	s.err = err
	return b, err
}

// Notes returns what was noted of what encloses the image and of the image so
// far.
func (s *enclosedStream) Notes() []diskimage.Note {
	return slices.Concat(s.notes(), diskimage.NotesOf(s.Stream))
}

// Close closes the stream inside.
func (s *enclosedStream) Close() error {
	err := s.Stream.Close()
	if s.close != nil {
		err = errors.Join(err, s.close())
	}
	return err
}
