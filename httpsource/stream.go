package httpsource

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"

	"github.com/diskimage-go/diskimage"
)

// A Stream is an object that the server gives in one piece only. It is read
// once, front to back, and what breaks it ends it: nothing could be asked for
// from the middle. Only Close may be called while another method runs.
type Stream struct {
	c   *client
	r   *reply
	end context.CancelCauseFunc
	got int64
	err error // of the last Read, for all later ones

	reading sync.Mutex // held while the body is read
}

var _ io.ReadCloser = (*Stream)(nil)

// Name returns the URL's scheme, host and path.
func (s *Stream) Name() string { return s.c.name }

// Size returns the object's length, or -1 if the server does not tell it.
func (s *Stream) Size() int64 { return s.r.ContentLength }

// Read reads on. It returns io.EOF only where the server marked the object's
// end; an answer that ends before is [diskimage.ErrTruncated].
func (s *Stream) Read(p []byte) (int, error) {
	s.reading.Lock()
	defer s.reading.Unlock()
	if s.err != nil || len(p) == 0 {
		return 0, s.err
	}
	n, err := s.r.Read(p)
	s.got += int64(n)
	switch {
	case err == nil:
	case err == io.EOF && (s.Size() < 0 || s.got == s.Size()):
		s.err = io.EOF
	case err == io.EOF || errors.Is(err, io.ErrUnexpectedEOF):
		e := &diskimage.Error{Kind: diskimage.ErrTruncated, Off: s.got, Msg: "the server's answer ends here"}
		if s.Size() >= 0 {
			e.Msg += fmt.Sprintf(", and is to be %d bytes long", s.Size())
		}
		s.err = s.c.named(e)
	default:
		s.err = s.c.named(fmt.Errorf("after %d bytes: %w", s.got, err))
	}
	return n, s.err
}

// Close ends the request, and a Read that waits for it with [fs.ErrClosed].
func (s *Stream) Close() error {
	s.end(fs.ErrClosed)
	s.reading.Lock()
	defer s.reading.Unlock()
	s.r.Close()
	s.c.close()
	if s.err == nil {
		s.err = s.c.named(fs.ErrClosed)
	}
	return nil
}
