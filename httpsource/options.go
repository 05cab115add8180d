package httpsource

import (
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"net/textproto"
	"slices"
	"strings"
	"time"
)

// Options say how an object is asked for. The zero value is right for a plain
// or signed link to a server that is trusted.
type Options struct {
	// Header is sent with each request to the URL's own server, say
	// Authorization. Where a redirect leads to another host, scheme or port it
	// is not sent (but it is from http to https of one host, on their usual
	// ports). What the source needs for itself (Range, Accept-Encoding, Host,
	// If-Match and the like) may not be set. Default: none.
	Header http.Header

	// Allow is asked about each address before a connection to it is made:
	// after the name was resolved, so that no name can lead around it, and for
	// redirects too. An error refuses the connection, and is part of what Get
	// or ReadAt returns. With it the environment's proxies are not used, for
	// Allow would see nothing but the proxy. It is called by several goroutines
	// at once. See [PublicOnly]. Default: every
	// address is allowed, and the proxies of HTTP_PROXY, HTTPS_PROXY and
	// NO_PROXY are used.
	Allow func(netip.AddrPort) error

	// TLS is the configuration for https, say with a certificate authority of
	// one's own. It is not changed. Default: the system's authorities.
	TLS *tls.Config

	// Transport makes the requests in place of the package's own, which speaks
	// HTTP/1.1 on a connection for each GET that is in flight. It may not
	// follow redirects. It cannot be set together with Allow or TLS, which it
	// would pass by. Default: the package's own.
	Transport http.RoundTripper

	// InFlight is how many GETs for hinted ranges may be under way at once,
	// beside those that a ReadAt waits for. Default: 8.
	InFlight int

	// Memory is how many bytes of hinted ranges are held at most, those in
	// flight included. Beside it up to 8 MiB are kept of what was read without
	// a hint. Default: 32 MiB.
	Memory int64

	// Attempts is how often one range is asked for in a row without a byte of
	// it coming. Default: 5.
	Attempts int

	// Backoff is how long to wait before the second attempt. It doubles with
	// each further one, up to 64 times itself. A server's Retry-After makes it
	// longer, up to a minute. Default: 250 ms.
	Backoff time.Duration

	// StallTimeout is for how long a server may be silent before an attempt
	// has failed. Default: 30 s.
	StallTimeout time.Duration
}

// withDefaults returns a copy in which nothing is left to be decided.
func (o Options) withDefaults() (Options, error) {
	for name := range o.Header {
		switch key := textproto.CanonicalMIMEHeaderKey(name); {
		case key == "Range", key == "Accept-Encoding", key == "Host", strings.HasPrefix(key, "If-"):
			return o, fmt.Errorf("httpsource: Options.Header: %s is the source's own to set", key)
		}
	}
	if o.Transport != nil && (o.Allow != nil || o.TLS != nil) {
		return o, errors.New("httpsource: Options.Transport cannot be combined with Allow or TLS")
	}
	if o.InFlight < 0 || o.Memory < 0 || o.Attempts < 0 || o.Backoff < 0 || o.StallTimeout < 0 {
		return o, errors.New("httpsource: Options: a number or duration below zero")
	}
	o.Header = canonical(o.Header)
	o.InFlight = cmp.Or(o.InFlight, 8)
	o.Memory = cmp.Or(o.Memory, 32<<20)
	o.Attempts = cmp.Or(o.Attempts, 5)
	o.Backoff = cmp.Or(o.Backoff, 250*time.Millisecond)
	o.StallTimeout = cmp.Or(o.StallTimeout, 30*time.Second)
	return o, nil
}

// canonical returns a copy of h whose keys are as the Get method wants them.
func canonical(h http.Header) http.Header {
	c := make(http.Header, len(h))
	for _, key := range slices.Sorted(maps.Keys(h)) {
		for _, value := range h[key] {
			c.Add(key, value)
		}
	}
	return c
}
