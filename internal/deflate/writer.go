package deflate

import "encoding/binary"

// A writer writes bits, lowest first.
type writer struct {
	p   []byte
	n   int // bytes written
	buf uint64
	cnt uint

	litLens  [fixLit]uint8
	distLens [fixDist]uint8
	lit      [fixLit]uint16
	dist     [fixDist]uint16
	keys     [fixLit]uint64

	literals [256]uint32 // code, and its length from bit 24
	matches  [256]uint32 // by length - 3: code and extra bits
	dists    [fixDist]uint32
	seq      [numLit + numDist]uint16 // code lengths as they are coded: symbol, and extra bits from bit 8
}

func (w *writer) start(dst []byte) {
	w.p, w.n, w.buf, w.cnt = dst[:cap(dst)], len(dst), 0, 0
}

// room makes sure that n bytes more can be written, and a word.
func (w *writer) room(n int) {
	if n += 8; len(w.p)-w.n < n {
		p := append(w.p[:w.n:w.n], make([]byte, n)...)
		w.p = p[:cap(p)]
	}
}

// put writes the n bits of v, 56 at most. There must be room.
func (w *writer) put(v uint64, n uint) {
	w.buf |= v << (w.cnt & 63)
	w.cnt += n
	binary.LittleEndian.PutUint64(w.p[w.n:], w.buf)
	k := w.cnt >> 3
	w.n += int(k)
	w.buf >>= k * 8
	w.cnt &= 7
}

// empty writes the stream of nothing.
func (w *writer) empty() {
	w.room(8)
	w.put(1|1<<1, 3+7) // a fixed block, and its end
}

// finish returns all that was written.
func (w *writer) finish() []byte {
	if w.cnt > 0 {
		w.room(8)
		w.p[w.n] = byte(w.buf)
		w.n++
	}
	p := w.p[:w.n]
	w.p = nil
	return p
}

// symbols writes the tokens, of src, and the end of the block.
func (w *writer) symbols(tokens []token, src []byte) {
	for i := range w.literals {
		w.literals[i] = uint32(w.lit[i]) | uint32(w.litLens[i])<<24
	}
	for i := range w.matches {
		c := lengthSymbol[i]
		n := w.litLens[firstLen+int(c)]
		w.matches[i] = uint32(w.lit[firstLen+int(c)]) | uint32(i+3-int(lengthBase[c]))<<n | uint32(n+lengthBits[c])<<24
	}
	for i := range numDist {
		w.dists[i] = uint32(w.dist[i]) | uint32(w.distLens[i])<<24
	}
	p, at, buf, cnt := w.p, w.n, w.buf, w.cnt
	for _, t := range tokens {
		n := int(t >> 32)
		for n >= 3 {
			buf, cnt = push(buf, cnt, w.literals[src[0]])
			buf, cnt = push(buf, cnt, w.literals[src[1]])
			buf, cnt = push(buf, cnt, w.literals[src[2]])
			at, buf, cnt = flush(p, at, buf, cnt)
			src = src[3:]
			n -= 3
		}
		if t&isMatch == 0 {
			for _, b := range src[:n] {
				buf, cnt = push(buf, cnt, w.literals[b])
			}
			at, buf, cnt = flush(p, at, buf, cnt)
			src = src[n:]
			continue
		}
		// Whether two are left, one or none cannot be predicted: no branches.
		first, second := w.literals[src[0]], w.literals[src[1]]
		if n < 1 {
			first = 0
		}
		if n < 2 {
			second = 0
		}
		buf, cnt = push(buf, cnt, first)
		buf, cnt = push(buf, cnt, second)
		at, buf, cnt = flush(p, at, buf, cnt)

		length, d := int(t>>16&255), uint32(t&0x7fff)
		src = src[n+length+minMatch:]
		buf, cnt = push(buf, cnt, w.matches[length])
		dc := distSymbol(d)
		buf, cnt = push(buf, cnt, w.dists[dc&31])
		if d >= 4 {
			n := dc>>1 - 1
			buf |= uint64(d&(1<<n-1)) << (cnt & 63)
			cnt += uint(n)
		}
		at, buf, cnt = flush(p, at, buf, cnt)
	}
	w.n, w.buf, w.cnt = at, buf, cnt
	w.put(0, 0)
	w.put(uint64(w.lit[endOfBlock]), uint(w.litLens[endOfBlock]))
}

// push adds a code, and its extra bits, to the bits in buf. Three codes of
// literals fit, or a match, behind the seven bits that flush leaves.
func push(buf uint64, cnt uint, code uint32) (uint64, uint) {
	return buf | uint64(code&0xffffff)<<(cnt&63), cnt + uint(code>>24)
}

// flush writes the whole bytes in buf.
func flush(p []byte, at int, buf uint64, cnt uint) (int, uint64, uint) {
	binary.LittleEndian.PutUint64(p[at:at+8:at+8], buf)
	return at + int(cnt>>3), buf >> (cnt &^ 7 & 63), cnt & 7
}

// stored writes src as it is (section 3.2.4).
func (w *writer) stored(src []byte, last uint64) {
	for {
		n := min(len(src), 65535)
		w.room(n + 16)
		final := last
		if n < len(src) {
			final = 0
		}
		w.put(final, 3)
		if w.cnt > 0 {
			w.put(0, 8-w.cnt)
		}
		w.put(uint64(n)|uint64(n^0xffff)<<16, 32)
		w.n += copy(w.p[w.n:], src[:n])
		src = src[n:]
		if len(src) == 0 {
			return
		}
	}
}
