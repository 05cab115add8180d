package httpsource

import (
	"bytes"
	"net/http"
	"testing"
	"time"

	"github.com/diskimage-go/diskimage"
	"github.com/stretchr/testify/require"
)

// TestObjectIsReplaced: whatever tells it, it is ErrChanged, for all that comes
// later too; what is in memory is still the old object's.
func TestObjectIsReplaced(t *testing.T) {
	for name, c := range map[string]struct{ etag, modified, etag2, modified2, want string }{
		"strong ETag":            {`"v1"`, "", `"v2"`, "", "the server refuses the ETag that it had"},
		"weak ETag":              {`W/"v1"`, "yesterday", `W/"v2"`, "yesterday", "its ETag is not what it was"},
		"Last-Modified":          {"", "yesterday", "", "today", "its Last-Modified is not what it was"},
		"weak, Last-Modified":    {`W/"v1"`, "yesterday", `W/"v1"`, "today", "its Last-Modified is not what it was"},
		"not told any more":      {"", "yesterday", "", "", "its Last-Modified is not what it was"},
		"ETag without quotes":    {`v1`, "", `v2`, "", "its ETag is not what it was"},
		"strong, and then weak":  {`"v1"`, "", `W/"v1"`, "", "the server refuses the ETag that it had"},
		"nothing, and then some": {"", "", `"v1"`, "", "its ETag is not what it was"},
	} {
		t.Run(name, func(t *testing.T) {
			srv := serve(t, 1<<20)
			srv.etag, srv.modified = c.etag, c.modified
			s := get(t, srv.URL, quick())
			one(t, srv, s, 500_000, 100)
			require.NoError(t, s.Changed())
			srv.etag, srv.modified = c.etag2, c.modified2
			_, err := s.ReadAt(make([]byte, 100), 300_000)
			require.ErrorIs(t, err, diskimage.ErrChanged)
			require.EqualError(t, err, s.Name()+": the object changed while it was read: "+c.want)
			require.ErrorIs(t, s.Changed(), diskimage.ErrChanged)
			requests, _ := srv.counted()
			s.Prefetch(700_000, 100_000)
			_, err = s.ReadAt(make([]byte, 100), 700_000)
			require.ErrorIs(t, err, diskimage.ErrChanged)
			after, _ := srv.counted()
			require.Equal(t, requests, after)
			one(t, srv, s, 500_000, 1000)
			if c.etag+c.modified == "" {
				require.Len(t, s.Notes(), 1)
			}

			// Changed finds it without anything being read.
			srv.etag, srv.modified = c.etag, c.modified
			s = get(t, srv.URL, quick())
			srv.etag, srv.modified = c.etag2, c.modified2
			require.ErrorIs(t, s.Changed(), diskimage.ErrChanged)
		})
	}
}

// TestIgnoredIfMatch: a server that does not look at If-Match is found out by
// its ETag.
func TestIgnoredIfMatch(t *testing.T) {
	srv := serve(t, 1<<20)
	s := get(t, srv.URL, quick())
	srv.fault = func(w http.ResponseWriter, r *http.Request, n int) bool {
		require.Equal(t, `"v1"`, r.Header.Get("If-Match"))
		r.Header.Del("If-Match")
		srv.etag = `"v2"`
		return false
	}
	_, err := s.ReadAt(make([]byte, 100), 300_000)
	require.ErrorIs(t, err, diskimage.ErrChanged)
	require.ErrorContains(t, err, "its ETag is not what it was")
}

// TestRangesEnd: a server that gives ranges at first, and then the whole.
func TestRangesEnd(t *testing.T) {
	srv := serve(t, 1<<20)
	s := get(t, srv.URL, quick())
	srv.fault = func(w http.ResponseWriter, r *http.Request, n int) bool {
		srv.validators(w)
		http.ServeContent(w, &http.Request{Method: "GET", Header: http.Header{}}, "", time.Time{}, bytes.NewReader(srv.content))
		return true
	}
	_, err := s.ReadAt(make([]byte, 100), 300_000)
	require.ErrorContains(t, err, "the whole object where it gave a range before")
	require.NotErrorIs(t, err, diskimage.ErrChanged)

	s.Prefetch(0, 1<<20)
	_, err = s.ReadAt(make([]byte, 100), 300_000)
	require.ErrorContains(t, err, "the whole object where it gave a range before")

	srv.fault = func(w http.ResponseWriter, r *http.Request, n int) bool {
		srv.validators(w)
		w.Write(srv.content[:500])
		return true
	}
	_, err = s.ReadAt(make([]byte, 100), 300_000)
	require.ErrorIs(t, err, diskimage.ErrChanged)
}

// TestChangedCannotTell: a link that has expired when all was read is no
// error, for each answer was held against the first; it is noted.
func TestChangedCannotTell(t *testing.T) {
	srv := serve(t, 1<<20)
	s := get(t, srv.URL, quick())
	srv.fault = func(w http.ResponseWriter, r *http.Request, n int) bool {
		w.WriteHeader(403)
		return true
	}
	require.NoError(t, s.Changed())
	require.NoError(t, s.Changed())
	require.Equal(t, []diskimage.Note{{Text: s.Name() + ": it could not be asked whether the object is still the same: the link has expired: what was allowed before is forbidden now (403)"}}, s.Notes())
}
