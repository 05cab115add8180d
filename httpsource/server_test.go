package httpsource

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A server gives one object, in ranges, with the faults that it is told, and
// counts what it gave.
type server struct {
	*httptest.Server
	content        []byte
	etag, modified string

	// fault may answer the request, the n-th from 0, and then returns true.
	fault func(w http.ResponseWriter, r *http.Request, n int) bool

	mu     sync.Mutex
	asked  []span // the ranges, in order
	seen   []*http.Request
	bytes  int64 // of bodies, as they were begun
	flying int
	most   int // that were under way at once
}

// serve starts a server of size random bytes with a strong ETag.
func serve(t testing.TB, size int) *server {
	t.Helper()
	s := newServer(t, size)
	s.Server = httptest.NewUnstartedServer(s)
	s.quiet()
	s.Start()
	t.Cleanup(s.Close)
	return s
}

func newServer(t testing.TB, size int) *server {
	s := &server{content: make([]byte, size), etag: `"v1"`}
	rnd := rand.NewChaCha8([32]byte{1})
	rnd.Read(s.content)
	t.Cleanup(func() {
		for _, r := range s.seen {
			require.Equal(t, http.MethodGet, r.Method)
		}
	})
	return s
}

// quiet keeps broken handshakes out of the test's output.
func (s *server) quiet() { s.Config.ErrorLog = log.New(io.Discard, "", 0) }

func parse(t testing.TB, text string) *url.URL {
	u, err := url.Parse(text)
	require.NoError(t, err)
	return u
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	off, end := requestRange(r)
	s.mu.Lock()
	n := len(s.asked)
	s.asked = append(s.asked, span{off, end})
	s.seen = append(s.seen, r)
	s.flying++
	s.most = max(s.most, s.flying)
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		s.flying--
		s.mu.Unlock()
	}()
	if s.fault != nil && s.fault(w, r, n) {
		return
	}
	s.give(w, r)
}

// requestRange returns what r asks for.
func requestRange(r *http.Request) (off, end int64) {
	if n, err := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-%d", &off, &end); n != 2 || err != nil {
		panic("no range: " + r.Header.Get("Range"))
	}
	return off, end + 1
}

// give answers as a server should.
func (s *server) give(w http.ResponseWriter, r *http.Request) {
	if match := r.Header.Get("If-Match"); match != "" && match != s.etag {
		w.WriteHeader(http.StatusPreconditionFailed)
		return
	}
	off, end := requestRange(r)
	size := int64(len(s.content))
	s.validators(w)
	if off >= size {
		w.Header().Set("Content-Range", fmt.Sprintf("bytes */%d", size))
		w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
		return
	}
	end = min(end, size)
	s.head(w, off, end)
	s.write(w, s.content[off:end])
}

func (s *server) validators(w http.ResponseWriter) {
	for key, value := range map[string]string{"ETag": s.etag, "Last-Modified": s.modified} {
		if value != "" {
			w.Header().Set(key, value)
		}
	}
}

// head writes the header of a range.
func (s *server) head(w http.ResponseWriter, off, end int64) {
	s.validators(w)
	w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", off, end-1, len(s.content)))
	w.Header().Set("Content-Length", fmt.Sprint(end-off))
	w.WriteHeader(http.StatusPartialContent)
}

func (s *server) write(w io.Writer, p []byte) {
	s.mu.Lock()
	s.bytes += int64(len(p))
	s.mu.Unlock()
	w.Write(p)
}

// together keeps a request waiting until n are under way, for a second at most.
func (s *server) together(n int) {
	for range 1000 {
		s.mu.Lock()
		met := s.most >= n
		s.mu.Unlock()
		if met {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

// counted returns the number of requests and of bytes so far.
func (s *server) counted() (requests int, bytes int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.asked), s.bytes
}

// quick are options for tests: it fails fast.
func quick() Options {
	return Options{Backoff: time.Millisecond, StallTimeout: 10 * time.Second}
}

// get returns the source of the URL, which is closed when the test ends, and
// nothing of it may be left.
func get(t testing.TB, url string, o Options) *Source {
	t.Helper()
	object, err := Get(context.Background(), url, o)
	require.NoError(t, err)
	require.Nil(t, object.Stream)
	t.Cleanup(func() { require.NoError(t, object.Source.Close()) })
	return object.Source
}

// failing returns the error of a Get that must fail.
func failing(t testing.TB, url string, o Options) error {
	t.Helper()
	object, err := Get(context.Background(), url, o)
	require.Error(t, err)
	require.Nil(t, object)
	require.NotContains(t, err.Error(), "\n")
	return err
}

// all reads the whole object in pieces.
func all(t testing.TB, s *Source, piece int) []byte {
	t.Helper()
	got, err := io.ReadAll(readerOf(s, piece))
	require.NoError(t, err)
	return got
}

func readerOf(s *Source, piece int) io.Reader {
	return &pieces{s, piece, 0}
}

// pieces reads a source in pieces, the last of which may be short.
type pieces struct {
	s     *Source
	piece int
	off   int64
}

func (r *pieces) Read(p []byte) (int, error) {
	n, err := r.s.ReadAt(p[:min(len(p), r.piece)], r.off)
	r.off += int64(n)
	return n, err
}

// same fails t unless both are equal, without printing them.
func same(t testing.TB, want, got []byte) {
	t.Helper()
	if bytes.Equal(want, got) {
		return
	}
	require.Equal(t, len(want), len(got))
	for i := range want {
		if want[i] != got[i] {
			t.Fatalf("byte %d is %#x, want %#x", i, got[i], want[i])
		}
	}
}

// one reads n bytes at off and compares them.
func one(t testing.TB, srv *server, s *Source, off, n int64) {
	t.Helper()
	p := make([]byte, n)
	got, err := s.ReadAt(p, off)
	require.NoError(t, err)
	require.EqualValues(t, n, got)
	same(t, srv.content[off:off+n], p)
}

// abort ends the connection.
func abort() { panic(http.ErrAbortHandler) }

func flush(w http.ResponseWriter) { w.(http.Flusher).Flush() }

// within returns a URL with user information in it.
func within(url, user string) string { return strings.Replace(url, "://", "://"+user+"@", 1) }
