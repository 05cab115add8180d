package httpsource

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The secrets of a URL in every test below.
const (
	secretUser  = "someuser:hunter2pass"
	secretQuery = "X-Signature=deadbeef%2Bcafe&X-Credential=AKIAEXAMPLE"
)

// revealed returns which secret a text shows, or "".
func revealed(text string) string {
	for _, secret := range []string{"someuser", "hunter2pass", "deadbeef", "cafe", "AKIAEXAMPLE", "X-Signature", "X-Credential", "fragment", "tokenvalue", "?"} {
		if strings.Contains(text, secret) {
			return secret
		}
	}
	return ""
}

// TestSecrets: whatever goes wrong, when the object is opened or later, no
// secret shows; not in the causes of errors either.
func TestSecrets(t *testing.T) {
	answers := map[string]func(s *server, w http.ResponseWriter, r *http.Request){
		"ETag": func(s *server, w http.ResponseWriter, r *http.Request) {
			w.Header().Set("ETag", `"`+r.URL.RawQuery+`"`)
			w.Header().Set("Content-Range", "bytes 0-65535/1048576")
			w.WriteHeader(206)
		},
		"echoed": func(s *server, w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Range", "bytes "+r.URL.RawQuery+" "+r.URL.Query().Get("X-Signature")+r.Header.Get("Authorization")+r.Header.Get("X-Token"))
			w.WriteHeader(206)
		},
		"encoding": func(s *server, w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Encoding", r.URL.RawQuery)
			w.Write([]byte("x"))
		},
		"redirect": func(s *server, w http.ResponseWriter, r *http.Request) {
			redirecting(302, "http://127.0.0.1:1/?"+r.URL.RawQuery)(w, r, 0)
		},
		"redirect to file": func(s *server, w http.ResponseWriter, r *http.Request) {
			redirecting(302, "file:///?"+r.URL.RawQuery)(w, r, 0)
		},
		"redirect, hostile": func(s *server, w http.ResponseWriter, r *http.Request) {
			redirecting(302, "http://h:x/?"+r.URL.RawQuery)(w, r, 0)
		},
		"redirect to user": func(s *server, w http.ResponseWriter, r *http.Request) {
			redirecting(302, "http://hunter2pass@h/")(w, r, 0)
		},
		"not HTTP": func(s *server, w http.ResponseWriter, r *http.Request) {
			conn, _, err := w.(http.Hijacker).Hijack()
			if err == nil {
				io.WriteString(conn, "HTTP/1.1 "+r.URL.RawQuery+"\r\n\r\n")
				conn.Close()
			}
		},
		"broken header": func(s *server, w http.ResponseWriter, r *http.Request) {
			conn, _, err := w.(http.Hijacker).Hijack()
			if err == nil {
				io.WriteString(conn, "HTTP/1.1 200 OK\r\n"+r.URL.Query().Get("X-Credential")+"\r\n\r\n")
				conn.Close()
			}
		},
		"redirect to nobody": func(s *server, w http.ResponseWriter, r *http.Request) {
			redirecting(302, "http://name.invalid/?"+r.URL.RawQuery)(w, r, 0)
		},
	}
	for name, fault := range passing {
		answers["lasting: "+name] = fault
	}
	for name, fault := range lastingFaults {
		answers[name] = fault.answer
	}
	for name, answer := range answers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := serve(t, 1<<20)
			var works atomic.Bool
			srv.fault = func(w http.ResponseWriter, r *http.Request, n int) bool {
				if works.Load() {
					return false
				}
				answer(srv, w, r)
				return true
			}
			o := quick()
			o.Attempts, o.StallTimeout = 2, 50*time.Millisecond
			o.Header = http.Header{"X-Token": {"tokenvalue"}}
			link := within(srv.URL, secretUser) + "/path?" + secretQuery + "#fragment"
			check := func(err error) {
				for ; err != nil; err = errors.Unwrap(err) {
					require.Empty(t, revealed(err.Error()), err.Error())
				}
			}
			object, err := Get(context.Background(), link, o)
			if err == nil {
				object.Source.Close()
			}
			check(err)
			o.Attempts, o.StallTimeout = 10, 5*time.Second
			works.Store(true)
			s := get(t, link, o)
			require.Empty(t, revealed(s.Name()))
			works.Store(false)
			s.c.o.Attempts, s.c.o.StallTimeout = 2, 50*time.Millisecond
			_, err = s.ReadAt(make([]byte, 100), 500_000)
			check(err)
			check(s.Changed())
			for _, n := range s.Notes() {
				require.Empty(t, revealed(n.Text))
			}
		})
	}
}

// TestSecretsOfDialing: the errors of net and net/url.
func TestSecretsOfDialing(t *testing.T) {
	o := quick()
	o.Attempts = 2
	for _, host := range []string{"127.0.0.1:1", "name.invalid"} {
		err := failing(t, "http://"+secretUser+"@"+host+"/path?"+secretQuery, o)
		require.ErrorContains(t, err, "http://"+host+"/path: ")
		require.Empty(t, revealed(err.Error()), err.Error())
	}
	for _, link := range []string{
		"http://someuser:hunter2pass@host:cafe/?X-Signature", "http://someuser:hunter2pass/x@host/", "http://h/%zz?deadbeef", "ht tp://hunter2pass@h", "\x7fhttp://hunter2pass",
		"ftp://someuser:hunter2pass@host/", "http://someuser:hunter2pass@/?deadbeef", "someuser:hunter2pass@host",
	} {
		require.Empty(t, revealed(failing(t, link, o).Error()))
	}

	// A foreign transport whose errors print the URL.
	o.Transport = roundTripper(func(r *http.Request) (*http.Response, error) {
		return nil, &url.Error{Op: "Get", URL: r.URL.String(), Err: errors.New("failed for " + r.URL.Query().Get("X-Credential"))}
	})
	err := failing(t, "http://host/path?"+secretQuery, o)
	require.EqualError(t, err, "http://host/path: failed for (secret) (2 attempts in a row)")
}

func TestScrub(t *testing.T) {
	s := secrets(nil).withURL(parse(t, "http://u:password@h/?a=b&sig=pass+word%2F&x=password123")).
		withHeader(http.Header{"Authorization": {"Bearer abcdef"}})
	require.Equal(t, "(secret) (secret) (secret) (secret) b", s.scrub("password123 password pass+word%2F pass word/ b"))
	require.Equal(t, "(secret), (secret)", s.scrub("Bearer abcdef, abcdef"))
	require.Equal(t, "http://h/a%2Fb", nameOf(parse(t, "http://u:p@h/a%2Fb?q#f")))
}
