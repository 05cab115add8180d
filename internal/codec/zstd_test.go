package codec

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage"
)

func frame(t testing.TB, p []byte, o ...zstd.EOption) []byte {
	t.Helper()
	e, err := zstd.NewWriter(nil, append([]zstd.EOption{zstd.WithEncoderConcurrency(1), zstd.WithZeroFrames(true)}, o...)...)
	require.NoError(t, err)
	return e.EncodeAll(p, nil)
}

// stream returns a frame as a streaming encoder writes it: of unknown size,
// with a window and a checksum.
func stream(t testing.TB, p []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	e, err := zstd.NewWriter(&b, zstd.WithEncoderConcurrency(1))
	require.NoError(t, err)
	for len(p) > 0 {
		n := min(len(p), 10000)
		_, err = e.Write(p[:n])
		require.NoError(t, err)
		require.NoError(t, e.Flush())
		p = p[n:]
	}
	require.NoError(t, e.Close())
	return b.Bytes()
}

func skipFrame(n int) []byte {
	p := binary.LittleEndian.AppendUint32(nil, 0x184d2a53)
	p = binary.LittleEndian.AppendUint32(p, uint32(n))
	return append(p, make([]byte, n)...)
}

var errAny = errors.New("some error") // one that the module does not name

// A unit may be several frames, of any form, and padding follows the last.
func TestZstdFrames(t *testing.T) {
	src := sample(1, 65536)
	join := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	whole := frame(t, src)
	for name, tt := range map[string]struct {
		stream []byte
		err    error
	}{
		"one":                 {whole, nil},
		"streamed":            {stream(t, src), nil},
		"two":                 {join(frame(t, src[:30000]), stream(t, src[30000:])), nil},
		"empty frame between": {join(frame(t, src[:30000]), frame(t, nil), frame(t, src[30000:])), nil},
		"skippable first":     {join(skipFrame(100), whole), nil},
		"skippable between":   {join(frame(t, src[:30000]), skipFrame(0), frame(t, src[30000:])), nil},
		"skippable only":      {skipFrame(100), ErrTooShort},
		"skippable cut":       {skipFrame(100)[:50], io.ErrUnexpectedEOF},
		"nothing":             {nil, io.ErrUnexpectedEOF},
		"second missing":      {frame(t, src[:30000]), ErrTooShort},
		"second cut":          {join(frame(t, src[:30000]), frame(t, src[30000:])[:5000]), io.ErrUnexpectedEOF},
		"second too long":     {join(frame(t, src[:30000]), frame(t, src)), ErrTooLong},
		"streamed too long":   {stream(t, sample(2, 70000)), errAny},
		"bomb":                {stream(t, make([]byte, 8<<20)), errAny},
	} {
		for _, pad := range []int{0, 1, 3, 4, 511} {
			if pad > 0 && tt.err == io.ErrUnexpectedEOF {
				continue
			}
			got := bytes.Repeat([]byte{0xa5}, len(src)+64)
			res, err := NewDecoder().Decode(got[:len(src)], append(bytes.Clone(tt.stream), make([]byte, pad)...), diskimage.Zstd)
			require.Equal(t, bytes.Repeat([]byte{0xa5}, 64), got[len(src):], name)
			if tt.err == errAny {
				require.Error(t, err, name)
				continue
			}
			if tt.err != nil {
				if pad > 0 && pad < 4 && tt.err == ErrTooShort {
					require.Error(t, err, name) // it may be the start of another frame
					continue
				}
				require.ErrorIs(t, err, tt.err, name)
				continue
			}
			require.NoError(t, err, name)
			require.True(t, bytes.Equal(src, got[:len(src)]), name)
			require.Equal(t, len(tt.stream), res.Used, name)
		}
	}
}

// TestZstdDefault: at the default level, a unit of few bytes is encoded as at
// level 1, and any other as at level 3.
func TestZstdDefault(t *testing.T) {
	encode := func(level int, src []byte) []byte {
		return newEncoder(t, EncoderOptions{Encoding: diskimage.Zstd, Level: level}).Encode(nil, src)
	}
	few := []byte(strings.Repeat("2026-11-22 08:15:01 INFO  job 17 of 301 done\n2026-11-22 08:15:02 WARN  job 18 is late\n", 800)[:65536])
	for i := range few {
		if i%97 == 0 {
			few[i] = byte('a' + i*i%26) // or both would find the same
		}
	}
	many := sample(1, 65536)
	for i := range many {
		many[i] += byte(i>>11) * 8
	}
	require.True(t, fewBytes(few))
	require.False(t, fewBytes(many))
	require.False(t, bytes.Equal(encode(1, few), encode(3, few)))
	require.True(t, bytes.Equal(encode(1, few), encode(0, few)))
	require.False(t, bytes.Equal(encode(1, many), encode(3, many)))
	require.True(t, bytes.Equal(encode(3, many), encode(0, many)))
	require.False(t, fewBytes(nil))
	require.True(t, fewBytes(make([]byte, 3)))
}

func TestZstdDamage(t *testing.T) {
	src := sample(1, 65536)
	good := stream(t, src)
	require.NoError(t, func() error { _, err := NewDecoder().Decode(make([]byte, len(src)), good, diskimage.Zstd); return err }())
	at := func(i int, b byte) []byte {
		p := bytes.Clone(good)
		p[i] = b
		return p
	}
	for name, p := range map[string][]byte{
		"magic":          at(0, 0),
		"reserved bit":   at(4, good[4]|8),
		"reserved block": at(6, good[6]|6),
		"dictionary":     append(append(bytes.Clone(good[:4]), good[4]|1, good[5], 9), good[6:]...),
		"window":         at(5, 0xff),
		"checksum":       at(len(good)-1, good[len(good)-1]^1),
		"content":        at(1000, good[1000]^0x55),
	} {
		_, err := NewDecoder().Decode(make([]byte, len(src)), p, diskimage.Zstd)
		require.Error(t, err, name)
		require.NotErrorIs(t, err, io.ErrUnexpectedEOF, name)
	}
}

// FuzzZstd: whatever the stream, nothing beyond the unit is written, and what
// decodes does so again from just the bytes that were used.
func FuzzZstd(f *testing.F) {
	src := sample(1, 3000)
	f.Add(frame(f, src), uint16(3000))
	f.Add(stream(f, src), uint16(3000))
	f.Add(append(skipFrame(9), stream(f, src[:10])...), uint16(10))
	f.Add(append(frame(f, src[:500]), frame(f, src[500:])...), uint16(3000))
	d := NewDecoder()
	f.Fuzz(func(t *testing.T, p []byte, size uint16) {
		const guard = 64
		buf := bytes.Repeat([]byte{0xa5}, int(size)+guard)
		res, err := d.Decode(buf[:size], p, diskimage.Zstd)
		require.Equal(t, bytes.Repeat([]byte{0xa5}, guard), buf[size:])
		if err != nil {
			return
		}
		require.LessOrEqual(t, res.Used, len(p))
		again := make([]byte, size)
		res2, err := d.Decode(again, p[:res.Used], diskimage.Zstd)
		require.NoError(t, err)
		require.Equal(t, res, res2)
		require.True(t, bytes.Equal(buf[:size], again))
	})
}
