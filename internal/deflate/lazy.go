package deflate

import "math/bits"

// parseLazy makes tokens of src[at:end]. It notes every position, and takes a
// match unless there is a better one at the next position.
func (e *Encoder) parseLazy(src []byte, at, end int) {
	ef := e.effort
	last := min(end, len(src)-tail)
	i, emit := at, at
	for i < last {
		length, distance := e.find(src, i, end, minMatch-1, ef.depth)
		if length == 0 || length == minMatch && distance > farForThree {
			// Where nothing matched for long, look at fewer positions.
			i += 1 + min((i-emit)>>7, 16)
			continue
		}
		noted := i + 1 // positions before are
		for length < ef.lazy && i+1 < last {
			n, d := e.find(src, i+1, end, length-1, ef.again)
			noted = i + 2
			// A byte more is worth two bits of distance; going on costs a literal.
			if n == 0 || 4*(n-length)+bits.Len(uint(distance))-bits.Len(uint(d)) <= 2 {
				break
			}
			i++
			length, distance = n, d
		}
		e.match(emit, i, length, distance)
		emit = i + length
		for j := noted; j < min(emit, last); j++ {
			e.note(src, j)
		}
		i = emit
	}
	e.literals(emit, end)
}

// farForThree is how far away a match of three bytes is no gain.
const farForThree = 2048

// note notes position i of src.
func (e *Encoder) note(src []byte, i int) {
	w := load32(src, i)
	p := uint16(i)
	h := hash4(w)
	e.chain[i%maxWindow] = p - e.head[h]
	e.head[h] = p
	e.short[hash3(w)] = p
}

// find notes position i of src and returns the longest match there that ends by
// end and is longer than longest, or 0 if there is none. It looks at depth
// places with the same four bytes.
func (e *Encoder) find(src []byte, i, end, longest int, depth int32) (length, distance int) {
	w := load32(src, i)
	p := uint16(i)
	h, h3 := hash4(w), hash3(w)
	back, back3 := p-e.head[h], p-e.short[h3]
	e.chain[i%maxWindow] = back
	e.head[h], e.short[h3] = p, p

	most := min(maxMatch, end-i)
	if d := int(back3); longest < minMatch && 0 < d && d <= e.window && most >= minMatch && (load32(src, i-d)^w)<<8 == 0 {
		length, distance = minMatch, d
	}
	longest = max(longest, minMatch)
	if most <= longest {
		return length, distance
	}
	ending := load32(src, i+longest-3)
	for d := int(back); back > 0 && d <= e.window; d += int(back) {
		c := i - d
		if load32(src, c+longest-3) == ending && load32(src, c) == w {
			if n := matchLen(src, i, d, 4, most); n > longest {
				length, distance, longest = n, d, n
				if n >= e.effort.nice || n == most {
					break
				}
				ending = load32(src, i+longest-3)
			}
		}
		if depth--; depth <= 0 {
			break
		}
		back = e.chain[c%maxWindow]
	}
	return length, distance
}
