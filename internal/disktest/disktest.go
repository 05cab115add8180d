// Package disktest is the suite that every format's disks must pass: the laws
// of diskimage.VirtualDisk and diskimage.Extent.
package disktest

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/diskimage-go/diskimage"
	"github.com/stretchr/testify/require"
)

// Conform fails t unless d is a disk that holds want and keeps the laws: of
// size, reading at any offset and length, the end, extents from any offset,
// what they say of the bytes, and all of that from many goroutines at once.
// Closing d is left to the caller.
func Conform(t testing.TB, d diskimage.VirtualDisk, want []byte) {
	t.Helper()
	require.EqualValues(t, len(want), d.Size(), "Size")
	all := Walk(t, d)
	checkBytes(t, all, want)
	checkFromAnywhere(t, d, all)
	checkJoined(t, d, want)
	checkStored(t, d, all, want)
	checkReads(t, d, want)
	checkEnds(t, d)
	checkConcurrent(t, d, all, want)
}

// ConformHost is Conform, and fails t unless all data that is said to lie
// plain at a host offset lies there. file returns a layer's file.
func ConformHost(t testing.TB, d diskimage.VirtualDisk, want []byte, file func(depth, file int) io.ReaderAt) {
	t.Helper()
	Conform(t, d, want)
	for _, e := range Walk(t, d) {
		if e.Kind != diskimage.Data || e.Stored != diskimage.Plain || e.Host < 0 {
			continue
		}
		p := make([]byte, e.Len)
		n, err := file(e.Depth, e.File).ReadAt(p, e.Host)
		if n < len(p) {
			require.NoError(t, err, "the host bytes of %+v", e)
		}
		requireEqual(t, want[e.Off:e.End()], p, e.Off, fmt.Sprintf("the host bytes of %+v", e))
	}
}

// TryWalk asks for all extents, and returns the first error: of NextExtent, or
// of a law that an extent breaks.
func TryWalk(d diskimage.VirtualDisk) error {
	for off := int64(0); ; {
		e, err := d.NextExtent(off)
		switch {
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		}
		if err := Check(e, off, d.Size()); err != nil {
			return err
		}
		off = e.End()
	}
}

// Walk returns all extents of d as NextExtent gives them, and fails t unless
// each keeps the laws that need no knowledge of the bytes.
func Walk(t testing.TB, d diskimage.VirtualDisk) []diskimage.Extent {
	t.Helper()
	var all []diskimage.Extent
	for off := int64(0); off < d.Size(); {
		e, err := d.NextExtent(off)
		require.NoError(t, err, "NextExtent(%d)", off)
		require.NoError(t, Check(e, off, d.Size()))
		all = append(all, e)
		off = e.End()
	}
	return all
}

// Check returns an error unless e may be what NextExtent(off) returns of a
// disk of this size.
func Check(e diskimage.Extent, off, size int64) error {
	bad := func(law string) error { return fmt.Errorf("%+v, asked for at %d of %d: %s", e, off, size, law) }
	switch {
	case e.Off != off:
		return bad("does not start where it was asked for")
	case e.Len <= 0:
		return bad("is empty")
	case e.Len > size-off:
		return bad("goes beyond the disk's end")
	case e.Kind > diskimage.Hole || e.Stored > diskimage.Zstd:
		return bad("is of no known kind or encoding")
	case e.Kind != diskimage.Data && e.Stored != diskimage.Plain:
		return bad("zeros are not compressed")
	case e.Depth < 0 || e.File < 0:
		return bad("a layer or file below 0")
	case e.Host < -1:
		return bad("a host offset below -1")
	case e.HostLen < 0 || e.HostLen > 0 && e.Stored == diskimage.Plain:
		return bad("HostLen is of compressed units")
	}
	return nil
}

// checkBytes: zeros and holes are zeros.
func checkBytes(t testing.TB, all []diskimage.Extent, want []byte) {
	t.Helper()
	for _, e := range all {
		if e.IsZero() {
			for i, c := range want[e.Off:e.End()] {
				if c != 0 {
					t.Fatalf("%+v: byte %d of the disk is %#x", e, e.Off+int64(i), c)
				}
			}
		}
	}
}

// checkFromAnywhere: an extent that is asked for in the middle says what the
// whole one says.
func checkFromAnywhere(t testing.TB, d diskimage.VirtualDisk, all []diskimage.Extent) {
	t.Helper()
	rnd := rand.New(rand.NewPCG(uint64(len(all)), 1))
	tries := all
	if len(tries) > 2000 {
		tries = make([]diskimage.Extent, 2000)
		for i := range tries {
			tries[i] = all[rnd.IntN(len(all))]
		}
	}
	for _, whole := range tries {
		for _, skip := range []int64{0, 1, rnd.Int64N(whole.Len), whole.Len - 1} {
			off := whole.Off + min(skip, whole.Len-1)
			e, err := d.NextExtent(off)
			require.NoError(t, err, "NextExtent(%d)", off)
			require.NoError(t, Check(e, off, d.Size()))
			cut := whole.Clip(off, whole.Len)
			n := min(e.Len, cut.Len) // either may be shorter than it could be
			require.Equal(t, cut.Clip(off, n), e.Clip(off, n), "NextExtent(%d), inside of %+v", off, whole)
		}
	}
}

// checkJoined: the Extents helper gives the same in ranges of any ends.
func checkJoined(t testing.TB, d diskimage.VirtualDisk, want []byte) {
	t.Helper()
	rnd := rand.New(rand.NewPCG(uint64(len(want)), 2))
	for i := range 10 {
		off, n := int64(0), d.Size()+10
		if i > 0 && len(want) > 0 {
			off = rnd.Int64N(d.Size())
			n = rnd.Int64N(d.Size()-off) + 1
		}
		end := min(off+n, d.Size())
		at := off
		for e, err := range diskimage.Extents(d, off, n) {
			require.NoError(t, err)
			require.NoError(t, Check(e, at, end))
			at = e.End()
		}
		require.Equal(t, max(end, off), at, "Extents(%d, %d) ends early", off, n)
	}
}

// checkReads: all at once, and odd pieces of it. What is read into is dirty,
// so that zeros that are not written show.
func checkReads(t testing.TB, d diskimage.VirtualDisk, want []byte) {
	t.Helper()
	const piece = 1 << 20
	for off := 0; off < len(want); off += piece {
		readPiece(t, d, want, off, min(piece, len(want)-off))
	}
	rnd := rand.New(rand.NewPCG(uint64(len(want)), 3))
	for _, n := range []int{1, 511, 512, 513, 4095, 4096, 4097, 65535, 65537, 1<<20 + 1} {
		for range 8 {
			if n <= len(want) {
				readPiece(t, d, want, rnd.IntN(len(want)-n+1), n)
			}
		}
		if n <= len(want) {
			readPiece(t, d, want, 0, n)
			readPiece(t, d, want, len(want)-n, n) // up to the end: nil or io.EOF
		}
	}
}

func readPiece(t testing.TB, d diskimage.VirtualDisk, want []byte, off, n int) {
	t.Helper()
	p := bytes.Repeat([]byte{0xa5}, n+1)
	got, err := d.ReadAt(p[:n], int64(off))
	if err == io.EOF && off+n == len(want) {
		err = nil
	}
	require.NoError(t, err, "ReadAt of %d bytes at %d", n, off)
	require.Equal(t, n, got, "ReadAt of %d bytes at %d", n, off)
	requireEqual(t, want[off:off+n], p[:n], int64(off), "ReadAt")
	require.Equal(t, byte(0xa5), p[n])
}

// checkEnds: what lies outside of the disk.
func checkEnds(t testing.TB, d diskimage.VirtualDisk) {
	t.Helper()
	size := d.Size()
	_, err := d.NextExtent(size)
	require.Equal(t, io.EOF, err, "NextExtent(Size)")
	for _, off := range []int64{-1, -1 << 63, size + 1, 1<<63 - 1} {
		_, err := d.NextExtent(off)
		require.Error(t, err, "NextExtent(%d)", off)
		require.NotErrorIs(t, err, io.EOF, "NextExtent(%d)", off)
	}
	p := bytes.Repeat([]byte{0xa5}, 1000)
	for _, off := range []int64{size, size + 1, 1<<63 - 1, 1<<63 - 1 - 500} {
		n, err := d.ReadAt(p, off)
		require.Zero(t, n, "ReadAt(%d)", off)
		require.Error(t, err, "ReadAt(%d)", off)
		if off == size {
			require.Equal(t, io.EOF, err, "ReadAt(Size)")
		}
	}
	for _, off := range []int64{-1, -1 << 63} {
		n, err := d.ReadAt(p, off)
		require.Zero(t, n, "ReadAt(%d)", off)
		require.Error(t, err, "ReadAt(%d)", off)
		require.NotErrorIs(t, err, io.EOF, "ReadAt(%d)", off)
	}
	if size > 0 {
		inside := min(size, 400)
		n, err := d.ReadAt(p, size-inside) // across the end
		require.EqualValues(t, inside, n)
		require.Equal(t, io.EOF, err)
		n, err = d.ReadAt(nil, size/2)
		require.Zero(t, n)
		require.NoError(t, err, "ReadAt of nothing")
	}
}

// requireEqual says where the first difference is instead of printing both.
func requireEqual(t testing.TB, want, got []byte, off int64, what string) {
	t.Helper()
	if bytes.Equal(want, got) {
		return
	}
	require.Len(t, got, len(want), what)
	for i := range want {
		if want[i] != got[i] {
			t.Fatalf("%s: byte %d is %#x, want %#x", what, off+int64(i), got[i], want[i])
		}
	}
}
