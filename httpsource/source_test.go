package httpsource

import (
	"bytes"
	"context"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/diskimage-go/diskimage"
	"github.com/stretchr/testify/require"
)

func TestReadAt(t *testing.T) {
	srv := serve(t, 3*blockSize+1234)
	s := get(t, srv.URL+"/disks/a%20b.qcow2", quick())
	size := int64(len(srv.content))
	require.Equal(t, size, s.Size())
	require.Equal(t, srv.URL+"/disks/a%20b.qcow2", s.Name())
	require.Empty(t, s.Notes())
	require.Equal(t, []span{{0, blockSize}}, srv.asked)

	one(t, srv, s, 0, 4096) // came with the size
	require.Len(t, srv.asked, 1)
	for _, piece := range []int{1000, 4096, blockSize, blockSize + 1, 1 << 20} {
		same(t, srv.content, all(t, s, piece))
	}

	p := make([]byte, 100)
	n, err := s.ReadAt(p, size-40)
	require.Equal(t, 40, n)
	require.Equal(t, io.EOF, err)
	same(t, srv.content[size-40:], p[:40])
	for _, off := range []int64{size, size + 1, 1<<63 - 1} {
		n, err = s.ReadAt(p, off)
		require.Zero(t, n)
		require.Equal(t, io.EOF, err)
	}
	_, err = s.ReadAt(p, -1)
	require.ErrorContains(t, err, "negative offset")
	n, err = s.ReadAt(nil, size)
	require.Zero(t, n)
	require.NoError(t, err)
}

// TestBlocks: a table that is read in pages costs a GET for each block, also
// for many readers at once, and only the blocks used last are kept.
func TestBlocks(t *testing.T) {
	srv := serve(t, 4*blockSize)
	s := get(t, srv.URL, quick())
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for off := range int64(4 * blockSize / 4096) {
				p := make([]byte, 4096)
				_, err := s.ReadAt(p, off*4096)
				if err != nil || !bytes.Equal(p, srv.content[off*4096:][:4096]) {
					t.Errorf("at %d: %v", off*4096, err)
				}
			}
		})
	}
	wg.Wait()
	requests, sent := srv.counted()
	require.Equal(t, 4, requests)
	require.EqualValues(t, 4*blockSize, sent)

	var b blocks
	loads := 0
	load := func() ([]byte, error) { loads++; return nil, nil }
	for i := range int64(mostBlocks + 10) {
		b.get(i, load)
		b.get(0, load) // in use all the time
	}
	require.Len(t, b.at, mostBlocks)
	require.Equal(t, mostBlocks+10, loads)
	b.get(1, load)
	require.Equal(t, mostBlocks+11, loads)
}

func TestConcurrentReads(t *testing.T) {
	srv := serve(t, 3<<20)
	o := quick()
	o.Memory = 3 << 20
	s := get(t, srv.URL, o)
	var wg sync.WaitGroup
	for g := range 16 {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(g), 1))
			p := make([]byte, 100_000)
			for range 15 {
				off := rnd.Int64N(s.Size())
				n := min(1+rnd.Int64N(int64(len(p))), s.Size()-off)
				if rnd.IntN(2) == 0 {
					s.Prefetch(off-rnd.Int64N(1000), n+rnd.Int64N(1<<19))
				}
				got, err := s.ReadAt(p[:n], off)
				if err != nil || int64(got) != n || !bytes.Equal(p[:n], srv.content[off:off+n]) {
					t.Errorf("%d bytes at %d: %d, %v", n, off, got, err)
					return
				}
			}
		})
	}
	wg.Wait()
}

func TestEmptyObject(t *testing.T) {
	answers := map[string]func(w http.ResponseWriter, r *http.Request, n int) bool{
		"416": nil,
		"200": func(w http.ResponseWriter, r *http.Request, n int) bool { w.Header().Set("ETag", `"v1"`); return true },
	}
	for name, fault := range answers {
		t.Run(name, func(t *testing.T) {
			srv := serve(t, 0)
			srv.fault = fault
			s := get(t, srv.URL, quick())
			require.Zero(t, s.Size())
			n, err := s.ReadAt(make([]byte, 10), 0)
			require.Zero(t, n)
			require.Equal(t, io.EOF, err)
			s.Prefetch(0, 100)
			require.NoError(t, s.Changed())
			srv.fault = nil
			srv.content = []byte("something")
			require.ErrorIs(t, s.Changed(), diskimage.ErrChanged)
		})
	}
}

// TestRealServer: Go's own file server says the same, with what it does.
func TestRealServer(t *testing.T) {
	content := bytes.Repeat([]byte("0123456789abcdef"), 20_000)
	for name, size := range map[string]int{"large": len(content), "small": 100, "empty": 0} {
		t.Run(name, func(t *testing.T) {
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				http.ServeContent(w, r, "disk.raw", time.Unix(1e9, 0), strings.NewReader(string(content[:size])))
			}))
			defer srv.Close()
			s := get(t, srv.URL, quick())
			require.EqualValues(t, size, s.Size())
			s.Prefetch(0, s.Size())
			same(t, content[:size], all(t, s, 50_000))
			require.NoError(t, s.Changed())
			require.Empty(t, s.Notes())
		})
	}
}

func TestClose(t *testing.T) {
	before := runtime.NumGoroutine()
	srv := serve(t, 8<<20)
	waiting := make(chan struct{}, 100)
	srv.fault = func(w http.ResponseWriter, r *http.Request, n int) bool {
		if n == 0 {
			return false
		}
		off, end := requestRange(r)
		srv.head(w, off, end)
		srv.write(w, srv.content[off:off+1])
		flush(w)
		waiting <- struct{}{}
		<-r.Context().Done()
		return true
	}
	s := get(t, srv.URL, quick())
	s.Prefetch(4<<20, 4<<20)
	errs := make(chan error)
	for _, off := range []int64{100_000, 200_000, 5 << 20} {
		go func() {
			_, err := s.ReadAt(make([]byte, 5000), off)
			errs <- err
		}()
	}
	<-waiting // one of them at least
	require.NoError(t, s.Close())
	require.Zero(t, s.active, "it waits for what is under way")
	for range 3 {
		require.ErrorIs(t, <-errs, fs.ErrClosed)
	}
	require.NoError(t, s.Close())
	_, err := s.ReadAt(make([]byte, 1), 0)
	require.ErrorIs(t, err, fs.ErrClosed)
	require.ErrorIs(t, s.Changed(), fs.ErrClosed)
	s.Prefetch(0, 100)
	require.Empty(t, s.queue)
	srv.Close()
	for deadline := time.Now().Add(2 * time.Second); runtime.NumGoroutine() > before; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			buf := make([]byte, 1<<16)
			t.Fatalf("goroutines are left: %s", buf[:runtime.Stack(buf, true)])
		}
	}
}

// TestContext: the context that was given to Get ends reading.
func TestContext(t *testing.T) {
	srv := serve(t, 1<<20)
	ctx, cancel := context.WithCancelCause(context.Background())
	object, err := Get(ctx, srv.URL, quick())
	require.NoError(t, err)
	defer object.Source.Close()
	srv.fault = func(w http.ResponseWriter, r *http.Request, n int) bool {
		cancel(context.DeadlineExceeded)
		<-r.Context().Done()
		return true
	}
	_, err = object.Source.ReadAt(make([]byte, 10), 500_000)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.Len(t, srv.asked, 2)
	require.ErrorIs(t, object.Source.Changed(), context.DeadlineExceeded)

	_, err = Get(ctx, srv.URL, quick())
	require.ErrorIs(t, err, context.DeadlineExceeded)
}

func TestOptions(t *testing.T) {
	for _, o := range []Options{
		{InFlight: -1}, {Memory: -1}, {Attempts: -1}, {Backoff: -1}, {StallTimeout: -1},
		{Header: http.Header{"range": {"bytes=0-1"}}},
		{Header: http.Header{"If-Match": {"*"}}},
		{Transport: http.DefaultTransport, Allow: PublicOnly},
	} {
		require.ErrorContains(t, failing(t, "http://127.0.0.1:1/", o), "httpsource: Options")
	}
	for _, url := range []string{"", "disk.raw", "/disk.raw", "file:///etc/passwd", "ftp://host/x", "http:", "http:///x", "https://u:pw/x@h/y?%zz", "http://h/%zz", "http://h:port/"} {
		require.ErrorContains(t, failing(t, url, Options{}), "httpsource: the URL ", url)
	}

	srv := serve(t, 100)
	o := quick()
	o.Transport = http.DefaultTransport
	o.Header = http.Header{"x-token": {"abc"}}
	s := get(t, srv.URL, o)
	same(t, srv.content, all(t, s, 100))
	require.Equal(t, "abc", srv.seen[0].Header.Get("X-Token"))
	require.Equal(t, "identity", srv.seen[0].Header.Get("Accept-Encoding"))
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
}
