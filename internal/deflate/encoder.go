package deflate

import "fmt"

const (
	minMatch  = 3
	maxMatch  = 258
	maxWindow = 32768

	// segment is how many bytes of a unit are parsed, and then written, at once.
	segment = 64 << 10

	// tail is how many bytes at the end of a unit are not looked up: positions
	// are hashed by words of eight bytes, and the next one with them.
	tail = 9

	hashBits = 15
)

// An effort says how hard to look for matches.
type effort struct {
	depth int32 // places to look at; 0: the fast parse
	again int32 // and at the next position, for something better
	lazy  int   // a match so long is taken without looking at the next position
	nice  int   // a match so long is not improved
}

// efforts are what the levels mean.
var efforts = [...]effort{
	1: {},
	2: {1, 1, 8, 32},
	3: {2, 1, 16, 32},
	4: {4, 1, 16, 32},
	5: {4, 2, 16, 64},
	6: {8, 4, 16, 64},
	7: {16, 8, 32, 128},
	8: {32, 16, 64, 258},
	9: {128, 64, 258, 258},
}

// An Encoder encodes units. It holds about half a MiB of tables and is not safe
// for concurrent use.
type Encoder struct {
	window int
	effort effort

	// Tables of the unit's positions, modulo 65536: two bytes each, so that more
	// of them are in near caches. An entry may mean nothing or a place farther
	// back, and does no harm: it is a match if the bytes there are the same.
	head   [1 << hashBits]uint16  // by the hash of four bytes: the latest position
	long   [1 << hashBits]uint16  // of seven bytes: fast parse
	short  [1 << hashBits3]uint16 // of three bytes: lazy parse
	chain  [maxWindow]uint16      // by position: how far back the one before of the same hash of four is
	parsed                        // the tokens of a segment
	w      writer
}

// New returns an Encoder whose matches reach back at most window bytes, 256 to
// 32768, at a level from 1, the fastest, to 9.
func New(window, level int) (*Encoder, error) {
	if window < 256 || window > maxWindow {
		return nil, fmt.Errorf("deflate: a window of %d is not one of 256 to %d", window, maxWindow)
	}
	if level < 1 || level >= len(efforts) {
		return nil, fmt.Errorf("deflate: level %d is not one of 1 to %d", level, len(efforts)-1)
	}
	return &Encoder{window: window, effort: efforts[level]}, nil
}

// Encode appends to dst the stream for src and returns the result, which is at
// most a few bytes for each 8 KiB longer than src. What lies in dst's capacity
// beyond the result is undefined.
func (e *Encoder) Encode(dst, src []byte) []byte {
	e.w.start(dst)
	clear(e.head[:])
	if e.effort.depth == 0 {
		clear(e.long[:])
	} else {
		clear(e.short[:])
	}
	if len(src) == 0 {
		e.w.empty()
	}
	for at := 0; at < len(src); at += segment {
		end := min(at+segment, len(src))
		e.begin(src, at, end)
		if e.effort.depth == 0 {
			e.parseFast(src, at, end)
		} else {
			e.parseLazy(src, at, end)
		}
		e.write(src, end == len(src))
	}
	e.src = nil
	return e.w.finish()
}
