package vmdk

import (
	"math/bits"
	"slices"
)

const (
	setPageBits = 12 // sectors of a page: 2 MiB of a file
	setPageLen  = 1 << setPageBits

	// maxSetPages is how many pages a set has at most: 64 MiB, which are 256
	// GiB of a file with data in every one of its pages.
	maxSetPages = 1 << 17
)

// A sectorSet is a set of sectors of a file, for those who look for sectors
// that are used twice, and for those that are not used. It takes memory for the
// parts of the file that have any, and no more than maxSetPages.
type sectorSet struct {
	pages map[int64]*setPage
	near  *setPage // the page that was used last
	no    int64    // its number
}

type setPage [setPageLen / 64]uint64

func newSectorSet() *sectorSet { return &sectorSet{pages: make(map[int64]*setPage), no: -1} }

// full reports whether the set has all the pages that it may have.
func (s *sectorSet) full() bool { return len(s.pages) >= maxSetPages }

func (s *sectorSet) page(no int64, grow bool) *setPage {
	if no == s.no {
		return s.near
	}
	p := s.pages[no]
	if p == nil {
		if !grow {
			return nil
		}
		p = new(setPage)
		s.pages[no] = p
	}
	s.near, s.no = p, no
	return p
}

// add adds the n sectors from first, and reports whether any was in the set.
func (s *sectorSet) add(first, n int64) (had bool) {
	for at, end := first, first+n; at < end; {
		p := s.page(at>>setPageBits, true)
		word := &p[at&(setPageLen-1)/64]
		mask, next := setMask(at, end)
		had = had || *word&mask != 0
		*word |= mask
		at = next
	}
	return had
}

// has reports whether any of the n sectors from first is in the set.
func (s *sectorSet) has(first, n int64) bool {
	for at, end := first, first+n; at < end; {
		mask, next := setMask(at, end)
		p := s.page(at>>setPageBits, false)
		if p == nil {
			at = min(end, (at>>setPageBits+1)<<setPageBits)
			continue
		}
		if p[at&(setPageLen-1)/64]&mask != 0 {
			return true
		}
		at = next
	}
	return false
}

// setMask returns the bits of the sectors [at, end) in at's word, and the first
// sector of the next word.
func setMask(at, end int64) (mask uint64, next int64) {
	mask, next = ^uint64(0)<<(at&63), at|63+1
	if next > end {
		mask &= ^uint64(0) >> (next - end)
	}
	return mask, next
}

// gaps calls f for each run of sectors of [from, end) that are in neither set,
// in ascending order.
func gaps(a, b *sectorSet, from, end int64, f func(first, n int64)) {
	numbers := make([]int64, 0, len(a.pages)+len(b.pages))
	for no := range a.pages {
		numbers = append(numbers, no)
	}
	for no := range b.pages {
		numbers = append(numbers, no)
	}
	slices.Sort(numbers)
	open := from // where the run that is under way starts
	for _, no := range slices.Compact(numbers) {
		var words setPage
		for _, s := range []*sectorSet{a, b} {
			if p := s.pages[no]; p != nil {
				for i, w := range p {
					words[i] |= w
				}
			}
		}
		for i, w := range words {
			for at := no<<setPageBits + int64(i)*64; w != 0; { // each run of ones
				zeros := bits.TrailingZeros64(w)
				at += int64(zeros)
				w >>= zeros
				ones := bits.TrailingZeros64(^w)
				if first := max(open, from); at > first && first < end {
					f(first, min(at, end)-first)
				}
				at += int64(ones)
				open = max(open, at)
				w = w >> (ones - 1) >> 1
			}
		}
	}
	if open < end {
		f(open, end-open)
	}
}

// last returns the sector behind the last one of the set.
func (s *sectorSet) last() (end int64) {
	for no, p := range s.pages {
		for i, w := range p {
			if w != 0 {
				end = max(end, no<<setPageBits+int64(i)*64+int64(bits.Len64(w)))
			}
		}
	}
	return end
}
