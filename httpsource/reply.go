package httpsource

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/diskimage-go/diskimage"
)

// A reply is the answer to one GET. Closing it ends the request.
type reply struct {
	*http.Response
	ctx          context.Context
	cancel       context.CancelCauseFunc
	stallTimeout time.Duration
	secrets      secrets
}

var errStalled = errors.New("the server is silent")

// watch ends the request unless its result is stopped in time. Only waiting
// for the server is watched: whoever reads the body may take his time.
func (r *reply) watch() *time.Timer {
	return time.AfterFunc(r.stallTimeout, func() { r.cancel(errStalled) })
}

// Read reads the body. A body that ends before the length that the header
// tells is [io.ErrUnexpectedEOF], as a temporary error.
func (r *reply) Read(p []byte) (int, error) {
	stall := r.watch()
	n, err := r.Body.Read(p)
	stall.Stop()
	if err != nil && err != io.EOF {
		err = r.trouble(err)
	}
	return n, err
}

// Close ends the request. What little is left of the body is read, so that
// the connection can be used again.
func (r *reply) Close() error {
	if r.ctx.Err() == nil && r.ContentLength >= 0 && r.ContentLength <= 4<<10 {
		io.Copy(io.Discard, r) //nolint:errcheck // the connection is lost, no more
	}
	err := r.Body.Close()
	r.cancel(nil)
	return err
}

// trouble returns what the error of a request or of reading its answer means,
// without secrets.
func (r *reply) trouble(err error) error {
	if r.ctx.Err() != nil {
		if cause := context.Cause(r.ctx); cause != errStalled {
			return cause
		}
		return &temporary{err: fmt.Errorf("no byte came for %v: %w", r.stallTimeout, errStalled)}
	}
	var refusal *refusal
	if errors.As(err, &refusal) {
		return refusal.error
	}
	clean := r.secrets.clean(err)
	if permanent(err) {
		return clean
	}
	return &temporary{err: clean}
}

// quote returns a header's value for a message.
func (r *reply) quote(key string) string {
	return diskimage.Quote(r.secrets.scrub(strings.Join(r.Header.Values(key), ", ")))
}
