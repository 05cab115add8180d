package deflate

import (
	"encoding/binary"
	"math/bits"
)

const hashBits3 = 12

func hash3(w uint32) uint32 { return w << 8 * 0x9e3779b1 >> (32 - hashBits3) }
func hash4(w uint32) uint32 { return w * 0x9e3779b1 >> (32 - hashBits) }
func hash7(w uint64) uint64 { return w << 8 * 0x9e3779b97f4a7c15 >> (64 - hashBits) }

// The slices' ends are given so that the compiler has one bound to check.

func load32(p []byte, i int) uint32 { return binary.LittleEndian.Uint32(p[i : i+4 : i+4]) }
func load64(p []byte, i int) uint64 { return binary.LittleEndian.Uint64(p[i : i+8 : i+8]) }

// matchLen returns how many bytes at i are those distance bytes before, at most
// most, and at least from, which are known to be.
func matchLen(src []byte, i, distance, from, most int) int {
	c := i - distance
	n := from
	for most-n >= 8 {
		if x := load64(src, c+n) ^ load64(src, i+n); x != 0 {
			return n + bits.TrailingZeros64(x)/8
		}
		n += 8
	}
	for n < most && src[c+n] == src[i+n] {
		n++
	}
	return n
}
