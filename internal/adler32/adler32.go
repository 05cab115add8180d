// Package adler32 computes the checksum of RFC 1950 twice as fast as package
// hash/adler32, eight bytes at a time: it is computed of every compressed unit
// that comes from a VMDK image or goes into one.
package adler32

import "encoding/binary"

const (
	mod = 65521 // the largest prime below 1<<16

	// run is how many bytes are summed in lanes of 16 bits before they are
	// added up: 22 words, whose prefix sums come to 255*(0+1+...+21) at most.
	run = 22 * 8

	// maxRuns is how many runs are added up between two divisions. The sums of
	// 64 bits have room for many more.
	maxRuns = 4096

	lanes8  = 0x00ff00ff00ff00ff // every other byte
	lanes16 = 0x0000ffff0000ffff // every other lane of 16 bits
)

// Checksum returns the Adler-32 of p.
func Checksum(p []byte) uint32 {
	s1, s2 := uint64(1), uint64(0)
	for len(p) >= run {
		for n := min(len(p)/run, maxRuns); n > 0; n-- {
			// The sums by place in the word, and for each of them the sum of
			// what it was before each word: the bytes that count eight times
			// more.
			var even, odd, evenBefore, oddBefore uint64
			q := (*[run]byte)(p)
			for i := 0; i < run; i += 8 {
				w := binary.LittleEndian.Uint64(q[i:])
				evenBefore += even
				oddBefore += odd
				even += w & lanes8
				odd += w >> 8 & lanes8
			}
			p = p[run:]
			s2 += s1*run + 8*(sum(evenBefore)+sum(oddBefore)) +
				8*(even&0xffff) + 6*(even>>16&0xffff) + 4*(even>>32&0xffff) + 2*(even>>48) +
				7*(odd&0xffff) + 5*(odd>>16&0xffff) + 3*(odd>>32&0xffff) + odd>>48
			s1 += sum(even) + sum(odd)
		}
		s1 %= mod
		s2 %= mod
	}
	for _, b := range p {
		s1 += uint64(b)
		s2 += s1
	}
	return uint32(s2%mod<<16 | s1%mod)
}

// sum returns the sum of the four lanes of w.
func sum(w uint64) uint64 {
	w = w&lanes16 + w>>16&lanes16
	return w&0xffffffff + w>>32
}
