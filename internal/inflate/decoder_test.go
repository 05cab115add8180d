package inflate

import (
	"bytes"
	"compress/flate"
	"errors"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

// oracle decodes with compress/flate into at most room bytes.
func oracle(src []byte, room int) (out []byte, used int, err error) {
	in := bytes.NewReader(src) // a ByteReader: not a byte more is taken than needed
	out, err = io.ReadAll(io.LimitReader(flate.NewReader(in), int64(room)+1))
	if err == nil && len(out) > room {
		err = ErrTooLong
	}
	return out, len(src) - in.Len(), err
}

// agree asserts that the decoder's verdict and bytes are compress/flate's.
func agree(t *testing.T, d *Decoder, src []byte, room int) {
	t.Helper()
	want, wantUsed, wantErr := oracle(src, room)
	const guard = 64
	buf := bytes.Repeat([]byte{0xa5}, room+guard)
	n, used, far, err := d.Decode(buf[:room:room], src)
	require.Equal(t, bytes.Repeat([]byte{0xa5}, guard), buf[room:], "written beyond the end")
	if wantErr != nil {
		require.Error(t, err, "compress/flate: %v", wantErr)
		return
	}
	require.NoError(t, err)
	require.True(t, bytes.Equal(want, buf[:n]))
	require.Equal(t, wantUsed, used)
	require.LessOrEqual(t, far, n)
}

// sample returns n bytes of words, repeats and noise.
func sample(r *rand.Rand, n int) []byte {
	p := make([]byte, 0, n+300)
	for len(p) < n {
		switch r.IntN(5) {
		case 0, 1:
			for range r.IntN(300) {
				p = append(p, "etaoin shrdlucmfwypvbgkqjxz"[min(r.IntN(27), r.IntN(27), r.IntN(27))])
			}
		case 2:
			if len(p) > 0 {
				from := r.IntN(len(p))
				p = append(p, p[from:min(len(p), from+r.IntN(1000))]...)
			}
		case 3:
			distance := 1 + r.IntN(20)
			for range r.IntN(600) {
				for len(p) < distance {
					p = append(p, 7)
				}
				p = append(p, p[len(p)-distance])
			}
		case 4:
			for range r.IntN(200) {
				p = append(p, byte(r.Uint32()))
			}
		}
	}
	return p[:n]
}

// A deflater compresses with compress/flate, by a writer per level.
type deflater map[int]*flate.Writer

func (d deflater) deflate(t testing.TB, p []byte, level int) []byte {
	t.Helper()
	var b bytes.Buffer
	w := d[level]
	if w == nil {
		var err error
		w, err = flate.NewWriter(&b, level)
		require.NoError(t, err)
		d[level] = w
	}
	w.Reset(&b)
	_, err := w.Write(p)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	return b.Bytes()
}

func deflate(t testing.TB, p []byte, level int) []byte {
	t.Helper()
	return deflater{}.deflate(t, p, level)
}

var levels = []int{flate.HuffmanOnly, 0, 1, 6, 9}

func TestDecode(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	var d Decoder
	w := deflater{}
	for i := range 150 {
		n := r.IntN(1 << (1 + i%18))
		p := sample(r, n)
		for _, level := range levels {
			src := w.deflate(t, p, level)
			for _, padding := range []int{0, 7, 511} {
				agree(t, &d, append(bytes.Clone(src), make([]byte, padding)...), len(p))
			}
			agree(t, &d, src, len(p)+r.IntN(1000))
			if n > 0 {
				agree(t, &d, src, r.IntN(n))
				agree(t, &d, src[:r.IntN(len(src))], n)
			}
		}
	}
}

// Streams that are damaged at random places: the same verdict, the same bytes.
func TestDecodeDamaged(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 1))
	var d Decoder
	w := deflater{}
	for range 1500 {
		p := sample(r, r.IntN(3000))
		src := w.deflate(t, p, levels[r.IntN(5)])
		for range 10 {
			bad := bytes.Clone(src)
			for range 1 + r.IntN(3) {
				bad[min(r.IntN(len(bad)), r.IntN(len(bad)))] ^= 1 << r.IntN(8)
			}
			agree(t, &d, bad, len(p)+r.IntN(1000))
		}
	}
}

// A writer of bits, lowest first.
type bitWriter struct {
	p   []byte
	buf uint64
	n   uint
}

func (w *bitWriter) put(v uint64, n uint) {
	w.buf |= v << w.n
	for w.n += n; w.n >= 8; w.n -= 8 {
		w.p = append(w.p, byte(w.buf))
		w.buf >>= 8
	}
}

func (w *bitWriter) bytes() []byte {
	if w.n > 0 {
		return append(w.p, byte(w.buf))
	}
	return w.p
}

// dynamic returns a final block's header with these code lengths, whose own
// code gives each of the 16 plain lengths four bits.
func dynamic(lits, dists []int) *bitWriter {
	w := new(bitWriter)
	w.put(1|2<<1, 3)
	w.put(uint64(len(lits)-257), 5)
	w.put(uint64(len(dists)-1), 5)
	w.put(maxCodes-4, 4)
	for _, sym := range codeOrder {
		if sym < 16 {
			w.put(4, 3)
		} else {
			w.put(0, 3)
		}
	}
	for _, lens := range [][]int{lits, dists} {
		for _, n := range lens {
			for i := 3; i >= 0; i-- {
				w.put(uint64(n>>i&1), 1)
			}
		}
	}
	return w
}

// lens returns n code lengths: those given by symbol, else 0.
func lens(n int, of map[int]int) []int {
	p := make([]int, n)
	for sym, l := range of {
		p[sym] = l
	}
	return p
}

// Every rule, by a stream that breaks it or just does not.
func TestRules(t *testing.T) {
	raw := func(bits ...uint64) []byte { // value, width, value, width ...
		w := new(bitWriter)
		for i := 0; i < len(bits); i += 2 {
			w.put(bits[i], uint(bits[i+1]))
		}
		return append(w.bytes(), make([]byte, 40)...)
	}
	block := func(lits, dists []int, bits ...uint64) []byte {
		w := dynamic(lits, dists)
		for i := 0; i < len(bits); i += 2 {
			w.put(bits[i], uint(bits[i+1]))
		}
		return append(w.bytes(), make([]byte, 40)...)
	}
	one := lens(1, map[int]int{0: 1})
	for name, tt := range map[string]struct {
		src  []byte
		room int
		err  error // nil: valid
	}{
		"nothing":                 {nil, 10, io.ErrUnexpectedEOF},
		"reserved block type":     {raw(1|3<<1, 3), 10, errBlockType},
		"stored":                  {append(raw(1, 8, 3, 16, 0xfffc, 16)[:5], "abc"...), 3, nil},
		"stored, empty":           {raw(1, 8, 0, 16, 0xffff, 16), 0, nil},
		"stored, complement":      {raw(1, 8, 3, 16, 0xfffd, 16), 10, errStored},
		"stored, cut":             {append(raw(1, 8, 3, 16, 0xfffc, 16)[:5], "ab"...), 10, io.ErrUnexpectedEOF},
		"stored, header cut":      {raw(1, 8, 3, 16, 0xfffc, 16)[:4], 10, io.ErrUnexpectedEOF},
		"stored, no room":         {append(raw(1, 8, 3, 16, 0xfffc, 16)[:5], "abc"...), 2, ErrTooLong},
		"fixed, empty":            {raw(1|1<<1, 3, 0, 7), 0, nil},
		"fixed, length 286":       {raw(1|1<<1, 3, 0b01100011, 8), 600, errSymbol},
		"fixed, length 287":       {raw(1|1<<1, 3, 0b11100011, 8), 600, errSymbol},
		"fixed, distance 30":      {raw(1|1<<1, 3, 0b00001100, 8, 0b1000000, 7, 0b01111, 5), 600, errSymbol},
		"fixed, distance 31":      {raw(1|1<<1, 3, 0b00001100, 8, 0b1000000, 7, 0b11111, 5), 600, errSymbol},
		"fixed, match at start":   {raw(1|1<<1, 3, 0b1000000, 7, 0, 5), 600, errDistance},
		"287 lengths":             {raw(1|2<<1, 3, 30, 5, 0, 5, 0, 4), 10, errCounts},
		"31 distances":            {raw(1|2<<1, 3, 0, 5, 30, 5, 0, 4), 10, errCounts},
		"code lengths, none":      {raw(1|2<<1, 3, 0, 5, 0, 5, 0, 4), 10, errSymbol},
		"code lengths, too many":  {raw(1|2<<1, 3, 0, 5, 0, 5, 0, 4, 1|1<<3|1<<6, 9), 10, errCodeLengths},
		"code lengths, too few":   {raw(1|2<<1, 3, 0, 5, 0, 5, 0, 4, 2|2<<3|2<<6, 9), 10, errCodeLengths},
		"repeat at start":         {raw(1|2<<1, 3, 0, 5, 0, 5, 0, 4, 1|1<<3, 12, 0, 1), 10, errRepeat},
		"repeat beyond end":       {raw(1|2<<1, 3, 0, 5, 0, 5, 0, 4, 1<<6|1<<9, 12, 1, 1, 127, 7, 1, 1, 127, 7), 10, errRepeat},
		"literals, oversubcribed": {block(lens(257, map[int]int{0: 1, 1: 1, 256: 1}), one), 10, errLitLen},
		"literals, incomplete":    {block(lens(257, map[int]int{0: 2, 256: 2}), one), 10, errLitLen},
		"literals, one of 2 bits": {block(lens(257, map[int]int{256: 2}), one), 10, errLitLen},
		"literals, none":          {block(lens(257, nil), one), 10, errSymbol},
		"end only":                {block(lens(257, map[int]int{256: 1}), one, 0, 1), 0, nil},
		"end only, other bit":     {block(lens(257, map[int]int{256: 1}), one, 1, 1), 0, errSymbol},
		"no end of block":         {block(lens(257, map[int]int{0: 1, 1: 1}), one), 20000, io.ErrUnexpectedEOF},
		"one literal":             {block(lens(257, map[int]int{7: 1, 256: 1}), lens(1, nil), 0b100, 3), 2, nil},
		"no distance":             {block(lens(258, map[int]int{7: 2, 256: 2, 257: 1}), lens(1, nil), 0b10, 2, 0, 1), 600, errSymbol},
		"one distance":            {block(lens(258, map[int]int{7: 2, 256: 2, 257: 1}), one, 0b01, 2, 0, 1, 0, 1, 0b11, 2), 600, nil},
		"one distance, other bit": {block(lens(258, map[int]int{7: 2, 256: 2, 257: 1}), one, 0b01, 2, 0, 1, 1, 1, 0b11, 2), 600, errSymbol},
		"distances, incomplete":   {block(lens(257, map[int]int{0: 1, 256: 1}), lens(2, map[int]int{0: 2, 1: 2})), 10, errDist},
		"distances, too many":     {block(lens(257, map[int]int{0: 1, 256: 1}), lens(3, map[int]int{0: 1, 1: 1, 2: 1})), 10, errDist},
		"match, no room":          {block(lens(258, map[int]int{7: 2, 256: 2, 257: 1}), one, 0b01, 2, 0, 1, 0, 1, 0b11, 2), 3, ErrTooLong},
		"literal, no room":        {block(lens(257, map[int]int{7: 1, 256: 1}), lens(1, nil), 0b100, 3), 1, ErrTooLong},
	} {
		t.Run(name, func(t *testing.T) {
			var d Decoder
			for _, more := range []int{0, 1000} { // in the careful loop, and in the fast one
				src, room := append(bytes.Clone(tt.src), make([]byte, more)...), tt.room+more
				if tt.err == ErrTooLong || tt.err == io.ErrUnexpectedEOF {
					src, room = tt.src, tt.room
				}
				_, _, _, err := d.Decode(make([]byte, room), src)
				require.ErrorIs(t, err, tt.err)
				agree(t, &d, src, room)
			}
			if tt.err != nil {
				require.NotEmpty(t, tt.err.Error())
			}
		})
	}
}

// far is what the stream says, not what the encoder was allowed.
func TestMaxDistance(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 1))
	var d Decoder
	unique := make([]byte, 32768+100)
	for i := range unique {
		unique[i] = byte(r.Uint32())
	}
	for _, distance := range []int{1, 2, 3, 4, 7, 8, 9, 15, 16, 100, 4096, 4097, 32768} {
		for _, after := range []int{0, 1000} {
			p := append(bytes.Clone(unique[:distance]), unique[:min(distance, 100)]...)
			for range 40 / distance {
				p = append(p, unique[:distance]...)
			}
			p = append(p, make([]byte, after)...)
			src := deflate(t, p, 9)
			_, _, far, err := d.Decode(make([]byte, len(p)), src)
			require.NoError(t, err)
			if distance >= 4 {
				require.Equal(t, distance, far)
			}
			agree(t, &d, src, len(p))
		}
	}
	n, used, far, err := d.Decode(make([]byte, 100), deflate(t, []byte("no match"), 9))
	require.NoError(t, err)
	require.Equal(t, 8, n)
	require.Positive(t, used)
	require.Zero(t, far)
}

func TestDecodeAllocatesNothing(t *testing.T) {
	p := sample(rand.New(rand.NewPCG(4, 1)), 65536)
	src, dst := deflate(t, p, 6), make([]byte, len(p))
	bad := bytes.Clone(src[:len(src)/2])
	var d Decoder
	require.Zero(t, testing.AllocsPerRun(5, func() {
		_, _, _, err := d.Decode(dst, src)
		_, _, _, err2 := d.Decode(dst, bad)
		if err != nil || !errors.Is(err2, io.ErrUnexpectedEOF) {
			t.Error(err, err2)
		}
	}))
}

// FuzzDecode holds the decoder against compress/flate.
func FuzzDecode(f *testing.F) {
	r := rand.New(rand.NewPCG(5, 1))
	for i := range 40 {
		p := sample(r, 1<<(i%13))
		f.Add(deflate(f, p, levels[i%5]), uint16(len(p)))
	}
	var d Decoder
	f.Fuzz(func(t *testing.T, src []byte, room uint16) { agree(t, &d, src, int(room)) })
}

// FuzzRoundTrip compresses with compress/flate and decodes.
func FuzzRoundTrip(f *testing.F) {
	r := rand.New(rand.NewPCG(6, 1))
	for i := range 20 {
		f.Add(sample(r, 1<<(i%15)), uint8(i))
	}
	var d Decoder
	w := deflater{}
	f.Fuzz(func(t *testing.T, p []byte, level uint8) {
		agree(t, &d, w.deflate(t, p, int(level%12)-2), len(p))
	})
}
