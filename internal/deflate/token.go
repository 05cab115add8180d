package deflate

import "math/bits"

const (
	numLit  = 286 // symbols for literals, the end of a block, and lengths (RFC 1951, section 3.2.5)
	numDist = 30  // for distances
	numCode = 19  // for lengths of codes
	fixLit  = 288 // the fixed codes have some that mean nothing
	fixDist = 32

	endOfBlock = 256
	firstLen   = 257
)

// Section 3.2.5: extra bits and bases; section 3.2.7: the order of code lengths.
var (
	lengthBase = [29]uint16{3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258}
	lengthBits = [29]uint8{0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0}
	distBits   = [numDist]uint8{0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13}
	codeOrder  = [numCode]uint8{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}

	lengthSymbol = makeLengthSymbol() // of a length, less 3
)

func makeLengthSymbol() (s [256]uint8) {
	for i := range s {
		for s[i] < 28 && int(lengthBase[s[i]+1]) <= i+minMatch {
			s[i]++
		}
	}
	return s
}

// distSymbol returns the symbol of a distance, less 1.
func distSymbol(d uint32) uint32 {
	if d < 4 {
		return d
	}
	n := uint32(bits.Len32(d)) - 2 // extra bits
	return 2*n + 2 + d>>n&1
}

// A token is a run of literals, how many from bit 32, and the match behind it:
// isMatch, its length less 3 from bit 16, its distance less 1.
type token = uint64

const isMatch = 1 << 31

// A histogram counts symbols.
type histogram struct {
	lit  [fixLit]uint32
	dist [fixDist]uint32
}

func (h *histogram) add(o *histogram) {
	for i, n := range o.lit {
		h.lit[i] += n
	}
	for i, n := range o.dist {
		h.dist[i] += n
	}
}

// A parsed holds the tokens of a segment, cut into pieces: runs of tokens for
// pieceSize bytes or somewhat more.
type parsed struct {
	src    []byte             // of the unit
	tokens [segment / 2]token // fewer: a match is three bytes at least
	n      int                // of tokens

	pieces   [segment / pieceSize]piece
	k        int // the current one
	pieceEnd int // position where it ends, or soon after
	end      int // of the segment
}

const pieceSize = 8 << 10

type piece struct {
	histogram
	start, end int // of its bytes in the unit
	tokens     int // where its tokens end; they begin where those of the one before do
	cost       uint32
	both       uint32 // of it and the next, as one
}

// begin begins the segment of the bytes [at, end).
func (s *parsed) begin(src []byte, at, end int) {
	s.src, s.n, s.k, s.end = src, 0, -1, end
	s.next(at)
}

// next begins a piece at position at, and ends the one before.
func (s *parsed) next(at int) {
	if s.k >= 0 {
		s.pieces[s.k].end, s.pieces[s.k].tokens = at, s.n
	}
	if at < s.end {
		s.k++
		p := &s.pieces[s.k]
		p.histogram = histogram{}
		p.start = at
		s.pieceEnd = min(at+pieceSize, s.end)
	}
}

// literals adds the literals [from, to), without a match.
func (s *parsed) literals(from, to int) {
	for from < to {
		stop := min(to, s.pieceEnd)
		s.pieces[s.k].countLiterals(s.src[from:stop])
		s.add(token(stop-from) << 32)
		if from = stop; from == s.pieceEnd {
			s.next(from)
		}
	}
}

// match adds the literals from position from on, and a match at position i.
func (s *parsed) match(from, i, length, distance int) {
	for i >= s.pieceEnd {
		end := s.pieceEnd
		s.literals(from, end)
		from = end
	}
	p := &s.pieces[s.k]
	p.countLiterals(s.src[from:i])
	s.add(token(i-from)<<32 | isMatch | token(length-minMatch)<<16 | token(distance-1))
	p.lit[firstLen+int(lengthSymbol[(length-minMatch)&255])]++
	p.dist[distSymbol(uint32(distance-1))%fixDist]++
	if i+length >= s.pieceEnd {
		s.next(i + length)
	}
}

func (s *parsed) add(t token) {
	s.tokens[s.n%len(s.tokens)] = t
	s.n++
}

func (h *histogram) countLiterals(p []byte) {
	for _, b := range p {
		h.lit[b]++
	}
}
