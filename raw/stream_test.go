package raw_test

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/raw"
	"github.com/stretchr/testify/require"
)

// drain reads all blocks and returns their bytes.
func drain(t *testing.T, s *raw.Stream, buf []byte) ([]byte, error) {
	t.Helper()
	var all []byte
	for {
		b, err := s.NextBlock(buf)
		if err != nil {
			again, err2 := s.NextBlock(buf)
			require.Equal(t, err, err2, "an error stays")
			require.Zero(t, again)
			return all, err
		}
		require.EqualValues(t, len(all), b.Off)
		require.EqualValues(t, len(b.Data), b.Len)
		require.NotEmpty(t, b.Data)
		require.Equal(t, diskimage.Data, b.Kind)
		require.Equal(t, diskimage.Plain, b.Enc)
		require.Zero(t, b.Off%int64(len(buf)), "only the last block is short")
		all = append(all, b.Data...)
	}
}

func TestStream(t *testing.T) {
	readers := map[string]func(io.Reader) io.Reader{
		"whole":      func(r io.Reader) io.Reader { return r },
		"one byte":   iotest.OneByteReader,
		"half":       iotest.HalfReader,
		"data error": iotest.DataErrReader,
	}
	for name, wrap := range readers {
		for _, n := range []int{0, 1, 511, 512, 513, 4095, 4096, 4097, 20_000} {
			want := pattern(n)
			for _, size := range []int64{-1, int64(n)} {
				s := raw.NewStream(wrap(bytes.NewReader(want)), size)
				require.Equal(t, size, s.Size())
				got, err := drain(t, s, make([]byte, 4096))
				require.Equal(t, io.EOF, err, "%s, %d bytes", name, n)
				require.True(t, bytes.Equal(want, got), "%s, %d bytes", name, n)
				require.EqualValues(t, n, s.Size())
			}
			if n > 0 {
				s := raw.NewStream(wrap(bytes.NewReader(want)), int64(n)+1)
				_, err := drain(t, s, make([]byte, 4096))
				require.ErrorIs(t, err, diskimage.ErrTruncated, "%s, %d bytes", name, n)
				s = raw.NewStream(wrap(bytes.NewReader(want)), int64(n)-1)
				got, err := drain(t, s, make([]byte, 4096))
				require.ErrorIs(t, err, diskimage.ErrFormat, "%s, %d bytes", name, n)
				require.True(t, bytes.Equal(want[:n-1], got))
			}
		}
	}
}

func TestStreamSaysWhere(t *testing.T) {
	_, err := raw.NewStream(strings.NewReader("abc"), 4).NextBlock(make([]byte, 10))
	require.EqualError(t, err, "raw: input at 0x3: ends here, it should hold 4 bytes")
	s := raw.NewStream(strings.NewReader("abcde"), 4)
	_, err = s.NextBlock(make([]byte, 10))
	require.NoError(t, err)
	_, err = s.NextBlock(make([]byte, 10))
	require.EqualError(t, err, "raw: input at 0x4: goes on here, it should hold 4 bytes")
}

// odd is a reader that misbehaves.
type odd struct {
	n   int
	err error
}

func (o odd) Read([]byte) (int, error) { return o.n, o.err }

func TestStreamErrors(t *testing.T) {
	broken := errors.New("the pipe broke")
	for _, size := range []int64{-1, 100} {
		s := raw.NewStream(io.MultiReader(strings.NewReader("abc"), iotest.ErrReader(broken)), size)
		_, err := drain(t, s, make([]byte, 8))
		require.ErrorIs(t, err, broken)
		require.ErrorContains(t, err, "at 3")

		// What a decompressor says of a cut input is no end of the disk.
		_, err = raw.NewStream(odd{0, io.ErrUnexpectedEOF}, size).NextBlock(make([]byte, 8))
		require.ErrorIs(t, err, io.ErrUnexpectedEOF)
		_, err = raw.NewStream(odd{0, nil}, size).NextBlock(make([]byte, 8))
		require.ErrorIs(t, err, io.ErrNoProgress)
		for _, n := range []int{-1, 99} {
			_, err = raw.NewStream(odd{n, nil}, size).NextBlock(make([]byte, 8))
			require.ErrorContains(t, err, "impossible count")
		}
	}
	// An error where the end should be is not the end.
	s := raw.NewStream(io.MultiReader(strings.NewReader("abc"), iotest.ErrReader(broken)), 3)
	_, err := drain(t, s, make([]byte, 8))
	require.ErrorIs(t, err, broken)

	_, err = raw.NewStream(strings.NewReader("abc"), 3).NextBlock(nil)
	require.Error(t, err)
}

type closer struct {
	io.Reader
	closed bool
}

func (c *closer) Close() error { c.closed = true; return nil }

func TestStreamCloses(t *testing.T) {
	c := &closer{Reader: strings.NewReader("")}
	require.NoError(t, raw.NewStream(c, -1).Close())
	require.True(t, c.closed)
	require.NoError(t, raw.NewStream(strings.NewReader(""), -1).Close())
}
