package deflate

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage/internal/inflate"
)

func newEncoder(t testing.TB, window, level int) *Encoder {
	t.Helper()
	e, err := New(window, level)
	require.NoError(t, err)
	return e
}

// check encodes src behind a prefix and decodes it by two decoders.
func check(t *testing.T, e *Encoder, src []byte) (stream []byte) {
	t.Helper()
	prefix := []byte{1, 2, 3}
	out := e.Encode(bytes.Clone(prefix), src)
	require.Equal(t, prefix, out[:3])
	stream = out[3:]
	require.LessOrEqual(t, len(stream), len(src)+6+len(src)/1000)

	in := bytes.NewReader(stream)
	got, err := io.ReadAll(flate.NewReader(in))
	require.NoError(t, err)
	require.True(t, bytes.Equal(src, got))
	require.Zero(t, in.Len())

	var d inflate.Decoder
	got = make([]byte, len(src))
	n, used, far, err := d.Decode(got, stream)
	require.NoError(t, err)
	require.Equal(t, len(src), n)
	require.True(t, bytes.Equal(src, got))
	require.Equal(t, len(stream), used)
	require.LessOrEqual(t, far, int(e.window))
	return stream
}

// sample returns n bytes of words, records, repeats near and far, and noise.
func sample(r *rand.Rand, n int) []byte {
	p := make([]byte, 0, n+10000)
	for len(p) < n {
		switch r.IntN(7) {
		case 0, 1:
			for range r.IntN(3000) {
				p = append(p, "etaoin shrdlucmfwypvbgkqjxz"[min(r.IntN(27), r.IntN(27), r.IntN(27))])
			}
		case 2, 3:
			if len(p) > 0 {
				from := max(0, len(p)-1-r.IntN(1<<(1+r.IntN(17))))
				p = append(p, p[from:min(len(p), from+r.IntN(2000))]...)
			}
		case 4:
			v := r.Uint32()
			for range r.IntN(500) {
				v += r.Uint32N(200)
				p = binary.LittleEndian.AppendUint32(p, v)
			}
		case 5:
			b := byte(r.Uint32())
			for range r.IntN(4000) {
				p = append(p, b)
			}
		case 6:
			for range r.IntN(3000) {
				p = append(p, byte(r.Uint32()))
			}
		}
	}
	return p[:n]
}

func TestEncode(t *testing.T) {
	for _, window := range []int{256, 4096, 32768} {
		for _, level := range []int{1, 2, 4, 6, 9} {
			t.Run(fmt.Sprintf("window=%d,level=%d", window, level), func(t *testing.T) {
				r := rand.New(rand.NewPCG(uint64(window), uint64(level)))
				e := newEncoder(t, window, level)
				for n := range 20 {
					check(t, e, sample(r, n))
				}
				for i := range 36 {
					check(t, e, sample(r, r.IntN(1<<(i%18))))
				}
				for _, n := range []int{65535, 65536, 65537, 65536 + 5, 131072, 300000} {
					check(t, e, sample(r, n))
				}
				for _, n := range []int{1, 300, 65537, 200000} {
					check(t, e, make([]byte, n))
					check(t, e, bytes.Repeat([]byte("ab"), n/2))
					noise := make([]byte, n)
					for i := range noise {
						noise[i] = byte(r.Uint32())
					}
					check(t, e, noise)
				}
			})
		}
	}
}

// What came before does not show.
func TestEncodeIsDeterministic(t *testing.T) {
	for _, level := range []int{1, 6} {
		r := rand.New(rand.NewPCG(1, 2))
		unit := sample(r, 200000)
		want := check(t, newEncoder(t, 4096, level), unit)

		e := newEncoder(t, 4096, level)
		for range 20 {
			e.Encode(nil, sample(r, r.IntN(100000)))
			require.True(t, bytes.Equal(want, e.Encode(nil, unit)))
		}
	}
}

func TestEncodeInPlace(t *testing.T) {
	src := sample(rand.New(rand.NewPCG(3, 2)), 65536)
	e := newEncoder(t, 4096, 1)
	want := e.Encode(nil, src)
	for _, room := range []int{0, 1, 100, len(want) - 1, len(want), len(want) + 8, 1 << 20} {
		require.True(t, bytes.Equal(want, e.Encode(make([]byte, 0, room), src)), room)
	}
	dst := make([]byte, 0, 70000)
	require.Same(t, &dst[:1][0], &e.Encode(dst, src)[0])
	require.Zero(t, testing.AllocsPerRun(5, func() { e.Encode(dst, src) }))
}

func TestNewRefuses(t *testing.T) {
	for _, o := range [][2]int{{0, 1}, {255, 1}, {32769, 1}, {4096, 0}, {4096, 10}, {4096, -1}} {
		_, err := New(o[0], o[1])
		require.Error(t, err, o)
	}
}

// Higher levels are smaller, and none is larger than compress/flate's fastest.
func TestLevels(t *testing.T) {
	r := rand.New(rand.NewPCG(4, 2))
	src := sample(r, 1<<20)
	var last int
	for _, level := range []int{9, 6, 1} {
		n := len(newEncoder(t, 32768, level).Encode(nil, src))
		require.Greater(t, n, last)
		last = n
	}
	var b bytes.Buffer
	w, err := flate.NewWriter(&b, 1)
	require.NoError(t, err)
	_, err = w.Write(src)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	require.Less(t, last, b.Len())
}

// lengths makes complete codes within their limit, of any frequencies.
func TestLengths(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 2))
	var keys [fixLit]uint64
	for range 1000 {
		most := []int{7, 15}[r.IntN(2)]
		n := []int{numCode, numDist, numLit}[r.IntN(3)]
		if most == 7 {
			n = numCode
		}
		freq, lens := make([]uint32, n), make([]uint8, n)
		for i := range freq {
			switch r.IntN(3) {
			case 0:
				freq[i] = 1 << (i % 16) // Fibonacci-like: deep trees
			case 1:
				freq[i] = r.Uint32N(1 << r.IntN(16))
			}
		}
		lengths(freq, lens, most, keys[:])
		sum, coded := 0, 0
		for i, l := range lens {
			if freq[i] > 0 {
				require.NotZero(t, l)
			}
			if l > 0 {
				require.LessOrEqual(t, int(l), most)
				sum += 1 << (most - int(l))
				coded++
			}
		}
		require.Equal(t, 1<<most, sum)
		require.GreaterOrEqual(t, coded, 2)
	}
}

func TestSymbols(t *testing.T) {
	for d := uint32(1); d <= maxWindow; d++ {
		s := distSymbol(d - 1)
		base := uint32(1)
		for k := range s {
			base += 1 << distBits[k]
		}
		require.GreaterOrEqual(t, d, base)
		require.Less(t, d, base+1<<distBits[s])
	}
	for n := minMatch; n <= maxMatch; n++ {
		s := lengthSymbol[n-minMatch]
		require.GreaterOrEqual(t, n, int(lengthBase[s]))
		require.LessOrEqual(t, n-int(lengthBase[s]), 1<<lengthBits[s]-1)
	}
	require.Equal(t, uint32(0), log(1))
	require.Equal(t, uint32(16), log(2))
	require.Equal(t, uint32(128), log(256))
	require.Equal(t, uint32(16*16), log(65536))
	for n := range 256 {
		if n > 0 {
			require.InDelta(t, 16*math.Log2(float64(n)), float64(log(uint32(n))), 0.51)
			require.InDelta(t, 16*math.Log2(float64(n))+80, float64(log(uint32(n*32))), 0.7)
		}
	}
}

func FuzzEncode(f *testing.F) {
	r := rand.New(rand.NewPCG(6, 2))
	for i := range 20 {
		f.Add(sample(r, 1<<(i%17)), uint8(i), i%2 == 0)
	}
	encoders := map[string]*Encoder{}
	f.Fuzz(func(t *testing.T, p []byte, level uint8, wide bool) {
		window := 4096
		if wide {
			window = 32768
		}
		l := int(level)%9 + 1
		key := fmt.Sprint(window, l)
		if encoders[key] == nil {
			encoders[key] = newEncoder(t, window, l)
		}
		check(t, encoders[key], p)
	})
}
