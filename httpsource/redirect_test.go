package httpsource

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/diskimage-go/diskimage"
	"github.com/stretchr/testify/require"
)

// serveTLS starts a server for https, and returns options that trust it.
func serveTLS(t *testing.T, size int) (*server, Options) {
	t.Helper()
	s := newServer(t, size)
	s.Server = httptest.NewUnstartedServer(s)
	s.quiet()
	s.StartTLS()
	t.Cleanup(s.Close)
	o := quick()
	o.TLS = &tls.Config{RootCAs: x509.NewCertPool()}
	o.TLS.RootCAs.AddCert(s.Certificate())
	return s, o
}

// redirecting answers with a redirect.
func redirecting(code int, location string) func(w http.ResponseWriter, r *http.Request, n int) bool {
	return func(w http.ResponseWriter, r *http.Request, n int) bool {
		w.Header().Set("Location", location)
		w.WriteHeader(code)
		return true
	}
}

func TestTLS(t *testing.T) {
	srv, o := serveTLS(t, 300_000)
	s := get(t, srv.URL, o)
	s.Prefetch(0, s.Size())
	same(t, srv.content, all(t, s, 50_000))
	for _, r := range srv.seen {
		require.Equal(t, "HTTP/1.1", r.Proto)
	}

	// Who is not trusted is not asked again.
	o = quick()
	o.Backoff = time.Hour
	require.ErrorContains(t, failing(t, srv.URL, o), "certificate")
	require.ErrorContains(t, failing(t, strings.Replace(serve(t, 10).URL, "http:", "https:", 1), o), "does not look like a TLS handshake")
}

// TestRedirects: of all kinds, relative and not, from http to https; later
// ranges are asked for where they led.
func TestRedirects(t *testing.T) {
	end, o := serveTLS(t, 300_000)
	middle, first := serve(t, 0), serve(t, 0)
	middle.fault = redirecting(308, end.URL+"/end?sig=abcdef")
	for _, code := range []int{301, 302, 303, 307, 308} {
		first.fault = func(w http.ResponseWriter, r *http.Request, n int) bool {
			location := "../again#part"
			if strings.HasSuffix(r.URL.Path, "/again") {
				location = middle.URL
			}
			return redirecting(code, location)(w, r, n)
		}
		asked, there := len(first.asked), len(end.asked)
		s := get(t, first.URL+"/a/b/c", o)
		require.Equal(t, first.URL+"/a/b/c", s.Name())
		one(t, end, s, 100_000, 1000)
		one(t, end, s, 200_000, 1000)
		require.Len(t, first.asked, asked+2)
		require.Equal(t, "/a/again", first.seen[asked+1].URL.Path)
		require.Len(t, end.asked, there+3)
		require.Equal(t, `"v1"`, end.seen[there+2].Header.Get("If-Match"))
		require.Empty(t, end.seen[there].Header.Get("Referer"))
	}
}

// TestRedirectTargetExpires: the way is asked for again.
func TestRedirectTargetExpires(t *testing.T) {
	end := serve(t, 300_000)
	link := "/1"
	end.fault = func(w http.ResponseWriter, r *http.Request, n int) bool {
		if r.URL.Path == link {
			return false
		}
		w.WriteHeader(403)
		return true
	}
	first := serve(t, 0)
	first.fault = func(w http.ResponseWriter, r *http.Request, n int) bool {
		return redirecting(302, end.URL+link)(w, r, n)
	}
	s := get(t, first.URL, quick())
	link = "/2"
	one(t, end, s, 100_000, 1000)
	one(t, end, s, 200_000, 1000)
	require.Len(t, first.asked, 2)
	require.Len(t, end.asked, 4)

	// A mirror that is gone: so does the one that comes next with another version.
	other := serve(t, 300_000)
	other.etag = `"v2"`
	first.fault = redirecting(302, other.URL)
	end.Close()
	_, err := s.ReadAt(make([]byte, 10), 0x40000)
	require.ErrorIs(t, err, diskimage.ErrChanged)

	// A mirror that fails now and then.
	end = serve(t, 300_000)
	end.fault = func(w http.ResponseWriter, r *http.Request, n int) bool {
		if n == 1 {
			w.WriteHeader(503)
		}
		return n == 1
	}
	first.fault = redirecting(302, end.URL)
	s = get(t, first.URL, quick())
	asked := len(first.asked)
	one(t, end, s, 100_000, 1000)
	require.Len(t, first.asked, asked+1)

	// And a link for which there is no other is told to have expired.
	end = serve(t, 300_000)
	first.fault = redirecting(302, end.URL)
	s = get(t, first.URL, quick())
	end.fault = func(w http.ResponseWriter, r *http.Request, n int) bool {
		w.WriteHeader(403)
		return true
	}
	_, err = s.ReadAt(make([]byte, 10), 100_000)
	require.ErrorContains(t, err, "the link has expired")
}

func TestRedirectsRefused(t *testing.T) {
	plain := serve(t, 100)
	secure, trusting := serveTLS(t, 100)
	for _, c := range []struct {
		from           *server
		location, want string
		external       bool
	}{
		{secure, plain.URL, "refused to follow a redirect from https to http", true},
		{plain, "file:///etc/passwd", `refused to follow a redirect to the scheme "file"`, true},
		{plain, "gopher://127.0.0.1/x", `to the scheme "gopher"`, true},
		{plain, "data:text/plain,hello", `to the scheme "data"`, true},
		{plain, "http://user:pass@127.0.0.1/", "to a URL that holds a user's name", true},
		{plain, "", "a redirect to what is no URL", false},
		{plain, "http://[::1", "a redirect to what is no URL", false},
		{plain, "http:///x", "a redirect to a URL without a host", false},
		{plain, "/again", "more than 10 redirects", false},
	} {
		c.from.asked = nil
		c.from.fault = redirecting(302, c.location)
		err := failing(t, c.from.URL, trusting)
		require.ErrorContains(t, err, c.want)
		require.Equal(t, c.external, errors.Is(err, diskimage.ErrExternal), c.location)
		if c.location == "/again" {
			require.Len(t, c.from.asked, 11)
		} else {
			require.Len(t, c.from.asked, 1)
		}
		c.from.fault = nil
	}
	plain.fault = func(w http.ResponseWriter, r *http.Request, n int) bool {
		w.WriteHeader(304)
		return true
	}
	require.ErrorContains(t, failing(t, plain.URL, quick()), "the server answers 304")
}

// TestHeaderStaysHome: what the caller sends goes to no other server.
func TestHeaderStaysHome(t *testing.T) {
	end, first := serve(t, 300_000), serve(t, 0)
	first.fault = func(w http.ResponseWriter, r *http.Request, n int) bool {
		if r.URL.Path != "/home" {
			return redirecting(302, "/home")(w, r, n)
		}
		return redirecting(302, end.URL)(w, r, n)
	}
	for _, c := range []struct {
		url  string
		h    http.Header
		want string // the Authorization
	}{
		{first.URL, http.Header{"Authorization": {"Bearer token"}, "X-Api-Key": {"key"}, "Cookie": {"a=b"}}, "Bearer token"},
		{within(first.URL, "me:secret"), http.Header{"X-Api-Key": {"key"}, "Cookie": {"a=b"}}, "Basic bWU6c2VjcmV0"},
		{within(first.URL, "me:secret"), http.Header{"Authorization": {"Bearer token"}, "X-Api-Key": {"key"}, "Cookie": {"a=b"}}, "Bearer token"},
	} {
		o := quick()
		o.Header = c.h
		home, away := len(first.seen), len(end.seen)
		s := get(t, c.url, o)
		one(t, end, s, 100_000, 10)
		for _, r := range first.seen[home:] {
			require.Equal(t, c.want, r.Header.Get("Authorization"))
			require.Equal(t, "key", r.Header.Get("X-Api-Key"))
			require.Equal(t, "a=b", r.Header.Get("Cookie"))
		}
		require.Len(t, first.seen, home+2)
		require.Len(t, end.seen, away+2)
		for _, r := range end.seen[away:] {
			for _, key := range []string{"Authorization", "X-Api-Key", "Cookie", "Referer"} {
				require.Empty(t, r.Header.Get(key), key)
			}
		}
	}

	for _, c := range []struct {
		a, b string
		want bool
	}{
		{"http://h/x", "http://H:80/y", true},
		{"http://h/x", "https://h/x", true},
		{"https://h/x", "https://h:443/x", true},
		{"https://h/x", "http://h/x", false},
		{"http://h:8080/x", "https://h/x", false},
		{"http://h/x", "http://h:8080/x", false},
		{"http://h/x", "http://sub.h/x", false},
		{"http://sub.h/x", "http://h/x", false},
	} {
		require.Equal(t, c.want, sameServer(parse(t, c.a), parse(t, c.b)), "%s %s", c.a, c.b)
	}
}

// TestForeignTransport: it is asked for each hop.
func TestForeignTransport(t *testing.T) {
	end, first := serve(t, 300_000), serve(t, 0)
	first.fault = redirecting(302, end.URL)
	var hops atomic.Int32
	o := quick()
	o.Transport = roundTripper(func(r *http.Request) (*http.Response, error) {
		hops.Add(1)
		return http.DefaultTransport.RoundTrip(r)
	})
	object, err := Get(context.Background(), first.URL, o)
	require.NoError(t, err)
	require.NoError(t, object.Source.Close())
	require.EqualValues(t, 2, hops.Load())
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
