package httpsource

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
)

// status returns the error that an answer without the object means. before
// says that the same URL was answered with bytes earlier.
func (r *reply) status(before bool) error {
	code := r.StatusCode
	switch {
	case (code == http.StatusBadRequest || code == http.StatusUnauthorized || code == http.StatusForbidden) && r.saysExpired():
		return fmt.Errorf("the link has expired (%d)", code)
	case code == http.StatusForbidden && before:
		return errors.New("the link has expired: what was allowed before is forbidden now (403)")
	case code == http.StatusUnauthorized && before:
		return errors.New("the authorization has expired: it was good before, and another is wanted now (401)")
	case code == http.StatusUnauthorized:
		return errors.New("the server wants an authorization, or a better one (401)")
	case code == http.StatusForbidden:
		return errors.New("access is forbidden (403)")
	case code == http.StatusNotFound && before:
		return errors.New("the object is not there any more (404)")
	case code == http.StatusNotFound:
		return errors.New("there is no such object (404)")
	case code == http.StatusGone:
		return errors.New("the object is gone (410)")
	case code == http.StatusRequestedRangeNotSatisfiable:
		return errors.New("the server refuses the range (416)")
	}
	err := fmt.Errorf("the server answers %d", code)
	if text := http.StatusText(code); text != "" { // ours, not the server's
		err = fmt.Errorf("%w (%s)", err, text)
	}
	if passes(code) {
		return &temporary{err: err, after: retryAfter(r.Header)}
	}
	return err
}

// saysExpired reports whether the page that explains an error says that a link
// or token is out of date. S3 has "Request has expired" and ExpiredToken,
// Google the same, Azure "not valid in the specified time frame". Nothing of it
// is shown.
func (r *reply) saysExpired() bool {
	page, _ := io.ReadAll(io.LimitReader(r, 4<<10)) // as far as it comes
	page = bytes.ToLower(page)
	return bytes.Contains(page, []byte("expired")) || bytes.Contains(page, []byte("specified time frame"))
}
