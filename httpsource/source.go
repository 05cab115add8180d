package httpsource

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"sync"

	"github.com/diskimage-go/diskimage"
)

// A Source is an object that the server gives in ranges: a
// [diskimage.Source], [diskimage.Prefetcher], [diskimage.ChangeDetector],
// [diskimage.Noter] and [io.Closer]. All methods are safe for concurrent use.
//
// What is small and not hinted is read in aligned blocks of 64 KiB, of which
// 8 MiB are kept; what is larger by a GET of its own.
type Source struct {
	c    *client
	life context.Context
	end  context.CancelCauseFunc

	blocks blocks

	mu     sync.Mutex // of all below
	closed bool
	users  sync.WaitGroup // calls and GETs under way
	notes  []diskimage.Note
	ahead
}

var (
	_ diskimage.Source         = (*Source)(nil)
	_ diskimage.Prefetcher     = (*Source)(nil)
	_ diskimage.ChangeDetector = (*Source)(nil)
	_ diskimage.Noter          = (*Source)(nil)
	_ io.Closer                = (*Source)(nil)
)

// newSource returns the source that c has had the first answer of: front is
// its first block.
func newSource(c *client, life context.Context, end context.CancelCauseFunc, front []byte) *Source {
	s := &Source{c: c, life: life, end: end, ahead: newAhead(c.o)}
	s.blocks.get(0, func() ([]byte, error) { return front, nil }) //nolint:errcheck // it is nil
	if v := c.version; v.etag == "" && v.modified == "" {
		s.notes = []diskimage.Note{{Text: c.name +
			": the server tells neither an ETag nor a time of modification, so that an object replaced by one of the same size would not be noticed"}}
	}
	return s
}

// Name returns the URL's scheme, host and path.
func (s *Source) Name() string { return s.c.name }

// Size returns the object's length.
func (s *Source) Size() int64 { return s.c.version.size }

// Notes returns what is no error and should be known.
func (s *Source) Notes() []diskimage.Note {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.notes)
}

// enter keeps Close waiting until the caller has called s.users.Done, or
// returns that it is too late.
func (s *Source) enter() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return s.c.named(fs.ErrClosed)
	}
	s.users.Add(1)
	return nil
}

// Close ends all requests and waits until they have ended; calls under way
// return [fs.ErrClosed]. It returns nil, also when it is called again.
func (s *Source) Close() error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.end(fs.ErrClosed)
	s.users.Wait()
	s.c.close()
	return nil
}

// ReadAt reads as io.ReaderAt demands. An object that is not what it was when
// it was opened is [diskimage.ErrChanged].
func (s *Source) ReadAt(p []byte, off int64) (n int, err error) {
	if off < 0 {
		return 0, s.c.named(fmt.Errorf("read at the negative offset %d", off))
	}
	if err := s.enter(); err != nil {
		return 0, err
	}
	defer s.users.Done()
	if off >= s.Size() {
		if len(p) == 0 {
			return 0, nil
		}
		return 0, io.EOF
	}
	cut := int64(len(p)) > s.Size()-off
	if cut {
		p = p[:s.Size()-off]
	}
	for n < len(p) {
		m, err := s.read(p[n:], off+int64(n))
		n += m
		if err != nil {
			return n, s.c.named(s.at(err, off+int64(n)))
		}
	}
	if cut {
		return n, io.EOF
	}
	return n, nil
}

// at says in err where reading failed.
func (s *Source) at(err error, off int64) error {
	if e, ok := err.(*diskimage.Error); ok {
		return e
	}
	return fmt.Errorf("reading at %#x: %w", off, err)
}

// read reads one byte at least of p, which lies inside the object.
func (s *Source) read(p []byte, off int64) (int, error) {
	if n, err := s.hinted(p, off); n > 0 || err != nil {
		return n, err
	}
	p = p[:s.unhinted(off, len(p))]
	start := off - off%blockSize
	if len(p) >= blockSize && off+int64(len(p)) > start+blockSize {
		read := 0
		err := s.c.fill(s.life, p, off, func(n int) { read += n })
		return read, err
	}
	block, err := s.blocks.get(start, func() ([]byte, error) {
		data := make([]byte, min(blockSize, s.Size()-start))
		return data, s.c.fill(s.life, data, start, nil)
	})
	if err != nil {
		return 0, err
	}
	return copy(p, block[off-start:]), nil
}

// Changed asks for the object once more, and returns [diskimage.ErrChanged] if
// it is not what it was when it was opened, or any answer since showed that.
// Where that cannot be asked any more, as when a link has expired since, it
// returns nil and notes it: the answers that what was read came by were all
// held against the first.
func (s *Source) Changed() error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.users.Done()
	err := s.c.persist(s.life, func() (bool, error) {
		r, err := s.c.get(s.life, 0, 1)
		if err != nil {
			return false, err
		}
		defer r.Close()
		return false, s.c.check(r, 0, 1)
	})
	if err != nil && s.life.Err() == nil && !errors.Is(err, diskimage.ErrChanged) {
		s.note("it could not be asked whether the object is still the same: " + err.Error())
		return nil
	}
	if err != nil {
		return s.c.named(err)
	}
	return nil
}

// note notes a fact once.
func (s *Source) note(text string) {
	n := diskimage.Note{Text: s.c.name + ": " + text}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.Contains(s.notes, n) {
		s.notes = append(s.notes, n)
	}
}
