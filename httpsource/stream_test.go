package httpsource

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/diskimage-go/diskimage"
	"github.com/stretchr/testify/require"
)

// stream returns the stream of a server that answers every request with this.
func stream(t *testing.T, size int, answer func(s *server, w http.ResponseWriter, r *http.Request)) (*server, *Stream) {
	t.Helper()
	srv := serve(t, size)
	srv.fault = func(w http.ResponseWriter, r *http.Request, n int) bool {
		answer(srv, w, r)
		return true
	}
	object, err := Get(context.Background(), srv.URL+"/d", quick())
	require.NoError(t, err)
	require.Nil(t, object.Source)
	t.Cleanup(func() { require.NoError(t, object.Stream.Close()) })
	require.Equal(t, srv.URL+"/d", object.Stream.Name())
	object.Stream.r.stallTimeout = 200 * time.Millisecond
	return srv, object.Stream
}

// whole answers with the first n bytes, of a length that is told or not.
func whole(n int, told bool) func(s *server, w http.ResponseWriter, r *http.Request) {
	return func(s *server, w http.ResponseWriter, r *http.Request) {
		if told {
			w.Header().Set("Content-Length", fmt.Sprint(len(s.content)))
		} else {
			flush(w)
		}
		w.Write(s.content[:n])
		flush(w)
		if n < len(s.content) {
			abort()
		}
	}
}

func TestStream(t *testing.T) {
	for _, told := range []bool{true, false} {
		srv, s := stream(t, 300_000, whole(300_000, told))
		if told {
			require.EqualValues(t, 300_000, s.Size())
			time.Sleep(250 * time.Millisecond) // a reader who is slow is no silent server
		} else {
			require.EqualValues(t, -1, s.Size())
		}
		got, err := io.ReadAll(s)
		require.NoError(t, err)
		same(t, srv.content, got)
		_, err = s.Read(make([]byte, 1))
		require.Equal(t, io.EOF, err)
		require.Len(t, srv.asked, 1)
	}
}

// TestStreamCut: what ends before its end is never taken for whole.
func TestStreamCut(t *testing.T) {
	for _, told := range []bool{true, false} {
		srv, s := stream(t, 300_000, whole(200_000, told))
		got, err := io.ReadAll(s)
		require.ErrorIs(t, err, diskimage.ErrTruncated)
		same(t, srv.content[:200_000], got)
		want := s.Name() + " at 0x30d40: the server's answer ends here"
		if told {
			want += ", and is to be 300000 bytes long"
		}
		require.EqualError(t, err, want)
		_, again := s.Read(make([]byte, 1))
		require.Equal(t, err, again)
		require.Len(t, srv.asked, 1)
	}

	// A foreign transport that does not count.
	o := quick()
	o.Transport = roundTripper(func(r *http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: 200, ContentLength: 11, Body: io.NopCloser(strings.NewReader("ten bytes."))}, nil
	})
	object, err := Get(context.Background(), "http://host/", o)
	require.NoError(t, err)
	_, err = io.ReadAll(object.Stream)
	require.ErrorIs(t, err, diskimage.ErrTruncated)

	srv, s := stream(t, 1000, func(s *server, w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "1000")
		w.Write(s.content[:600])
		flush(w)
		<-r.Context().Done()
	})
	got, err := io.ReadAll(s)
	require.ErrorContains(t, err, "after 600 bytes: no byte came for 200ms")
	same(t, srv.content[:600], got)
}

// TestStreamWithoutEnd: where neither a length nor chunks mark the end, a
// broken connection is none that could be seen.
func TestStreamWithoutEnd(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	go func() {
		conn, err := l.Accept()
		if err == nil {
			conn.Read(make([]byte, 4096))
			io.WriteString(conn, "HTTP/1.0 200 OK\r\n\r\nsome bytes")
			conn.Close()
		}
	}()
	require.ErrorContains(t, failing(t, "http://"+l.Addr().String(), quick()), "does not mark its end")
}

func TestStreamIsEncoded(t *testing.T) {
	srv := serve(t, 100)
	srv.fault = func(w http.ResponseWriter, r *http.Request, n int) bool {
		w.Header().Set("Content-Encoding", "gzip")
		w.Write(srv.content)
		return true
	}
	require.ErrorContains(t, failing(t, srv.URL, quick()), "sends the object encoded")
}

func TestStreamClose(t *testing.T) {
	reached := make(chan struct{})
	_, s := stream(t, 1000, func(s *server, w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "1000")
		w.Write(s.content[:600])
		flush(w)
		<-reached
		<-r.Context().Done()
	})
	s.r.stallTimeout = time.Minute
	done := make(chan error)
	go func() {
		_, err := io.ReadAll(s)
		done <- err
	}()
	close(reached)
	time.Sleep(10 * time.Millisecond)
	require.NoError(t, s.Close())
	require.ErrorIs(t, <-done, fs.ErrClosed)
	_, err := s.Read(make([]byte, 1))
	require.ErrorIs(t, err, fs.ErrClosed)
}
