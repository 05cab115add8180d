package httpsource

import (
	"cmp"
	"slices"
	"sync"
)

const (
	// leastGet and mostGet bound the GETs for hinted ranges where there is
	// enough to ask for.
	leastGet = 1 << 20
	mostGet  = 4 << 20

	// mostGap is the longest gap between hinted ranges that is fetched with
	// them, and gapShare of what is fetched at once may be gaps: a 16th.
	mostGap  = 64 << 10
	gapShare = 16

	// mostHints is how many ranges may wait to be asked for; more are dropped.
	mostHints = 8192

	// partCost is what a part costs beside its bytes, so that many small ones
	// are bounded too.
	partCost = 512
)

// A span is the bytes [off, end) of the object.
type span struct{ off, end int64 }

// A part is one GET for hinted ranges, and its bytes as they come.
type part struct {
	span
	buf   []byte
	got   int        // bytes that are there; they do not change any more
	done  bool       // no more will come
	err   error      // why not all came
	more  *sync.Cond // got or done has changed
	users int        // calls that wait for its bytes or copy them
	wants []span     // hinted, and not read since
	used  int64      // what served was when it was last read from
}

// ahead is what a Source reads ahead. Hints become parts in their order, as
// far as memory goes; parts that have been read make room when it is needed.
// The source's mutex guards it.
type ahead struct {
	getSize  int64
	memory   int64
	inFlight int

	queue  []span  // hinted and not asked for, in the order of the hints
	parts  []*part // in the order of their offsets; no two overlap
	held   int64   // what the parts cost
	active int     // GETs under way
	served int64   // bytes that ReadAt has given
	spare  []byte  // of the part that was dropped last, for the next: fresh memory costs time
}

// newAhead chooses GETs of a size that lets as much wait to be read as is
// under way.
func newAhead(o Options) ahead {
	size := min(max(o.Memory/int64(2*o.InFlight), leastGet), mostGet)
	return ahead{getSize: min(size, max(o.Memory-partCost, 0)), memory: o.Memory, inFlight: o.InFlight}
}

// Prefetch hints, as [diskimage.Prefetcher] has it, that [off, off+n) will be
// read. Ranges that lie next to each other, or nearly, are fetched together,
// up to 4 MiB in one GET; what was fetched ahead is kept until it has been read
// and its memory is needed. Hints are dropped after an error, and when very
// many wait.
func (s *Source) Prefetch(off, n int64) {
	if off < 0 || n <= 0 || off >= s.Size() {
		return
	}
	hint := span{off, off + min(n, s.Size()-off)}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.life.Err() != nil || s.getSize == 0 {
		return
	}
	if last := len(s.queue) - 1; last >= 0 && s.queue[last].off <= hint.off && hint.off <= s.queue[last].end {
		s.queue[last].end = max(s.queue[last].end, hint.end)
	} else if len(s.queue) < mostHints {
		s.queue = append(s.queue, hint)
	}
	s.pump()
}

// pump starts what GETs may be started.
func (s *Source) pump() {
	for s.active < s.inFlight && s.life.Err() == nil && s.next() {
		wants := s.gather(s.queue[0], s.queue[1:])
		n := wants[len(wants)-1].end - wants[0].off
		if n < leastGet && n < s.getSize && s.active > 0 && wants[len(wants)-1] == s.queue[len(s.queue)-1] {
			return // more may come that goes with it
		}
		if !s.room(n) {
			return
		}
		s.start(wants)
	}
}

// next drops from the queue's front what parts hold, and reports whether
// anything is left.
func (s *Source) next() bool {
	for len(s.queue) > 0 {
		first := &s.queue[0]
		p := s.partAt(first.off)
		if p == nil {
			return true
		}
		if again := (span{first.off, min(first.end, p.end)}); !slices.Contains(p.wants, again) {
			p.wants = append(p.wants, again)
		}
		if first.off = p.end; first.off >= first.end {
			s.queue = s.queue[1:]
		}
	}
	return false
}

// gather returns the hinted spans of the GET that starts at first.off, which
// no part holds. rest is the queue behind it.
func (s *Source) gather(first span, rest []span) []span {
	limit := min(first.off+s.getSize, s.nextPart(first.off))
	wants := []span{{first.off, min(first.end, limit)}}
	end, gaps := wants[0].end, int64(0)
	for _, next := range rest {
		gap := next.off - end
		next.end = min(next.end, limit)
		if gap < 0 || gap > mostGap || next.off >= limit || (gaps+gap)*gapShare > next.end-first.off {
			break
		}
		wants = append(wants, next)
		end, gaps = next.end, gaps+gap
	}
	return wants
}

// start takes wants off the queue, as gather returned them, and asks for them.
func (s *Source) start(wants []span) *part {
	whole := span{wants[0].off, wants[len(wants)-1].end}
	s.unqueue(whole)
	p := &part{span: whole, wants: wants, used: s.served}
	p.more = sync.NewCond(&s.mu)
	if int64(len(s.spare)) == whole.end-whole.off {
		p.buf = s.spare
	}
	s.spare = nil
	i, _ := slices.BinarySearchFunc(s.parts, whole.off, byOffset)
	s.parts = slices.Insert(s.parts, i, p)
	s.held += p.cost()
	s.active++
	s.users.Go(func() { s.fetch(p) })
	return p
}

func (p *part) cost() int64 { return p.end - p.off + partCost }

func byOffset(p *part, off int64) int { return cmp.Compare(p.off, off) }

// unqueue takes whole out of the queue.
func (s *Source) unqueue(whole span) {
	for len(s.queue) > 0 && whole.off <= s.queue[0].off && s.queue[0].end <= whole.end {
		s.queue = s.queue[1:]
	}
	if slices.ContainsFunc(s.queue, func(x span) bool { return x.off < whole.end && whole.off < x.end }) {
		s.queue = without(s.queue, whole)
	}
}

// without returns the parts of list that lie outside of gone, in their order.
func without(list []span, gone span) []span {
	var left []span
	for _, x := range list {
		if x.off < gone.off {
			left = append(left, span{x.off, min(x.end, gone.off)})
		}
		if x.end > gone.end {
			left = append(left, span{max(x.off, gone.end), x.end})
		}
	}
	return left
}

// fetch fills a part.
func (s *Source) fetch(p *part) {
	if p.buf == nil { // nobody looks at it while got is 0
		p.buf = make([]byte, p.end-p.off)
	}
	err := s.c.fill(s.life, p.buf, p.off, func(n int) {
		s.mu.Lock()
		defer s.mu.Unlock()
		p.got += n
		p.more.Broadcast()
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	p.done, p.err = true, err
	p.more.Broadcast()
	s.active--
	if err != nil {
		s.drop(p)
		s.queue = nil // whoever reads it will see for himself
	}
	s.pump()
}

// room makes room for a part of n bytes, if it can.
func (s *Source) room(n int64) bool {
	for s.held+n+partCost > s.memory {
		p := s.oldest(func(p *part) bool { return len(p.wants) == 0 })
		if p == nil {
			// What was left behind, as far as can be told: twice as much as
			// fits in was read since it was last read from.
			p = s.oldest(func(p *part) bool { return s.served-p.used > 2*s.memory })
		}
		if p == nil {
			return false
		}
		s.drop(p)
	}
	return true
}

// oldest returns the part that was read from least recently of those that are
// complete and fit, or nil.
func (s *Source) oldest(fits func(*part) bool) (oldest *part) {
	for _, p := range s.parts {
		if p.done && fits(p) && (oldest == nil || p.used < oldest.used) {
			oldest = p
		}
	}
	return oldest
}

// drop forgets a part. Who reads it still has it.
func (s *Source) drop(p *part) {
	i, _ := slices.BinarySearchFunc(s.parts, p.off, byOffset)
	s.parts = slices.Delete(s.parts, i, i+1)
	s.held -= p.cost()
	if p.users == 0 {
		s.spare = p.buf
	}
}

// partAt returns the part that holds off, or nil.
func (s *Source) partAt(off int64) *part {
	i, found := slices.BinarySearchFunc(s.parts, off, byOffset)
	if !found {
		i--
	}
	if i >= 0 && off < s.parts[i].end {
		return s.parts[i]
	}
	return nil
}

// nextPart returns where the first part behind off starts.
func (s *Source) nextPart(off int64) int64 {
	i, _ := slices.BinarySearchFunc(s.parts, off, byOffset)
	if i < len(s.parts) {
		return s.parts[i].off
	}
	return s.Size()
}

// hinted reads the bytes at off that were hinted, as many as lie in one part,
// and waits for those that are under way. Of what was not hinted it reads none.
func (s *Source) hinted(p []byte, off int64) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	from := s.partAt(off)
	if from == nil {
		if from = s.demand(off); from == nil {
			return 0, nil
		}
	}
	from.users++
	defer func() { from.users-- }()
	end := min(off+int64(len(p)), from.end)
	for from.off+int64(from.got) < end && !from.done {
		from.more.Wait()
	}
	if end = min(end, from.off+int64(from.got)); end <= off {
		return 0, from.err
	}
	s.served += end - off
	from.used = s.served
	s.mu.Unlock()
	copy(p, from.buf[off-from.off:end-from.off])
	s.mu.Lock()
	if from.wants = without(from.wants, span{off, end}); len(from.wants) == 0 {
		s.pump()
	}
	return int(end - off), nil
}

// demand starts the GET for a hinted range that is read before its turn came,
// and returns nil if off is none or there is no room.
func (s *Source) demand(off int64) *part {
	i := s.queued(off)
	if i < 0 {
		return nil
	}
	wants := s.gather(span{off, s.queue[i].end}, s.queue[i+1:])
	if !s.room(wants[len(wants)-1].end - off) {
		return nil
	}
	return s.start(wants)
}

// queued returns which hint of the queue holds off, or -1.
func (s *Source) queued(off int64) int {
	return slices.IndexFunc(s.queue, func(x span) bool { return x.off <= off && off < x.end })
}

// unhinted returns how many of the n bytes at off, which no part holds, are to
// be read for themselves: up to what a hint brings. If they were hinted, and
// there is no room, the hint is taken back.
func (s *Source) unhinted(off int64, n int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	end := min(off+int64(n), s.nextPart(off))
	if i := s.queued(off); i >= 0 {
		end = min(end, s.queue[i].end)
		s.unqueue(span{off, end})
	} else {
		for _, x := range s.queue {
			if x.off > off {
				end = min(end, x.off)
			}
		}
	}
	s.served += end - off
	return int(end - off)
}
