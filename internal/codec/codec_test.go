package codec

import (
	"bytes"
	"compress/flate"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/internal/disktest"
)

// all is every setting of an encoder that makes different bytes.
var all = []EncoderOptions{
	{Encoding: diskimage.Deflate},
	{Encoding: diskimage.Deflate, Window: 4096},
	{Encoding: diskimage.Deflate, Window: 32768},
	{Encoding: diskimage.Deflate, Window: 4096, Level: 6},
	{Encoding: diskimage.Deflate, Window: 32768, Level: 4},
	{Encoding: diskimage.Deflate, Window: 32768, Level: 9},
	{Encoding: diskimage.Zstd},
	{Encoding: diskimage.Zstd, Level: 1},
	{Encoding: diskimage.Zstd, Level: 7},
	{Encoding: diskimage.Zstd, Level: 22},
}

func (o EncoderOptions) name() string {
	return fmt.Sprintf("%v,window=%d,level=%d", o.Encoding, o.Window, o.Level)
}

func newEncoder(t testing.TB, o EncoderOptions) *Encoder {
	t.Helper()
	e, err := NewEncoder(o)
	require.NoError(t, err)
	return e
}

// units is guest data of every size and nature that a unit may have.
func units() map[string][]byte {
	u := map[string][]byte{
		"zeros":  make([]byte, 65536),
		"noise":  noise(1, 65536),
		"ones":   bytes.Repeat([]byte{0xff}, 65536),
		"period": bytes.Repeat([]byte("abcdefg"), 9363)[:65536],
		"byte":   {7},
	}
	for _, n := range []int{2, 511, 512, 4096, 5000, 65535, 65536, 65537, 131072, 2 << 20} {
		u[fmt.Sprint("sample ", n)] = sample(uint64(n), n)
	}
	half := make([]byte, 65536)
	copy(half, noise(2, 30000))
	copy(half[40000:], sample(3, 20000))
	u["half noise"] = half
	return u
}

func TestRoundTrip(t *testing.T) {
	for _, o := range all {
		t.Run(o.name(), func(t *testing.T) {
			e, d := newEncoder(t, o), NewDecoder()
			for name, src := range units() {
				prefix := []byte("what was there before")
				out := e.Encode(bytes.Clone(prefix), src)
				require.Equal(t, prefix, out[:len(prefix)], name)
				stream := out[len(prefix):]
				require.LessOrEqual(t, len(stream), len(src)+64+len(src)/4096, name)

				padded := append(bytes.Clone(stream), 0, 1, 2, 3, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff)
				buf := bytes.Repeat([]byte{0xa5}, len(src)+100)
				got, err := d.Decode(buf[50:50+len(src)], padded, o.Encoding)
				require.NoError(t, err, name)
				require.True(t, bytes.Equal(src, buf[50:50+len(src)]), name)
				require.Equal(t, bytes.Repeat([]byte{0xa5}, 50), buf[:50], name)
				require.Equal(t, bytes.Repeat([]byte{0xa5}, 50), buf[50+len(src):], name)
				require.Equal(t, len(stream), got.Used, name)
				if o.Encoding == diskimage.Deflate {
					window := o.Window
					if window == 0 {
						window = 4096
					}
					require.LessOrEqual(t, got.MaxDistance, window, name)
					std, err := io.ReadAll(flate.NewReader(bytes.NewReader(stream)))
					require.NoError(t, err, name)
					require.True(t, bytes.Equal(src, std), name)
				}
			}
		})
	}
}

// The same unit gives the same bytes whatever was encoded before it.
func TestEncodeIsDeterministic(t *testing.T) {
	for _, o := range all {
		t.Run(o.name(), func(t *testing.T) {
			e := newEncoder(t, o)
			src := sample(9, 65536)
			want := newEncoder(t, o).Encode(nil, src)
			for i, before := range [][]byte{src, noise(4, 65536), make([]byte, 65536), sample(10, 2<<20), src[:100], src[1000:], nil} {
				e.Encode(nil, before)
				require.True(t, bytes.Equal(want, e.Encode([]byte{1, 2, 3}, src)[3:]), i)
			}
			// Positions that count up from unit to unit must not show either.
			for i := range 60 {
				e.Encode(nil, src[i:i+9000])
			}
			require.True(t, bytes.Equal(want, e.Encode(nil, src)))
		})
	}
}

// golden are digests of what each encoder makes of the same units. They are
// equal on every architecture; they change with the encoders, and so do the
// images that we write.
var golden = map[string]string{
	"deflate,window=0,level=0":     "afbbdffc48f84cb2",
	"deflate,window=32768,level=0": "72675052216f2211",
	"deflate,window=32768,level=4": "3692cb20ed07205f",
	"deflate,window=32768,level=9": "ce7b8987a3e7108b",
	"deflate,window=4096,level=0":  "afbbdffc48f84cb2",
	"deflate,window=4096,level=6":  "faec1f27483ec34d",
	"zstd,window=0,level=0":        "184edfb64e82d20c",
	"zstd,window=0,level=1":        "863c9e177c1bc8f0",
	"zstd,window=0,level=22":       "d5af38869deeae7a",
	"zstd,window=0,level=7":        "cd3d3de8bde4bb8f",
}

func TestEncodeGolden(t *testing.T) {
	for _, o := range all {
		t.Run(o.name(), func(t *testing.T) {
			e, h := newEncoder(t, o), sha256.New()
			for i, n := range []int{65536, 4096, 2 << 20, 512, 300000, 1} {
				h.Write(e.Encode(nil, sample(uint64(i), n)))
			}
			h.Write(e.Encode(nil, noise(1, 65536)))
			h.Write(e.Encode(nil, make([]byte, 65536)))
			require.Equal(t, golden[o.name()], hex.EncodeToString(h.Sum(nil)[:8]))
		})
	}
}

func TestEncoderOptions(t *testing.T) {
	for _, o := range []EncoderOptions{
		{},
		{Encoding: diskimage.Encoding(9)},
		{Encoding: diskimage.Deflate, Level: 10},
		{Encoding: diskimage.Deflate, Window: 32768, Level: 10},
		{Encoding: diskimage.Deflate, Window: 32768, Level: -1},
		{Encoding: diskimage.Deflate, Window: 8192},
		{Encoding: diskimage.Deflate, Window: -1},
		{Encoding: diskimage.Zstd, Level: 23},
		{Encoding: diskimage.Zstd, Level: -1},
		{Encoding: diskimage.Zstd, Window: 4096},
	} {
		e, err := NewEncoder(o)
		require.Error(t, err, o.name())
		require.Nil(t, e)
	}
}

func TestDecodeErrors(t *testing.T) {
	d := NewDecoder()
	_, err := d.Decode(nil, nil, diskimage.Plain)
	require.Error(t, err)

	src := sample(5, 65536)
	for _, o := range []EncoderOptions{{Encoding: diskimage.Deflate}, {Encoding: diskimage.Zstd}} {
		t.Run(o.Encoding.String(), func(t *testing.T) {
			stream := newEncoder(t, o).Encode(nil, src)
			buf := make([]byte, len(src)+1)

			_, err := d.Decode(buf, stream, o.Encoding)
			require.ErrorIs(t, err, ErrTooShort)
			_, err = d.Decode(buf, append(bytes.Clone(stream), make([]byte, 600)...), o.Encoding)
			require.ErrorIs(t, err, ErrTooShort, "padded")
			for _, n := range []int{1, 100, 32768, 65535} {
				guard := bytes.Repeat([]byte{0xa5}, len(src))
				_, err = d.Decode(guard[:n], stream, o.Encoding)
				require.ErrorIs(t, err, ErrTooLong, n)
				require.Equal(t, bytes.Repeat([]byte{0xa5}, len(src)-n), guard[n:])
			}
			for n := 0; n < len(stream); n += 1 + n/50 {
				_, err = d.Decode(buf[:len(src)], stream[:n], o.Encoding)
				require.ErrorIs(t, err, io.ErrUnexpectedEOF, n)
			}
			_, err = d.Decode(buf[:len(src)], stream[:len(stream)-1], o.Encoding)
			require.ErrorIs(t, err, io.ErrUnexpectedEOF)
			_, err = d.Decode(buf[:len(src)], noise(6, 70000), o.Encoding)
			require.Error(t, err)

			// And the decoder is as good as new.
			_, err = d.Decode(buf[:len(src)], stream, o.Encoding)
			require.NoError(t, err)
			require.True(t, bytes.Equal(src, buf[:len(src)]))
		})
	}
}

// Coders that are warm allocate nothing.
func TestAllocations(t *testing.T) {
	if disktest.Race {
		t.Skip("the race detector makes allocations")
	}
	src, dst := sample(7, 65536), make([]byte, 65536)
	for _, o := range all {
		e, d := newEncoder(t, o), NewDecoder()
		out := e.Encode(nil, src)
		require.Zero(t, testing.AllocsPerRun(5, func() { out = e.Encode(out[:0], src) }), "encode "+o.name())
		require.Zero(t, testing.AllocsPerRun(5, func() {
			if _, err := d.Decode(dst, out, o.Encoding); err != nil {
				t.Error(err)
			}
		}), "decode "+o.name())
	}
}
