package httpsource

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/diskimage-go/diskimage"
)

// A version is what the first answer tells of the object: later ones must
// tell the same.
type version struct {
	size     int64
	etag     string // "" if there is none
	modified string // Last-Modified, as the server has it; "" if there is none
}

func newVersion(h http.Header, size int64) *version {
	return &version{size: size, etag: h.Get("ETag"), modified: h.Get("Last-Modified")}
}

// strong reports whether there is an entity tag that differs between any two
// contents: RFC 9110, section 8.8.3.
func (v *version) strong() bool {
	return len(v.etag) >= 2 && v.etag[0] == '"' && v.etag[len(v.etag)-1] == '"'
}

// differs returns which validator of an answer is not the first one's, or "".
// One that is not told any more counts: nothing shows that it is the same.
func (v *version) differs(h http.Header) string {
	switch {
	case h.Get("ETag") != v.etag:
		return "ETag"
	case !v.strong() && h.Get("Last-Modified") != v.modified:
		return "Last-Modified"
	}
	return ""
}

// isChanged returns, and keeps for all that ask later, that the object is
// another one now.
func (c *client) isChanged(format string, args ...any) error {
	err := &diskimage.Error{Kind: diskimage.ErrChanged, Off: -1,
		Msg: "the object changed while it was read: " + fmt.Sprintf(format, args...)}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.changed == nil {
		c.changed = err
	}
	return err
}

// check returns an error unless r is the answer to a GET of [off, end), which
// lies inside the object, of the version that the first answer told. An object
// without bytes has no range: off is not looked at.
func (c *client) check(r *reply, off, end int64) error {
	v := c.version
	switch r.StatusCode {
	case http.StatusPartialContent, http.StatusOK:
		if err := r.plain(); err != nil {
			return err
		}
		if what := v.differs(r.Header); what != "" {
			return c.isChanged("its %s is not what it was", what)
		}
	}
	switch r.StatusCode {
	case http.StatusPartialContent:
		got, err := r.contentRange()
		switch {
		case err != nil:
			return err
		case got.size != v.size:
			return c.isChanged("it is %d bytes long, it was %d", got.size, v.size)
		case got.off != off || got.end != end:
			return fmt.Errorf("the server answers with %d bytes at %d where %d at %d were asked for",
				got.end-got.off, got.off, end-off, off)
		}
		return nil
	case http.StatusOK:
		switch n := r.ContentLength; {
		case n >= 0 && n != v.size:
			return c.isChanged("it is %d bytes long, it was %d", n, v.size)
		case v.size == 0:
			return nil
		}
		return errors.New("the server answers with the whole object where it gave a range before")
	case http.StatusRequestedRangeNotSatisfiable:
		got, err := parseContentRange(r.Header.Get("Content-Range"))
		switch {
		case err == nil && got.size != v.size:
			return c.isChanged("it is %d bytes long, it was %d", got.size, v.size)
		case v.size == 0:
			return nil
		}
	case http.StatusPreconditionFailed:
		return c.isChanged("the server refuses the ETag that it had")
	}
	return r.status(true)
}

// plain returns an error if the body is not the object itself.
func (r *reply) plain() error {
	for _, coding := range r.Header.Values("Content-Encoding") {
		if coding != "" && !strings.EqualFold(coding, "identity") {
			return fmt.Errorf("the server sends the object encoded (Content-Encoding: %s), though it was asked for it as it is", r.quote("Content-Encoding"))
		}
	}
	return nil
}

// A byteRange is what a Content-Range tells: the bytes [off, end) of an
// object. Of an answer without bytes off and end are 0.
type byteRange struct{ off, end, size int64 }

// contentRange returns what a 206 tells, which fits what is known of the body.
func (r *reply) contentRange() (byteRange, error) {
	got, err := parseContentRange(r.Header.Get("Content-Range"))
	switch {
	case len(r.Header.Values("Content-Range")) == 0:
		return got, errors.New("the server answers with a range, and not with which one (no Content-Range)")
	case err != nil || got.end == 0:
		return got, fmt.Errorf("the Content-Range %s %w", r.quote("Content-Range"), errNoRange)
	case r.ContentLength >= 0 && r.ContentLength != got.end-got.off:
		return got, fmt.Errorf("the answer's Content-Length is %d, and its Content-Range one of %d bytes", r.ContentLength, got.end-got.off)
	}
	return got, nil
}

var errNoRange = errors.New("does not tell a range and the object's size")

// parseContentRange decodes RFC 9110, section 14.4: "bytes 0-9/100", or
// "bytes */100" of an answer without bytes. The size must be told.
func parseContentRange(s string) (r byteRange, err error) {
	unit, rest, _ := strings.Cut(s, " ")
	span, size, ok := strings.Cut(rest, "/")
	if !ok || !strings.EqualFold(unit, "bytes") {
		return r, errNoRange
	}
	if r.size, ok = parseLength(size); !ok {
		return r, errNoRange
	}
	if span == "*" {
		return r, nil
	}
	first, last, _ := strings.Cut(span, "-")
	off, ok := parseLength(first)
	end, ok2 := parseLength(last)
	if !ok || !ok2 || off > end || end >= r.size {
		return r, errNoRange
	}
	r.off, r.end = off, end+1
	return r, nil
}

// parseLength decodes decimal digits and nothing else.
func parseLength(s string) (int64, bool) {
	n, err := strconv.ParseUint(s, 10, 63)
	return int64(n), err == nil
}
