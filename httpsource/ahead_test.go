package httpsource

import (
	"math/rand/v2"
	"net/http"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// after returns what was asked for after the front, by offset.
func (s *server) after(t testing.TB) []span {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	spans := slices.Clone(s.asked[1:])
	slices.SortFunc(spans, func(a, b span) int { return int(a.off - b.off) })
	return spans
}

// idle waits until no GET for hinted ranges is under way.
func idle(t testing.TB, s *Source) {
	t.Helper()
	require.Eventually(t, func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.active == 0
	}, 5*time.Second, time.Millisecond)
}

// TestPrefetchOnce: what was hinted is fetched once, in large GETs, several at
// a time, whatever the size of the hints and of the reads.
func TestPrefetchOnce(t *testing.T) {
	const size = 17 << 20
	for _, piece := range []int{10_000, 64 << 10, 3 << 20} {
		srv := serve(t, size)
		srv.fault = func(w http.ResponseWriter, r *http.Request, n int) bool {
			if n > 0 {
				srv.together(8)
			}
			return false
		}
		s := get(t, srv.URL, quick())
		for off := int64(0); off < size; off += int64(piece) {
			s.Prefetch(off, int64(piece))
		}
		same(t, srv.content, all(t, s, piece))
		requests, sent := srv.counted()
		require.EqualValues(t, size+blockSize, sent, "pieces of %d", piece)
		require.LessOrEqual(t, requests, 2+size>>20)
		require.Equal(t, 8, srv.most)
		require.NoError(t, s.Close())
	}
}

// TestPrefetchMemory: no more is asked for than may be held, until what was
// read makes room; what was not read in its turn comes when it is read.
func TestPrefetchMemory(t *testing.T) {
	const most = 4 << 20
	srv := serve(t, 24<<20)
	o := quick()
	o.Memory, o.InFlight = most, 2
	s := get(t, srv.URL, o)
	s.Prefetch(0, s.Size())
	within := func() {
		idle(t, s)
		require.LessOrEqual(t, s.held, int64(most))
	}
	within()
	_, sent := srv.counted()
	require.LessOrEqual(t, sent, int64(most+blockSize))
	require.Greater(t, sent, int64(most/2))

	one(t, srv, s, 20<<20, 1<<20) // there is no room: fetched for itself
	within()
	require.Negative(t, s.queued(20<<20), "it was read: no hint is left")
	_, sent2 := srv.counted()
	require.Equal(t, sent+1<<20, sent2)

	// Of each piece the end is never read: that makes room later.
	for off := int64(0); off < s.Size(); off += 1 << 20 {
		if off != 20<<20 {
			one(t, srv, s, off, 1<<20-1000)
		}
	}
	within()
	_, sent = srv.counted()
	require.LessOrEqual(t, sent, s.Size()+s.Size()/4)
	require.Greater(t, s.parts[len(s.parts)-1].off, int64(20<<20), "reading ahead went on")
}

// TestPrefetchNothingElse: gaps between hints are fetched only where they are
// small, and so are hints that nothing follows.
func TestPrefetchNothingElse(t *testing.T) {
	srv := serve(t, 8<<20)
	s := get(t, srv.URL, quick())
	s.Prefetch(1<<20, 100_000)
	one(t, srv, s, 1<<20+5000, 95_000)
	require.Equal(t, []span{{1 << 20, 1<<20 + 100_000}}, srv.after(t))
	one(t, srv, s, 1<<20, 100_000)
	require.Len(t, srv.after(t), 1)

	// Sectors in disorder, overlapping, outside, and a hole.
	srv = serve(t, 8<<20)
	hold := make(chan struct{})
	srv.fault = func(w http.ResponseWriter, r *http.Request, n int) bool {
		if n == 1 {
			<-hold
		}
		return false
	}
	s = get(t, srv.URL, quick())
	s.Prefetch(7<<20, 1000) // keeps the rest waiting for company
	for i := range int64(20) {
		s.Prefetch(2<<20+i*30_000, 30_000-512)
		s.Prefetch(2<<20+i*30_000, 2000)
	}
	s.Prefetch(5<<20, 1000)
	s.Prefetch(-5, 10)
	s.Prefetch(0, -10)
	s.Prefetch(s.Size(), 10)
	s.Prefetch(8<<20-10, 1<<62)
	close(hold)
	one(t, srv, s, 8<<20-10, 10)
	one(t, srv, s, 5<<20, 1000)
	one(t, srv, s, 2<<20+590_000-30_000, 5000)
	one(t, srv, s, 2<<20, 500_000)
	idle(t, s) // what nobody reads may not have been asked for yet
	require.Equal(t, []span{{2 << 20, 2<<20 + 600_000 - 512}, {5 << 20, 5<<20 + 1000}, {7 << 20, 7<<20 + 1000}, {8<<20 - 10, 8 << 20}}, srv.after(t))
}

// TestGather: what becomes one GET.
func TestGather(t *testing.T) {
	s := &Source{ahead: newAhead(Options{Memory: 32 << 20, InFlight: 8})}
	s.c = &client{version: &version{size: 1 << 40}}
	s.parts = []*part{{span: span{9 << 30, 10 << 30}}}
	const k, m = 1 << 10, 1 << 20
	for _, c := range []struct{ queue, want []span }{
		{[]span{{0, 100}}, []span{{0, 100}}},
		{[]span{{5, 100 * m}}, []span{{5, 2*m + 5}}},
		{[]span{{0, m}, {m, 3 * m}}, []span{{0, m}, {m, 2 * m}}},
		{[]span{{0, m}, {m + 64*k, 2 * m}}, []span{{0, m}, {m + 64*k, 2 * m}}},
		{[]span{{0, m}, {m + 64*k + 1, 2 * m}}, []span{{0, m}}},            // too long a gap
		{[]span{{0, 1500}, {1600, 3200}}, []span{{0, 1500}, {1600, 3200}}}, // a 32nd
		{[]span{{0, 1500}, {1800, 3200}}, []span{{0, 1500}}},               // more than a 16th
		{[]span{{0, 10 * k}, {10*k + 600, 20 * k}, {20*k + 600, 30 * k}, {30*k + 1400, 40 * k}}, // in all
			[]span{{0, 10 * k}, {10*k + 600, 20 * k}, {20*k + 600, 30 * k}}},
		{[]span{{m, 2 * m}, {0, m}}, []span{{m, 2 * m}}},                                    // backwards
		{[]span{{9<<30 - 5, 11 << 30}, {11 << 30, 12 << 30}}, []span{{9<<30 - 5, 9 << 30}}}, // up to what a part holds
	} {
		require.Equal(t, c.want, s.gather(c.queue[0], c.queue[1:]), "%v", c.queue)
	}
}

// TestSpare: the memory of a part that somebody reads is not used again.
func TestSpare(t *testing.T) {
	read, idle := &part{span: span{0, 10}, buf: make([]byte, 10), users: 1}, &part{span: span{10, 20}, buf: make([]byte, 10)}
	s := &Source{ahead: ahead{parts: []*part{read, idle}}}
	s.drop(read)
	require.Nil(t, s.spare)
	s.drop(idle)
	require.NotNil(t, s.spare)
}

// TestPrefetchFails: a hint that cannot be kept is forgotten, who waits for it
// learns why, and who comes later asks anew.
func TestPrefetchFails(t *testing.T) {
	srv := serve(t, 8<<20)
	var down atomic.Bool
	down.Store(true)
	srv.fault = func(w http.ResponseWriter, r *http.Request, n int) bool {
		if n == 0 || !down.Load() {
			return false
		}
		w.WriteHeader(http.StatusServiceUnavailable)
		return true
	}
	o := quick()
	o.Attempts, o.InFlight, o.Memory = 2, 2, 4<<20 // GETs of 1 MiB
	s := get(t, srv.URL, o)
	s.Prefetch(1<<20, 7<<20)
	_, err := s.ReadAt(make([]byte, 1000), 2<<20)
	require.ErrorContains(t, err, "the server answers 503 (Service Unavailable) (2 attempts in a row)")
	require.Eventually(t, func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.active == 0
	}, 5*time.Second, time.Millisecond)
	requests, _ := srv.counted()
	require.LessOrEqual(t, requests, 1+3*2, "the rest was not asked for")
	require.Empty(t, s.queue)
	require.Empty(t, s.parts)
	require.Zero(t, s.held)
	down.Store(false)
	one(t, srv, s, 2<<20, 1000)
}

// TestPrefetchIsBounded: hints beyond reason are dropped, and small ones count
// for what they cost.
func TestPrefetchIsBounded(t *testing.T) {
	srv := serve(t, 16<<20)
	srv.fault = func(w http.ResponseWriter, r *http.Request, n int) bool {
		if n > 0 {
			<-r.Context().Done()
		}
		return n > 0
	}
	s := get(t, srv.URL, quick())
	for i := range int64(10_000) {
		s.Prefetch(i*1600, 1)
	}
	require.LessOrEqual(t, len(s.queue), mostHints)
	require.LessOrEqual(t, s.active, 8)

	o := quick()
	o.Memory = 100
	s = get(t, serve(t, 2<<20).URL, o)
	s.Prefetch(0, 1<<20) // for which there is no memory at all
	require.Empty(t, s.queue)
}

// TestPrefetchRandomly: any hints and any reads give the object's bytes, and
// the books are right.
func TestPrefetchRandomly(t *testing.T) {
	srv := serve(t, 4<<20)
	for seed := range uint64(5) {
		rnd := rand.New(rand.NewPCG(seed, 7))
		o := quick()
		o.Memory = 1 << (18 + rnd.IntN(5))
		o.InFlight = 1 + rnd.IntN(4)
		s := get(t, srv.URL, o)
		for range 100 {
			off, n := rnd.Int64N(s.Size()), rnd.Int64N(1<<(8+rnd.IntN(13)))
			if rnd.IntN(3) > 0 {
				s.Prefetch(off, n)
			} else {
				one(t, srv, s, off, min(n, s.Size()-off))
			}
			s.mu.Lock()
			held, end := int64(0), int64(0)
			for _, p := range s.parts {
				require.LessOrEqual(t, end, p.off)
				held, end = held+p.cost(), p.end
			}
			require.Equal(t, held, s.held)
			require.LessOrEqual(t, held, o.Memory)
			s.mu.Unlock()
		}
		require.NoError(t, s.Close())
	}
}
