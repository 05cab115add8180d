package httpsource

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"

	"github.com/diskimage-go/diskimage"
)

// A client asks for ranges of one object. It is safe for concurrent use once
// the first answer has told the object's version.
type client struct {
	o       Options // with defaults
	origin  *url.URL
	header  http.Header // for the origin's own server
	name    string
	secrets secrets // of the URL as it was given, and of the header
	rt      http.RoundTripper
	version *version // nil before the first answer

	mu      sync.Mutex
	target  *url.URL // where the redirects led; nil: nowhere else
	changed error    // once an answer told so
}

// newClient returns a client for the URL. life ends what its transport does
// beyond single requests.
func newClient(life context.Context, rawURL string, o Options) (*client, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	u, err := url.Parse(rawURL)
	if err != nil { // whose text may hold a part of a password
		return nil, errors.New("httpsource: the URL cannot be parsed")
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, errors.New("httpsource: the URL is not one of http or https with a host")
	}
	c := &client{o: o, name: nameOf(u), header: o.Header, rt: o.Transport}
	c.secrets = secrets(nil).withURL(u).withHeader(o.Header)
	c.origin = bare(u)
	if u.User != nil && c.header.Get("Authorization") == "" {
		password, _ := u.User.Password()
		r := http.Request{Header: c.header}
		r.SetBasicAuth(u.User.Username(), password)
	}
	if c.rt == nil {
		c.rt = newTransport(life, o)
	}
	return c, nil
}

// bare returns u as a server is asked for it.
func bare(u *url.URL) *url.URL {
	b := *u
	b.User, b.Fragment, b.RawFragment = nil, "", ""
	return &b
}

// get asks for the bytes [off, end) and returns the answer, whatever it is,
// less redirects.
//
// They are followed once: later ranges are asked for where they led, which
// spares a round trip, and keeps to one of several mirrors, whose validators
// may differ. What fails there may be an expired link or a mirror that is down:
// the way is asked for again from the start, at once or in the next attempt.
func (c *client) get(ctx context.Context, off, end int64) (*reply, error) {
	c.mu.Lock()
	target, err := c.target, c.changed
	c.mu.Unlock()
	if err != nil {
		return nil, err
	}
	if target != nil {
		r, err := c.follow(ctx, target, off, end)
		if ctx.Err() != nil || err == nil && !refuses(r.StatusCode) {
			return r, err
		}
		c.mu.Lock()
		if c.target == target {
			c.target = nil
		}
		c.mu.Unlock()
		if err == nil && passes(r.StatusCode) {
			return r, nil // to wait first
		}
		if err == nil {
			r.Close()
		}
	}
	return c.follow(ctx, c.origin, off, end)
}

// refuses reports whether an answer of that status says nothing of the object.
func refuses(status int) bool {
	return status >= 400 && status != http.StatusPreconditionFailed && status != http.StatusRequestedRangeNotSatisfiable
}

// mostRedirects is how many redirects are followed.
const mostRedirects = 10

func (c *client) follow(ctx context.Context, u *url.URL, off, end int64) (*reply, error) {
	for range mostRedirects + 1 {
		r, err := c.send(ctx, u, off, end)
		if err != nil {
			return nil, err
		}
		switch r.StatusCode {
		case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther,
			http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		default:
			if u != c.origin {
				c.mu.Lock()
				c.target = u
				c.mu.Unlock()
			}
			return r, nil
		}
		location := r.Header.Get("Location")
		r.Close()
		if u, err = redirected(u, location); err != nil {
			return nil, err
		}
	}
	return nil, fmt.Errorf("more than %d redirects", mostRedirects)
}

// redirected returns where a redirect from u leads. Errors show nothing of the
// location, which may be a signed link too.
func redirected(u *url.URL, location string) (*url.URL, error) {
	refuse := func(format string, args ...any) (*url.URL, error) {
		return nil, &diskimage.Error{Kind: diskimage.ErrExternal, Off: -1, Msg: "refused to follow a redirect " + fmt.Sprintf(format, args...)}
	}
	next, err := u.Parse(location)
	switch {
	case location == "" || err != nil:
		return nil, errors.New("a redirect to what is no URL")
	case next.Scheme != "http" && next.Scheme != "https":
		return refuse("to the scheme %s", diskimage.Quote(next.Scheme))
	case u.Scheme == "https" && next.Scheme == "http":
		return refuse("from https to http")
	case next.User != nil: // RFC 9110, section 4.2.4
		return refuse("to a URL that holds a user's name")
	case next.Host == "":
		return nil, errors.New("a redirect to a URL without a host")
	}
	return bare(next), nil
}

// send asks u for the bytes [off, end) and returns the answer.
func (c *client) send(ctx context.Context, u *url.URL, off, end int64) (*reply, error) {
	r := &reply{stallTimeout: c.o.StallTimeout, secrets: c.secrets.withURL(u)}
	r.ctx, r.cancel = context.WithCancelCause(ctx)
	req := (&http.Request{
		Method: http.MethodGet, URL: u, Host: u.Host, Header: http.Header{},
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
	}).WithContext(r.ctx)
	if sameServer(c.origin, u) {
		req.Header = c.header.Clone()
	}
	req.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", off, end-1))
	req.Header.Set("Accept-Encoding", "identity")
	if c.version != nil && c.version.strong() {
		req.Header.Set("If-Match", c.version.etag)
	}

	stall := r.watch()
	resp, err := c.rt.RoundTrip(req)
	stall.Stop()
	if err != nil {
		err = r.trouble(err)
		r.cancel(nil)
		return nil, err
	}
	r.Response = resp
	return r, nil
}

// sameServer reports whether what the caller sends to the server of a may be
// sent to that of b.
func sameServer(a, b *url.URL) bool {
	if !strings.EqualFold(a.Hostname(), b.Hostname()) {
		return false
	}
	return a.Scheme == b.Scheme && port(a) == port(b) ||
		a.Scheme == "http" && port(a) == "80" && b.Scheme == "https" && port(b) == "443"
}

func port(u *url.URL) string {
	switch p := u.Port(); {
	case p != "":
		return p
	case u.Scheme == "https":
		return "443"
	}
	return "80"
}
