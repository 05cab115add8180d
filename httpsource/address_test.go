package httpsource

import (
	"context"
	"errors"
	"io/fs"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/diskimage-go/diskimage"
	"github.com/stretchr/testify/require"
)

func TestPublicOnly(t *testing.T) {
	for what, list := range map[string]string{
		"an unspecified address":      "0.0.0.0 0.1.2.3 :: ::ffff:0.0.0.0",
		"a loopback address":          "127.0.0.1 127.255.255.255 ::1 ::ffff:127.0.0.1 2002:7f00:1:: 64:ff9b::7f00:1",
		"a private address":           "10.0.0.1 172.16.0.1 172.31.255.255 192.168.1.1 fd00:ec2::254 fc00::1 ::ffff:10.1.2.3 2002:c0a8:101::1 64:ff9b::a00:1",
		"a link-local address":        "169.254.169.254 fe80::1 fe80::1%eth0 ::ffff:169.254.169.254 2002:a9fe:a9fe:: 64:ff9b::a9fe:a9fe",
		"a shared address (RFC 6598)": "100.64.0.1 100.100.100.200 100.127.255.255",
		"a multicast address":         "224.0.0.1 239.255.255.255 ff02::1",
		"a documentation address":     "192.0.2.1 198.51.100.1 203.0.113.1 2001:db8::1 3fff::1",
		"a benchmarking address":      "198.18.0.1 198.19.255.255",
		"Azure's platform address":    "168.63.129.16",
		"a reserved address":          "192.0.0.192 192.88.99.1 240.0.0.1 255.255.255.255 2001::1 2001:2::1 64:ff9b:1::1 ::8.8.8.8 100::1 5f00::1 fec0::1 4000::1",
		"":                            "1.1.1.1 8.8.8.8 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 126.1.1.1 128.0.0.1 168.63.129.17 169.253.1.1 169.255.1.1 172.15.1.1 172.32.0.1 192.0.1.1 192.167.1.1 192.169.1.1 198.17.1.1 198.20.0.1 223.255.255.255 2001:4860:4860::8888 2606:4700::1111 2a00::1 ::ffff:8.8.8.8 2002:808:808::1 64:ff9b::808:808",
	} {
		for a := range strings.FieldsSeq(list) {
			err := PublicOnly(netip.AddrPortFrom(netip.MustParseAddr(a), 443))
			if what == "" {
				require.NoError(t, err, a)
				continue
			}
			require.ErrorIs(t, err, diskimage.ErrExternal, a)
			require.EqualError(t, err, netip.MustParseAddr(a).String()+" is "+what+", and only public addresses are allowed")
		}
	}
	require.Error(t, PublicOnly(netip.AddrPort{}))
}

// TestAllow: no name and no redirect leads around it.
func TestAllow(t *testing.T) {
	srv := serve(t, 1000)
	_, port, _ := strings.Cut(strings.TrimPrefix(srv.URL, "http://"), ":")
	o := quick()
	o.Allow = PublicOnly
	for _, host := range []string{"127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0"} {
		err := failing(t, "http://"+host+":"+port+"/", o)
		require.ErrorIs(t, err, diskimage.ErrExternal, host)
		require.ErrorContains(t, err, "only public addresses are allowed")
	}
	require.Empty(t, srv.asked)

	// The first server is allowed, the second is not.
	first := serve(t, 0)
	first.fault = redirecting(302, srv.URL)
	allowed := parse(t, first.URL).Host
	errOther := errors.New("not that port")
	var mu sync.Mutex
	var asked []string
	o.Allow = func(a netip.AddrPort) error {
		mu.Lock()
		defer mu.Unlock()
		asked = append(asked, a.String())
		if a.String() != allowed {
			return errOther
		}
		return nil
	}
	err := failing(t, first.URL, o)
	require.ErrorIs(t, err, errOther)
	require.EqualError(t, err, first.URL+": not that port")
	require.Empty(t, srv.asked)
	require.Equal(t, []string{allowed, parse(t, srv.URL).Host}, asked)

	// Later connections too.
	first.fault = nil
	first.content = srv.content
	s := get(t, first.URL, o)
	allowed = "none"
	s.c.close()
	_, err = s.ReadAt(make([]byte, 10), 0)
	require.NoError(t, err)
	require.ErrorIs(t, s.c.fill(s.life, make([]byte, 10), 0, nil), errOther)
}

// TestDialEnds: a connection that is being made when the source is closed is
// given up.
func TestDialEnds(t *testing.T) {
	srv := serve(t, 0)
	life, end := context.WithCancelCause(t.Context())
	rt := newTransport(life, Options{StallTimeout: time.Minute, Allow: func(netip.AddrPort) error {
		end(fs.ErrClosed)
		time.Sleep(50 * time.Millisecond)
		return nil
	}})
	_, err := rt.DialContext(t.Context(), "tcp", parse(t, srv.URL).Host)
	require.Error(t, err)
}

// TestProxy: without a filter the environment's are used, and no error shows
// their passwords.
func TestProxy(t *testing.T) {
	rt := newTransport(t.Context(), Options{})
	require.NotNil(t, rt.Proxy)
	_, err := rt.Proxy(&http.Request{URL: &url.URL{Scheme: "http", Host: "example.org"}})
	require.NoError(t, err)
	require.Nil(t, newTransport(t.Context(), Options{Allow: PublicOnly}).Proxy)
}
