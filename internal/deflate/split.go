package deflate

// logs holds 16 times the binary logarithm of the numbers below 256, rounded.
var logs = [256]uint8{
	0, 0, 16, 25, 32, 37, 41, 45, 48, 51, 53, 55, 57, 59, 61, 63,
	64, 65, 67, 68, 69, 70, 71, 72, 73, 74, 75, 76, 77, 78, 79, 79,
	80, 81, 81, 82, 83, 83, 84, 85, 85, 86, 86, 87, 87, 88, 88, 89,
	89, 90, 90, 91, 91, 92, 92, 93, 93, 93, 94, 94, 95, 95, 95, 96,
	96, 96, 97, 97, 97, 98, 98, 98, 99, 99, 99, 100, 100, 100, 101, 101,
	101, 101, 102, 102, 102, 103, 103, 103, 103, 104, 104, 104, 104, 105, 105, 105,
	105, 106, 106, 106, 106, 107, 107, 107, 107, 107, 108, 108, 108, 108, 109, 109,
	109, 109, 109, 110, 110, 110, 110, 110, 111, 111, 111, 111, 111, 111, 112, 112,
	112, 112, 112, 113, 113, 113, 113, 113, 113, 114, 114, 114, 114, 114, 114, 115,
	115, 115, 115, 115, 115, 116, 116, 116, 116, 116, 116, 116, 117, 117, 117, 117,
	117, 117, 117, 118, 118, 118, 118, 118, 118, 118, 119, 119, 119, 119, 119, 119,
	119, 119, 120, 120, 120, 120, 120, 120, 120, 121, 121, 121, 121, 121, 121, 121,
	121, 121, 122, 122, 122, 122, 122, 122, 122, 122, 123, 123, 123, 123, 123, 123,
	123, 123, 123, 124, 124, 124, 124, 124, 124, 124, 124, 124, 125, 125, 125, 125,
	125, 125, 125, 125, 125, 125, 126, 126, 126, 126, 126, 126, 126, 126, 126, 126,
	127, 127, 127, 127, 127, 127, 127, 127, 127, 127, 127, 128, 128, 128, 128, 128,
}

// log returns 16 times the binary logarithm of n.
func log(n uint32) uint32 {
	s := uint32(0)
	for n >= 256 {
		n >>= 1
		s += 16
	}
	return uint32(logs[n&255]) + s
}

// cost estimates the length of a block with these symbols, but for extra bits,
// in sixteenths of a bit: their entropy, and what their codes take in the header.
func (h *histogram) cost() uint32 {
	var c, used uint32
	for _, counts := range [2][]uint32{h.lit[:], h.dist[:]} {
		var total, sum uint32
		for _, n := range counts {
			if n > 0 {
				total += n
				sum += n * log(n)
				used++
			}
		}
		c += total*log(total) - sum
	}
	return c + 16*(80+used*5/2)
}

// write writes the segment's tokens: neighbouring pieces as one block wherever
// that is shorter, those that gain most first.
func (e *Encoder) write(src []byte, final bool) {
	p := e.pieces[:e.k+1]
	for i := range p {
		p[i].cost = p[i].histogram.cost()
	}
	var sum histogram
	both := func(i int) {
		sum = p[i].histogram
		sum.add(&p[i+1].histogram)
		p[i].both = sum.cost()
	}
	for i := range p[:len(p)-1] {
		both(i)
	}
	for len(p) > 1 {
		best, gain := -1, int32(0)
		for i := range p[:len(p)-1] {
			if g := int32(p[i].cost + p[i+1].cost - p[i].both); g >= gain {
				best, gain = i, g
			}
		}
		if best < 0 {
			break
		}
		a, b := &p[best], &p[best+1]
		a.add(&b.histogram)
		a.end, a.tokens, a.cost = b.end, b.tokens, a.both
		copy(p[best+1:], p[best+2:])
		p = p[:len(p)-1]
		if best > 0 {
			both(best - 1)
		}
		if best+1 < len(p) {
			both(best)
		}
	}
	from := 0
	for i := range p {
		e.w.block(e.tokens[from:p[i].tokens], &p[i].histogram, src[p[i].start:p[i].end], final && i == len(p)-1)
		from = p[i].tokens
	}
}
