package httpsource

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A fault is one that passes: what the server does once, on the second request.
var passing = map[string]func(s *server, w http.ResponseWriter, r *http.Request){
	"503":    func(s *server, w http.ResponseWriter, r *http.Request) { w.WriteHeader(503) },
	"500":    func(s *server, w http.ResponseWriter, r *http.Request) { http.Error(w, "oops", 500) },
	"429":    func(s *server, w http.ResponseWriter, r *http.Request) { w.WriteHeader(429) },
	"closes": func(s *server, w http.ResponseWriter, r *http.Request) { abort() },
	"closes in the middle": func(s *server, w http.ResponseWriter, r *http.Request) {
		off, end := requestRange(r)
		s.head(w, off, end)
		s.write(w, s.content[off:end-1000])
		flush(w)
		abort()
	},
	"ends early, in order": func(s *server, w http.ResponseWriter, r *http.Request) {
		off, end := requestRange(r)
		s.validators(w)
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", off, end-1, len(s.content)))
		w.WriteHeader(http.StatusPartialContent)
		flush(w) // so that it has no Content-Length
		s.write(w, s.content[off:end-1000])
	},
	"stalls": func(s *server, w http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
	"stalls in the middle": func(s *server, w http.ResponseWriter, r *http.Request) {
		off, end := requestRange(r)
		s.head(w, off, end)
		s.write(w, s.content[off:end-1000])
		flush(w)
		<-r.Context().Done()
	},
}

// TestPassingFaults: what another attempt does not meet is not seen, and no
// byte is fetched twice. The fault hits a block, a large read, a hinted one,
// and the first request of all.
func TestPassingFaults(t *testing.T) {
	for name, fault := range passing {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, hit := range []int{0, 1} {
				for _, n := range []int64{100, 300_000} {
					for _, hinted := range []bool{false, true} {
						stalls := strings.HasPrefix(name, "stalls")
						if stalls && (hinted == (hit == 0) || n == 100) {
							continue // which take their time
						}
						srv := serve(t, 1<<20)
						srv.fault = func(w http.ResponseWriter, r *http.Request, n int) bool {
							if n == hit {
								fault(srv, w, r)
							}
							return n == hit
						}
						o := quick()
						if stalls {
							o.StallTimeout = 600 * time.Millisecond
						}
						s := get(t, srv.URL, o)
						if hinted {
							s.Prefetch(500_000, n)
						}
						one(t, srv, s, 500_000, n)
						requests, sent := srv.counted()
						require.Equal(t, 3, requests)
						if n < blockSize && !hinted {
							n = blockSize
						}
						require.Equal(t, n+blockSize, sent, "bytes sent")
						require.NoError(t, s.Close())
					}
				}
			}
		})
	}
}

// TestResume: each attempt goes on at the byte that was reached, and what makes
// progress may fail any number of times.
func TestResume(t *testing.T) {
	srv := serve(t, 200_000)
	srv.fault = func(w http.ResponseWriter, r *http.Request, n int) bool {
		off, end := requestRange(r)
		end = min(end, int64(len(srv.content)))
		srv.head(w, off, end)
		srv.write(w, srv.content[off:min(end, off+9999)])
		flush(w)
		if end > off+9999 {
			abort()
		}
		return true
	}
	o := quick()
	o.Attempts = 2
	s := get(t, srv.URL, o)
	one(t, srv, s, 70_000, 130_000)
	_, sent := srv.counted()
	require.EqualValues(t, blockSize+130_000, sent)
	require.Equal(t, span{70_000 + 9999, 200_000}, srv.asked[8])
}

// TestSlowDrip: a server that is slow and not silent is waited for; so is a
// reader by the server.
func TestSlowDrip(t *testing.T) {
	srv := serve(t, 100)
	srv.fault = func(w http.ResponseWriter, r *http.Request, n int) bool {
		srv.head(w, 0, 100)
		for i := range 20 {
			w.Write(srv.content[i*5 : i*5+5])
			flush(w)
			time.Sleep(20 * time.Millisecond)
		}
		return true
	}
	o := quick()
	o.StallTimeout = 300 * time.Millisecond
	s := get(t, srv.URL, o)
	one(t, srv, s, 0, 100)
	require.Len(t, srv.asked, 1)
}

// TestGivesUp: after so many attempts in a row the last error is told.
func TestGivesUp(t *testing.T) {
	for name, want := range map[string]string{
		"503": "the server answers 503 (Service Unavailable) (3 attempts in a row)", "429": "the server answers 429 (Too Many Requests) (3",
		"closes": "EOF (3", "stalls": "no byte came for 20ms: the server is silent (3",
	} {
		srv := serve(t, 1<<20)
		srv.fault = func(w http.ResponseWriter, r *http.Request, n int) bool {
			if n > 0 {
				passing[name](srv, w, r)
			}
			return n > 0
		}
		o := quick()
		o.Attempts = 3
		s := get(t, srv.URL, o)
		s.c.o.StallTimeout = 20 * time.Millisecond
		_, err := s.ReadAt(make([]byte, 100), 500_000)
		require.ErrorContains(t, err, want)
		require.ErrorContains(t, err, s.Name()+": reading at 0x7a120: ")
		requests, _ := srv.counted()
		if name != "closes" { // which net/http tries again by itself where the connection was used before
			require.Equal(t, 4, requests, name)
		}
	}
}

func TestBackoff(t *testing.T) {
	t.Parallel() // it waits
	srv := serve(t, 100)
	var times []time.Time
	srv.fault = func(w http.ResponseWriter, r *http.Request, n int) bool {
		times = append(times, time.Now())
		if n == 4 {
			return false
		}
		if n == 3 {
			w.Header().Set("Retry-After", "1")
		}
		w.WriteHeader(http.StatusServiceUnavailable)
		return true
	}
	o := quick()
	o.Backoff = 10 * time.Millisecond
	get(t, srv.URL, o)
	for i, least := range []time.Duration{10, 20, 40, 1000} {
		require.GreaterOrEqual(t, times[i+1].Sub(times[i]), least*time.Millisecond)
	}
	require.Less(t, times[3].Sub(times[0]), 500*time.Millisecond)

	h := func(v string) http.Header { return http.Header{"Retry-After": {v}} }
	require.Equal(t, 120*time.Second, retryAfter(h("120")))
	require.Zero(t, retryAfter(h("")))
	require.Zero(t, retryAfter(h("-5")))
	require.Zero(t, retryAfter(h("99999999999999999999")))
	require.Zero(t, retryAfter(h("Sun, 06 Nov 1994 08:49:37 GMT")))
	require.InDelta(t, 3600, retryAfter(h(time.Now().Add(time.Hour).UTC().Format(http.TimeFormat))).Seconds(), 5)
}

// A lasting is an answer that is an error at once: when the object is opened,
// or when it is read.
type lasting struct {
	answer      func(s *server, w http.ResponseWriter, r *http.Request)
	first, then string // the errors; "" if it is none
}

func status(code int, page string) func(*server, http.ResponseWriter, *http.Request) {
	return func(_ *server, w http.ResponseWriter, _ *http.Request) { http.Error(w, page, code) }
}

// contentRange answers with a Content-Range of its own, {off} and {last} being
// what was asked for.
func contentRange(format string, add int64) func(*server, http.ResponseWriter, *http.Request) {
	return func(s *server, w http.ResponseWriter, r *http.Request) {
		off, end := requestRange(r)
		s.validators(w)
		if format != "" {
			w.Header().Set("Content-Range", fmt.Sprintf(format, off+add, end-1))
		}
		w.WriteHeader(http.StatusPartialContent)
		w.Write(s.content[off+add : end])
	}
}

func encoded(name string) func(*server, http.ResponseWriter, *http.Request) {
	return func(s *server, w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Encoding", name)
		s.give(w, r)
	}
}

var lastingFaults = map[string]lasting{
	"400": {status(400, ""), "the server answers 400 (Bad Request)", "the server answers 400 (Bad Request)"},
	"401": {status(401, ""), "wants an authorization", "the authorization has expired"},
	"403": {status(403, "<Code>AccessDenied</Code>"), "access is forbidden (403)", "the link has expired: what was allowed before is forbidden now (403)"},
	"403 of S3, expired": {status(403, "<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>"),
		"the link has expired (403)", "the link has expired (403)"},
	"400 of S3, expired":    {status(400, "<Error><Code>ExpiredToken</Code></Error>"), "the link has expired (400)", "the link has expired (400)"},
	"403 of Azure, expired": {status(403, "Signature not valid in the specified time frame"), "the link has expired (403)", "the link has expired (403)"},
	"404":                   {status(404, ""), "there is no such object (404)", "the object is not there any more (404)"},
	"410":                   {status(410, ""), "the object is gone (410)", "the object is gone (410)"},
	"416":                   {status(416, ""), "the server refuses the range (416)", "the server refuses the range (416)"},
	"204":                   {status(204, ""), "the server answers 204 (No Content)", "the server answers 204"},
	"304":                   {status(304, ""), "the server answers 304", "the server answers 304"},
	"600":                   {status(600, ""), "the server answers 600 (1 attempts", "the server answers 600 (1 attempts"},

	"no Content-Range":      {contentRange("", 0), "(no Content-Range)", "(no Content-Range)"},
	"other Content-Range":   {contentRange("bytes %d-%d/1048576", 5), "bytes at 5 of 1048576 where the first 65536 were", "bytes at 458757 where 65536 at 458752 were"},
	"size not told":         {contentRange("bytes %d-%d/*", 0), "does not tell a range and the object's size", "does not tell a range"},
	"unit not known":        {contentRange("lines %d-%d/1048576", 0), `The Content-Range "lines 0-65535/1048576" does not tell`, "does not tell a range"},
	"range outside":         {contentRange("bytes %d-%d/100", 0), "does not tell a range", "does not tell a range"},
	"206 without a range":   {contentRange("bytes */1048576%.0d%.0d", 0), "does not tell a range", "does not tell a range"},
	"fewer than asked for":  {fewer, "65535 bytes at 0 of 1048576 where the first 65536 were", "65535 bytes at 458752 where 65536 at 458752 were"},
	"more than asked for":   {more, "65537 bytes at 0 of 1048576 where the first 65536 were", "65537 bytes at 458752 where 65536"},
	"more than told":        {moreThanTold, "more bytes than its Content-Range tells", "more bytes than its Content-Range tells"},
	"length that is not it": {wrongLength, "Content-Length is 65537, and its Content-Range one of 65536", "Content-Length is 65537"},

	"gzip":     {encoded("gzip"), `sends the object encoded (Content-Encoding: "gzip")`, "sends the object encoded"},
	"identity": {encoded("identity"), "", ""},
	"another size": {func(s *server, w http.ResponseWriter, r *http.Request) {
		off, end := requestRange(r)
		s.validators(w)
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/1048577", off, end-1))
		w.WriteHeader(http.StatusPartialContent)
		w.Write(s.content[off:end])
	}, "", "it is 1048577 bytes long, it was 1048576"},
	"shorter than the range": {func(s *server, w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Range", "bytes */400")
		w.WriteHeader(416)
	}, "the server refuses the range (416)", "it is 400 bytes long, it was 1048576"},
}

func fewer(s *server, w http.ResponseWriter, r *http.Request) {
	off, end := requestRange(r)
	s.head(w, off, end-1)
	w.Write(s.content[off : end-1])
}

func more(s *server, w http.ResponseWriter, r *http.Request) {
	off, end := requestRange(r)
	s.head(w, off, end+1)
	w.Write(s.content[off : end+1])
}

func moreThanTold(s *server, w http.ResponseWriter, r *http.Request) {
	off, end := requestRange(r)
	s.validators(w)
	w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", off, end-1, len(s.content)))
	w.WriteHeader(http.StatusPartialContent)
	flush(w) // so that it has no Content-Length
	w.Write(s.content[off : end+1])
}

func wrongLength(s *server, w http.ResponseWriter, r *http.Request) {
	off, end := requestRange(r)
	s.validators(w)
	w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", off, end-1, len(s.content)))
	w.Header().Set("Content-Length", fmt.Sprint(end-off+1))
	w.WriteHeader(http.StatusPartialContent)
	w.Write(s.content[off : end+1])
}

// TestLastingFaults: what is wrong is told, at once and not after attempts.
func TestLastingFaults(t *testing.T) {
	for name, f := range lastingFaults {
		t.Run(name, func(t *testing.T) {
			srv := serve(t, 1<<20)
			o := quick()
			o.Attempts = 1
			var hit atomic.Int64
			srv.fault = func(w http.ResponseWriter, r *http.Request, n int) bool {
				if int64(n) != hit.Load() {
					return false
				}
				f.answer(srv, w, r)
				return true
			}
			if f.first == "" {
				get(t, srv.URL, o)
			} else {
				err := failing(t, srv.URL+"/disk", o)
				require.ErrorContains(t, err, f.first[1:])
				require.ErrorContains(t, err, srv.URL+"/disk: ")
				require.Len(t, srv.asked, 1)
			}
			requests, _ := srv.counted()
			hit.Store(int64(requests + 1))
			s := get(t, srv.URL, o)
			_, err := s.ReadAt(make([]byte, 100), 500_000)
			if f.then == "" {
				require.NoError(t, err)
			} else {
				require.ErrorContains(t, err, f.then)
			}
			require.Len(t, srv.asked, requests+2)
		})
	}
}

// TestManyFaults: under faults of all passing kinds, many readers get the
// object's bytes.
func TestManyFaults(t *testing.T) {
	srv := serve(t, 8<<20)
	var kinds []func(s *server, w http.ResponseWriter, r *http.Request)
	for name, fault := range passing {
		if name != "stalls" && name != "stalls in the middle" {
			kinds = append(kinds, fault)
		}
	}
	var turn atomic.Int64
	srv.fault = func(w http.ResponseWriter, r *http.Request, n int) bool {
		off, end := requestRange(r)
		i := turn.Add(1)
		if n == 0 || i%3 == 0 || end-off <= 1000 {
			return false
		}
		kinds[i%int64(len(kinds))](srv, w, r)
		return true
	}
	o := quick()
	o.Attempts, o.Memory = 100, 4<<20
	s := get(t, srv.URL, o)
	s.Prefetch(0, s.Size())
	var next atomic.Int64
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			p := make([]byte, 100_000)
			for off := next.Add(100_000) - 100_000; off < s.Size(); off = next.Add(100_000) - 100_000 {
				n := min(100_000, s.Size()-off)
				if _, err := s.ReadAt(p[:n], off); err != nil || !bytes.Equal(p[:n], srv.content[off:off+n]) {
					t.Errorf("at %d: %v", off, err)
				}
			}
		})
	}
	wg.Wait()
}
