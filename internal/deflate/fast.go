package deflate

// parseFast makes tokens of src[at:end]. It looks at one place where the same
// four bytes were and one where seven were, extends a match to the front, and
// notes only some of the positions inside of it.
func (e *Encoder) parseFast(src []byte, at, end int) {
	window := uint32(e.window)
	last := min(end, len(src)-tail)
	i, emit := at, at
	for i < last {
		w := load64(src, i)
		p := int32(i + e.origin)
		h4, h7 := hash4(uint32(w)), hash7(w)
		// A distance of zero is possible: a position may have been noted already.
		near, far := p-e.head[h4], p-e.long[h7]
		e.head[h4], e.long[h7] = p, p

		var length int
		var distance int32
		switch most := min(maxMatch, end-i); {
		case most < 8:
			i = last
			continue
		case uint32(far-1) < window && (load64(src, i-int(far))^w)<<8 == 0:
			distance = far
			length = matchLen(src, i, far, 7, most)
		case uint32(near-1) < window && load32(src, i-int(near)) == uint32(w):
			distance = near
			length = matchLen(src, i, near, 4, most)
			// Perhaps a longer one begins at the next position.
			w := load64(src, i+1)
			h := hash7(w)
			far := p + 1 - e.long[h]
			e.long[h] = p + 1
			if uint32(far-1) < window && (load64(src, i+1-int(far))^w)<<8 == 0 {
				if n := matchLen(src, i+1, far, 7, most-1); n > length {
					i, length, distance = i+1, n, far
				}
			}
		default:
			i += 1 + (i-emit)>>6
			continue
		}
		for i > emit && i > int(distance) && length < maxMatch && src[i-1] == src[i-int(distance)-1] {
			i--
			length++
		}
		e.literals(src, emit, i)
		e.match(i, length, distance)
		emit = i + length
		if emit < last {
			for j := i + 2; j < emit-1; j += 3 {
				w := load64(src, j)
				p := int32(j + e.origin)
				e.long[hash7(w)] = p
				e.head[hash4(uint32(w))] = p
				e.head[hash4(uint32(w>>8))] = p + 1
			}
		}
		i = emit
	}
	e.literals(src, emit, end)
}
