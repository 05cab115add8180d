package deflate

// parseFast makes tokens of src[at:end]. It looks at one place where the same
// four bytes were and one where seven were, extends a match to the front, and
// notes only some of the positions inside of it.
func (e *Encoder) parseFast(src []byte, at, end int) {
	window := int(e.window)
	last := min(end-7, len(src)-tail)
	i, emit := at, at
	for i < last {
		w := load64(src, i)
		p := uint16(i)
		h4, h7 := hash4(uint32(w)), hash7(w)
		near, far := int(p-e.head[h4]), int(p-e.long[h7])
		e.head[h4], e.long[h7] = p, p

		var length, distance int
		switch {
		case (load64(src, i-far)^w)<<8|beyond(far, window) == 0 && far > 0:
			length, distance = matchLen(src, i, far, 7, min(maxMatch, end-i)), far
		case uint64(load32(src, i-near)^uint32(w))|beyond(near, window) == 0 && near > 0:
			most := min(maxMatch, end-i)
			length, distance = matchLen(src, i, near, 4, most), near
			// Perhaps a longer one begins at the next position.
			w := load64(src, i+1)
			h := hash7(w)
			far := int(p + 1 - e.long[h])
			e.long[h] = p + 1
			if (load64(src, i+1-far)^w)<<8|beyond(far, window) == 0 && far > 0 {
				if n := matchLen(src, i+1, far, 7, most-1); n > length {
					i, length, distance = i+1, n, far
				}
			}
		default:
			i += 1 + (i-emit)>>6
			continue
		}
		for i > emit && i > distance && length < maxMatch && src[i-1] == src[i-distance-1] {
			i--
			length++
		}
		e.match(emit, i, length, distance)
		emit = i + length
		if emit < last {
			for j := i + 2; j < emit-1; j += 3 {
				w := load64(src, j)
				p := uint16(j)
				e.long[hash7(w)] = p
				e.head[hash4(uint32(w))] = p
				e.head[hash4(uint32(w>>8))] = p + 1
			}
		}
		i = emit
	}
	e.literals(emit, end)
}

// beyond returns 0 if a distance is at most the window, else what is not. It
// spares a branch that cannot be predicted: whether the bytes there are the same
// and near enough is one question. A distance of zero is rare, and asked last:
// the position may have been noted before.
func beyond(distance, window int) uint64 { return uint64((window - distance) >> 63) }
