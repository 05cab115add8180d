package httpsource

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"syscall"
	"time"
)

// A refusal is the error of Options.Allow.
type refusal struct{ error }

func (r *refusal) Unwrap() error { return r.error }

func newTransport(life context.Context, o Options) *http.Transport {
	dialer := net.Dialer{Timeout: o.StallTimeout}
	t := &http.Transport{
		Protocols:              new(http.Protocols),
		DisableCompression:     true,
		TLSHandshakeTimeout:    o.StallTimeout,
		IdleConnTimeout:        time.Minute,
		MaxIdleConnsPerHost:    64, // as many as may read at once
		MaxResponseHeaderBytes: 256 << 10,
	}
	t.Protocols.SetHTTP1(true) // a connection for each range in flight
	if o.TLS != nil {
		t.TLSClientConfig = o.TLS.Clone()
		t.TLSClientConfig.NextProtos = nil
	}
	if o.Allow == nil {
		t.Proxy = func(r *http.Request) (*url.URL, error) {
			u, err := http.ProxyFromEnvironment(r)
			if err != nil { // which prints it, password and all
				return nil, errors.New("the proxy that the environment names cannot be used")
			}
			return u, nil
		}
	} else {
		dialer.Control = func(_, address string, _ syscall.RawConn) error {
			a, err := netip.ParseAddrPort(address)
			if err == nil {
				err = o.Allow(a)
			}
			if err != nil {
				return &refusal{err}
			}
			return nil
		}
	}
	// The transport goes on dialing for whoever comes next when a request has
	// ended: not beyond the end of all.
	t.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		ctx, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		defer context.AfterFunc(life, func() { cancel(context.Cause(life)) })()
		return dialer.DialContext(ctx, network, address)
	}
	return t
}

// close gives up the connections.
func (c *client) close() {
	if t, ok := c.rt.(*http.Transport); ok && c.o.Transport == nil {
		t.CloseIdleConnections()
	}
}
