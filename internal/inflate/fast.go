package inflate

import "encoding/binary"

// How much of src and dst must be left for a round of the fast loop: a round
// loads eight bytes at up to two places, the second at most seven after the
// first, and writes at most six literals in pairs and a match of 258 bytes,
// whose last words may reach 16 bytes beyond.
const (
	slackIn  = 7 + 8
	slackOut = 6*2 + 258 + 16
)

// fast decodes symbols while there is enough input and room. It reports whether
// the block has ended.
func (d *Decoder) fast(t *tables) (done bool, err error) {
	src, dst := d.src, d.dst
	in, out, far := d.in, d.out, d.far
	buf, cnt := d.buf, d.cnt
	lastIn, lastOut := len(src)-slackIn, len(dst)-slackOut

	for in <= lastIn && out <= lastOut {
		// cnt is right in its low six bits only; so a count is subtracted by
		// subtracting its whole entry.
		buf |= word(src, in) << (cnt & 63)
		in += int(cnt>>3&7 ^ 7)
		cnt |= 56

		// Of 56 bits four lookups take 44 at most, and a match 48.
		e := t.lit[buf&(1<<litBits-1)]
		if e&isLiteral != 0 {
			buf >>= e & 63
			cnt -= uint(e)
			putPair(dst, out, e>>16)
			out += int(e >> 8 & 3)
			e = t.lit[buf&(1<<litBits-1)]
			if e&isLiteral != 0 {
				buf >>= e & 63
				cnt -= uint(e)
				putPair(dst, out, e>>16)
				out += int(e >> 8 & 3)
				e = t.lit[buf&(1<<litBits-1)]
				if e&isLiteral != 0 {
					buf >>= e & 63
					cnt -= uint(e)
					putPair(dst, out, e>>16)
					out += int(e >> 8 & 3)
					e = t.lit[buf&(1<<litBits-1)]
					if e&isLiteral != 0 {
						buf >>= e & 63
						cnt -= uint(e)
						putPair(dst, out, e>>16)
						out += int(e >> 8 & 3)
						continue
					}
				}
			}
			buf |= word(src, in) << (cnt & 63)
			in += int(cnt>>3&7 ^ 7)
			cnt |= 56
		}
		if e&isSpecial != 0 {
			if e&isPointer != 0 {
				buf >>= litBits
				cnt -= litBits
				e = t.lit[(e>>16+uint32(buf)&(1<<(e>>10&15)-1))&uint32(len(t.lit)-1)]
				if e&isLiteral != 0 {
					buf >>= e & 63
					cnt -= uint(e)
					dst[out] = byte(e >> 16)
					out++
					continue
				}
			}
			if e&isSpecial != 0 {
				buf >>= e & 63
				cnt -= uint(e)
				if e>>16 != 0 {
					err = errSymbol
				}
				done = true
				break
			}
		}
		length := int(e>>16&511) + int(uint32(buf>>(e>>10&63))&(e>>25))
		buf >>= e & 63
		cnt -= uint(e)

		f := t.dist[buf&(1<<distBits-1)]
		if f&isSpecial != 0 {
			if f&isPointer != 0 {
				buf >>= distBits
				cnt -= distBits
				f = t.dist[(f>>16+buf&(1<<(f>>10&15)-1))&uint64(len(t.dist)-1)]
			}
			if f&isSpecial != 0 {
				err = errSymbol
				break
			}
		}
		distance := int(f>>16&0xffff) + int(buf>>(f>>10&63)&(f>>32))
		buf >>= f & 63
		cnt -= uint(f)

		from := out - distance
		if from < 0 {
			err = errDistance
			break
		}
		far = max(far, distance)
		end := out + length
		if distance >= 8 {
			for {
				putWord(dst, out, word(dst, from))
				putWord(dst, out+8, word(dst, from+8))
				out += 16
				from += 16
				if out >= end {
					break
				}
			}
		} else {
			repeat(dst, out, end, distance)
		}
		out = end
	}
	cnt &= 63
	d.buf, d.cnt = buf&(1<<cnt-1), cnt
	d.in, d.out, d.far = in, out, far
	return done, err
}

// repeat fills dst[out:end], and up to seven bytes more, with what stands
// distance bytes before, where distance is at most 8.
func repeat(dst []byte, out, end, distance int) {
	// The bytes that repeat, as often as they fit in a word.
	n := uint(distance) * 8
	w := word(dst, out-distance) & (1<<n - 1)
	w |= w << n
	w |= w << (2 * n)
	w |= w << (4 * n)
	step := 8 / distance * distance
	for out < end {
		putWord(dst, out, w)
		out += step
	}
}

// The slices' ends are given so that the compiler has one bound to check.

func word(p []byte, i int) uint64 { return binary.LittleEndian.Uint64(p[i : i+8 : i+8]) }

func putWord(p []byte, i int, w uint64) { binary.LittleEndian.PutUint64(p[i:i+8:i+8], w) }

func putPair(p []byte, i int, e uint32) {
	binary.LittleEndian.PutUint16(p[i:i+2:i+2], uint16(e))
}
