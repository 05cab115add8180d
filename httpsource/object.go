package httpsource

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/diskimage-go/diskimage"
)

// An Object is what a URL leads to. One of its fields is set, the other nil.
type Object struct {
	Source *Source // random access
	Stream *Stream // front to back, once: the server gives no ranges
}

// Get asks for an http or https URL. It returns when the first answer has
// come, with the front of the object or, if the server gives nothing but the
// whole of it, with the stream that this begins. What it returns is to be
// closed.
//
// ctx ends whatever the object does until it is closed, not only Get.
//
// A redirect that is refused and an address that [PublicOnly] refuses are
// [diskimage.ErrExternal]; for secrets in errors see the package's comment.
func Get(ctx context.Context, url string, o Options) (*Object, error) {
	life, end := context.WithCancelCause(ctx)
	c, err := newClient(life, url, o)
	if err != nil {
		end(nil)
		return nil, err
	}
	object, err := c.open(life, end)
	if err != nil {
		end(nil)
		c.close()
		return nil, c.named(err)
	}
	return object, nil
}

// named says in err which object it is about.
func (c *client) named(err error) error {
	if e, ok := err.(*diskimage.Error); ok {
		named := *e
		named.Field = c.name
		return &named
	}
	return fmt.Errorf("%s: %w", c.name, err)
}

// open asks for the front of the object, which tells its size and whether
// there are ranges.
func (c *client) open(life context.Context, end context.CancelCauseFunc) (*Object, error) {
	var (
		whole *reply // the answer that is the object, not a range of it
		front []byte
		got   int
	)
	err := c.persist(life, func() (_ bool, err error) {
		r, err := c.get(life, 0, blockSize)
		if err != nil {
			return false, err
		}
		defer func() {
			if whole != r {
				r.Close()
			}
		}()
		switch r.StatusCode {
		case http.StatusPartialContent:
			size, err := r.front()
			if err != nil {
				return false, err
			}
			c.version = newVersion(r.Header, size)
			front = make([]byte, min(size, blockSize))
			got, err = r.readFull(front, nil)
			if t := (*temporary)(nil); errors.As(err, &t) {
				return true, nil // the rest is asked for below
			}
			return true, err
		case http.StatusOK:
			if err := r.plain(); err != nil {
				return false, err
			}
			if r.ContentLength == 0 { // as some answer for an object without bytes
				c.version = newVersion(r.Header, 0)
				return true, nil
			}
			if r.ContentLength < 0 && r.ProtoMajor == 1 && len(r.TransferEncoding) == 0 {
				return false, errors.New("the server gives neither ranges nor the object's size, and does not mark its end: a broken connection would pass for it")
			}
			whole = r
			return true, nil
		case http.StatusRequestedRangeNotSatisfiable:
			if n, err := parseContentRange(r.Header.Get("Content-Range")); err == nil && n.size == 0 {
				c.version = newVersion(r.Header, 0)
				return true, nil
			}
		}
		return false, r.status(false)
	})
	if err == nil && got < len(front) {
		err = c.fill(life, front[got:], int64(got), nil)
	}
	switch {
	case err != nil:
		return nil, err
	case whole != nil:
		return &Object{Stream: &Stream{c: c, r: whole, end: end}}, nil
	}
	return &Object{Source: newSource(c, life, end, front)}, nil
}

// front returns the object's size as told by the answer to a GET of its first
// block.
func (r *reply) front() (int64, error) {
	if err := r.plain(); err != nil {
		return 0, err
	}
	got, err := r.contentRange()
	if err == nil && (got.off != 0 || got.end != min(got.size, blockSize)) {
		err = fmt.Errorf("the server answers with %d bytes at %d of %d where the first %d were asked for", got.end-got.off, got.off, got.size, blockSize)
	}
	return got.size, err
}
