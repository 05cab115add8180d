package unwrap_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"testing"
	"testing/iotest"

	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/internal/imagetest"
	"github.com/diskimage-go/diskimage/internal/peer"
	"github.com/diskimage-go/diskimage/internal/unwrap"
)

// content is compressible, and longer than a zstd block and a window.
func content(n int) []byte {
	rnd := rand.New(rand.NewPCG(1, 2))
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(rnd.Uint32() >> 27)
	}
	clear(p[n/3 : n/2])
	return p
}

func zstdOf(t testing.TB, p []byte, o ...zstd.EOption) []byte {
	e, err := zstd.NewWriter(nil, append(o, zstd.WithZeroFrames(true))...)
	require.NoError(t, err)
	defer e.Close()
	return e.EncodeAll(p, nil)
}

func skippable(n int) []byte {
	p := append([]byte("\x5a\x2a\x4d\x18"), make([]byte, 4+n)...)
	binary.LittleEndian.PutUint32(p[4:], uint32(n))
	return p
}

func join(p ...[]byte) []byte { return bytes.Join(p, nil) }

func unpack(file io.Reader, o unwrap.Options) ([]byte, []diskimage.Note, error) {
	r, err := unwrap.NewReader(file, o)
	if err != nil {
		return nil, nil, err
	}
	defer r.Close()
	p, err := io.ReadAll(iotest.HalfReader(r))
	return p, r.Notes(), err
}

// TestMembers reads files of one member and of several, and finds each end that
// is no end.
func TestMembers(t *testing.T) {
	want := content(300000)
	small := want[:1000]
	sum := zstd.WithEncoderCRC(true)
	for name, members := range map[string][][]byte{
		"gzip":                 {imagetest.Gzip(want)},
		"gzip, members":        {imagetest.Gzip(want[:1000]), imagetest.Gzip(want[1000:1000]), imagetest.Gzip(want[1000:])},
		"zstd":                 {zstdOf(t, want, sum)},
		"zstd, no checksum":    {zstdOf(t, want, zstd.WithEncoderCRC(false))},
		"zstd, single segment": {zstdOf(t, want, zstd.WithSingleSegment(true), sum)},
		"zstd, frames":         {zstdOf(t, small, sum), skippable(0), skippable(7), zstdOf(t, nil), zstdOf(t, want[1000:], sum)},
		"zstd, skippable":      {skippable(70000), zstdOf(t, want, sum)},
	} {
		t.Run(name, func(t *testing.T) {
			file, ends := join(members...), map[int]bool{}
			got, notes, err := unpack(bytes.NewReader(file), unwrap.Options{Limit: int64(len(want))})
			require.NoError(t, err)
			require.True(t, bytes.Equal(want, got))
			require.Empty(t, notes)

			for at, i := 0, 0; i < len(members); i++ {
				at += len(members[i])
				ends[at] = true // a file of its own, of fewer members
			}
			for n := 4; n < len(file); n++ {
				if !ends[n] && !cutMagic(file, n) && (n < 100 || n > len(file)-100 || n%7777 == 0) {
					_, _, err := unpack(bytes.NewReader(file[:n]), unwrap.Options{Kind: unwrap.Probe(file)})
					require.ErrorIs(t, err, diskimage.ErrTruncated, n)
				}
			}
			for _, garbage := range []string{"g", "garbage", "\x00\x00\x00\x00\x00", "\x50"} {
				got, notes, err := unpack(bytes.NewReader(append(bytes.Clone(file), garbage...)), unwrap.Options{Field: "x.gz"})
				require.NoError(t, err)
				require.True(t, bytes.Equal(want, got))
				require.Len(t, notes, 1)
				require.Contains(t, notes[0].Text, "something follows")
			}
			_, _, err = unpack(bytes.NewReader(file), unwrap.Options{Limit: int64(len(want)) - 1})
			require.ErrorIs(t, err, diskimage.ErrLimit)
			_, _, err = unpack(io.MultiReader(bytes.NewReader(file[:len(file)/2]), iotest.ErrReader(errDisk)), unwrap.Options{})
			require.ErrorIs(t, err, errDisk)
			require.NotErrorIs(t, err, diskimage.ErrCorrupt)
			_, _, err = unpack(io.MultiReader(bytes.NewReader(file), iotest.ErrReader(errDisk)), unwrap.Options{})
			require.ErrorIs(t, err, errDisk, "behind the end")
		})
	}
}

// cutMagic reports whether a file cut at n ends in a skippable frame's magic
// number: nothing is lost, and what is there is no member.
func cutMagic(file []byte, n int) bool {
	for i := 1; i < 4; i++ {
		if string(file[n-i+1:min(n-i+4, len(file))]) == "\x2a\x4d\x18" {
			return true
		}
	}
	return false
}

var errDisk = errors.New("the disk fails")

// TestFlippedBits: no bit of a file with a checksum changes what comes out.
func TestFlippedBits(t *testing.T) {
	want := content(400)
	for _, file := range [][]byte{imagetest.Gzip(want), zstdOf(t, want, zstd.WithEncoderCRC(true), zstd.WithSingleSegment(true))} {
		for bit := range len(file) * 8 {
			bad := bytes.Clone(file)
			bad[bit/8] ^= 1 << (bit % 8)
			got, notes, err := unpack(bytes.NewReader(bad), unwrap.Options{Kind: unwrap.Probe(file)})
			if err == nil && len(notes) == 0 {
				require.True(t, bytes.Equal(want, got), "bit %d", bit)
			}
		}
	}
}

func TestRefused(t *testing.T) {
	for _, c := range []struct {
		name string
		file []byte
		o    unwrap.Options
		kind diskimage.ErrorKind
		text string
	}{
		{"nothing", nil, unwrap.Options{}, diskimage.ErrFormat, "neither"},
		{"a cut magic number", []byte("\x28\xb5"), unwrap.Options{Kind: unwrap.Zstd}, diskimage.ErrTruncated, "too early"},
		{"text", []byte("some text"), unwrap.Options{}, diskimage.ErrFormat, "neither"},
		{"xz", []byte("\xfd7zXZ\x00"), unwrap.Options{}, diskimage.ErrFormat, "neither"},
		{"zstd for gzip", zstdOf(t, []byte("x")), unwrap.Options{Kind: unwrap.Gzip}, diskimage.ErrCorrupt, "not compressed with gzip"},
		{"another member's method", append(imagetest.Gzip([]byte("x")), "\x1f\x8b\x07garbage garbage"...), unwrap.Options{}, diskimage.ErrCorrupt, "damaged"},
		{"a window of 256 MiB", []byte("\x28\xb5\x2f\xfd\x00\x90\x01\x00\x00"), unwrap.Options{}, diskimage.ErrLimit, "128 MiB"},
		{"a reserved block", []byte("\x28\xb5\x2f\xfd\x00\x00\x07\x00\x00"), unwrap.Options{}, diskimage.ErrCorrupt, "damaged"},
		{"a skippable frame of 4 GiB", []byte("\x50\x2a\x4d\x18\xff\xff\xff\xff"), unwrap.Options{}, diskimage.ErrTruncated, "too early"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, _, err := unpack(bytes.NewReader(c.file), c.o)
			require.ErrorIs(t, err, c.kind)
			require.ErrorContains(t, err, c.text)
		})
	}
}

// TestPeers reads what the programs of both kinds write.
func TestPeers(t *testing.T) {
	want := content(3 << 20)
	name := t.TempDir() + "/x"
	for _, program := range []string{"gzip", "zstd"} {
		t.Run(program, func(t *testing.T) {
			peer.Find(t, program)
			require.NoError(t, os.WriteFile(name, want, 0o600))
			got, _, err := unpack(bytes.NewReader([]byte(peer.Run(t, program, "-c", name))), unwrap.Options{})
			require.NoError(t, err)
			require.True(t, bytes.Equal(want, got))
		})
	}
}

// FuzzReader: whatever the input, the reader ends, and keeps its limit.
func FuzzReader(f *testing.F) {
	f.Add(imagetest.Gzip(content(3000)))
	f.Add(join(imagetest.Gzip([]byte("a")), imagetest.Gzip([]byte("b"))))
	f.Add(join(skippable(3), zstdOf(f, content(3000)), zstdOf(f, []byte("x"), zstd.WithSingleSegment(true))))
	f.Fuzz(func(t *testing.T, file []byte) {
		got, _, err := unpack(bytes.NewReader(file), unwrap.Options{Limit: 1 << 20})
		require.LessOrEqual(t, len(got), 1<<20)
		if err == nil {
			again, _, err := unpack(iotest.OneByteReader(bytes.NewReader(file)), unwrap.Options{})
			require.NoError(t, err)
			require.True(t, bytes.Equal(got, again))
		}
	})
}
