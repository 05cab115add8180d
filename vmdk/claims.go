package vmdk

// claimStretch is how many sectors of a file are looked at in one walk over its
// tables: as many as a set of sectors holds in its memory.
const claimStretch = maxSetPages * setPageLen

// claims are the sectors of a file that are used: those of a stretch of it, so
// that memory is bounded.
type claims struct {
	used       *sectorSet
	first, end int64 // sectors of the stretch
	behind     bool  // something behind it was claimed
}

// claim takes the sectors of n bytes at off, as far as they lie in the stretch,
// and reports whether all of them were free.
func (c *claims) claim(off, n int64) bool {
	from, to := max(off/sectorSize, c.first), ceilDiv(off+n, sectorSize)
	if to > c.end {
		c.behind = true
		to = c.end
	}
	return from >= to || !c.used.add(from, to-from)
}

// eachStretch calls walk, which claims everything that uses the file, for one
// stretch of so many sectors after the other, until none is left that anything
// lies in: how long the file is does not matter.
func eachStretch(sectors int64, walk func(c *claims) error) error {
	for first, more := int64(0), true; more; first += sectors {
		c := claims{used: newSectorSet(), first: first, end: first + sectors}
		if err := walk(&c); err != nil {
			return err
		}
		more = c.behind
	}
	return nil
}
