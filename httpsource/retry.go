package httpsource

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"
)

// A temporary error is one that another attempt may not meet.
type temporary struct {
	err   error
	after time.Duration // the server asks to wait for that long; 0 if it does not
}

func (t *temporary) Error() string { return t.err.Error() }
func (t *temporary) Unwrap() error { return t.err }

// passes reports whether an answer of that status may be another one later.
func passes(status int) bool {
	return status >= 500 || status == http.StatusTooManyRequests
}

// permanent reports whether an error of a request will be met again: the name
// does not exist, or who answers is not who he should be.
func permanent(err error) bool {
	var (
		name        *net.DNSError
		certificate *tls.CertificateVerificationError
		record      tls.RecordHeaderError
	)
	return errors.As(err, &name) && name.IsNotFound ||
		errors.As(err, &certificate) || errors.As(err, &record)
}

// longestRetryAfter bounds what a server can make us wait.
const longestRetryAfter = time.Minute

// persist calls attempt until it succeeds, fails with what is not temporary,
// or fails without progress as often as the options allow.
func (c *client) persist(ctx context.Context, attempt func() (progress bool, err error)) error {
	for failed := 0; ; {
		progress, err := attempt()
		var t *temporary
		if !errors.As(err, &t) {
			return err
		}
		if progress {
			failed = 0
		}
		if failed++; failed >= c.o.Attempts {
			return fmt.Errorf("%w (%d attempts in a row)", t.err, failed)
		}
		wait := c.o.Backoff << min(failed-1, 6)
		timer := time.NewTimer(max(wait, min(t.after, longestRetryAfter)))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		}
	}
}

// retryAfter returns what a header of that name tells, RFC 9110, section
// 10.2.3: seconds or a date; 0 if it tells nothing.
func retryAfter(h http.Header) time.Duration {
	text := h.Get("Retry-After")
	if seconds, err := strconv.ParseUint(text, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second
	}
	if date, err := http.ParseTime(text); err == nil {
		return max(0, time.Until(date))
	}
	return 0
}

// fill reads the bytes from off on into p, which is not empty and ends within
// the object. progress, if not nil, is told how many have come, each time that
// some have. What was read before an error is read for good: each attempt goes
// on where the one before it ended.
func (c *client) fill(ctx context.Context, p []byte, off int64, progress func(n int)) error {
	return c.persist(ctx, func() (bool, error) {
		r, err := c.get(ctx, off, off+int64(len(p)))
		if err != nil {
			return false, err
		}
		defer r.Close()
		if err := c.check(r, off, off+int64(len(p))); err != nil {
			return false, err
		}
		n, err := r.readFull(p, progress)
		p, off = p[n:], off+int64(n)
		return n > 0, err
	})
}

// readFull reads the body, which is to be as long as p.
func (r *reply) readFull(p []byte, progress func(n int)) (n int, err error) {
	for n < len(p) {
		m, err := r.Read(p[n:])
		n += m
		if m > 0 && progress != nil {
			progress(m)
		}
		switch {
		case n == len(p):
		case err == io.EOF:
			return n, &temporary{err: fmt.Errorf("the answer ends after %d of %d bytes", n, len(p))}
		case err != nil:
			return n, err
		}
	}
	if r.ContentLength < 0 { // else it was held against the range
		var more [1]byte
		if m, _ := r.Read(more[:]); m > 0 {
			return n, errors.New("the answer holds more bytes than its Content-Range tells")
		}
	}
	return n, nil
}
