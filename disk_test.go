package diskimage_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"testing"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/internal/disktest"
	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
)

func join(vs ...fmt.Stringer) string {
	var words []string
	for _, v := range vs {
		words = append(words, v.String())
	}
	return strings.Join(words, " ")
}

// mapDisk is a disk that is nothing but its extents, given in any pieces.
type mapDisk struct {
	size    int64
	extents []diskimage.Extent
	err     error // of the offset after the last extent
}

func (d mapDisk) Size() int64                       { return d.size }
func (d mapDisk) Close() error                      { return nil }
func (d mapDisk) ReadAt([]byte, int64) (int, error) { return 0, errors.ErrUnsupported }

func (d mapDisk) NextExtent(off int64) (diskimage.Extent, error) {
	for _, e := range d.extents {
		if off >= e.Off && off < e.End() {
			return e.Clip(off, d.size), nil
		}
	}
	return diskimage.Extent{}, d.err
}

// collect runs Extents to its end.
func collect(d diskimage.VirtualDisk, off, n int64) (got []diskimage.Extent, err error) {
	for e, eerr := range diskimage.Extents(d, off, n) {
		if eerr != nil {
			return got, eerr
		}
		got = append(got, e)
	}
	return got, nil
}

func TestExtentsCoalesce(t *testing.T) {
	data := func(off, n, host int64) diskimage.Extent { return diskimage.Extent{Off: off, Len: n, Host: host} }
	hole := func(off, n int64) diskimage.Extent {
		return diskimage.Extent{Off: off, Len: n, Kind: diskimage.Hole, Host: -1}
	}
	unit := func(off, n, host int64) diskimage.Extent {
		return diskimage.Extent{Off: off, Len: n, Stored: diskimage.Deflate, Host: host, HostLen: 7}
	}
	d := mapDisk{size: 1000, extents: []diskimage.Extent{
		data(0, 100, 5000), data(100, 100, 5100), // one run
		data(200, 100, 9000),           // elsewhere in the file
		hole(300, 100), hole(400, 100), // one hole
		unit(500, 100, 1), unit(600, 100, 8), // two units, never one
		hole(700, 300),
	}, err: io.EOF}

	for name, c := range map[string]struct {
		off, n int64
		want   []diskimage.Extent
	}{
		"the whole disk": {0, 1000, []diskimage.Extent{data(0, 200, 5000), data(200, 100, 9000), hole(300, 200),
			unit(500, 100, 1), unit(600, 100, 8), hole(700, 300)}},
		"clipped to the disk":    {900, 5000, []diskimage.Extent{hole(900, 100)}},
		"to the largest length":  {950, math.MaxInt64, []diskimage.Extent{hole(950, 50)}},
		"inside one extent":      {20, 10, []diskimage.Extent{data(20, 10, 5020)}},
		"across a joint":         {90, 20, []diskimage.Extent{data(90, 20, 5090)}},
		"nothing":                {500, 0, nil},
		"at the end":             {1000, 10, nil},
		"beyond the end":         {2000, 10, nil},
		"a cut unit stays apart": {550, 100, []diskimage.Extent{unit(550, 50, 1), unit(600, 50, 8)}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := collect(d, c.off, c.n)
			require.NoError(t, err)
			require.Empty(t, cmp.Diff(c.want, got))
		})
	}
}

func TestExtentsStopEarly(t *testing.T) {
	d := mapDisk{size: 300, extents: []diskimage.Extent{
		{Off: 0, Len: 100, Host: 0}, {Off: 100, Len: 100, Kind: diskimage.Zero, Host: -1}, {Off: 200, Len: 100, Host: 0},
	}}
	for stopAt := 1; stopAt <= 3; stopAt++ {
		var seen int
		for range diskimage.Extents(d, 0, 300) {
			if seen++; seen == stopAt {
				break
			}
		}
		require.Equal(t, stopAt, seen)
	}
}

func TestExtentsErrors(t *testing.T) {
	broken := errors.New("broken")
	first := diskimage.Extent{Off: 0, Len: 100, Host: 0}
	for name, c := range map[string]struct {
		d    mapDisk
		want error
	}{
		"the disk's own error":       {mapDisk{size: 200, extents: []diskimage.Extent{first}, err: broken}, broken},
		"an end before the size":     {mapDisk{size: 200, extents: []diskimage.Extent{first}, err: io.EOF}, io.ErrUnexpectedEOF},
		"an empty extent":            {mapDisk{size: 200, extents: []diskimage.Extent{first}}, diskimage.ErrCorrupt},
		"its wrapping is left alone": {mapDisk{size: 200, extents: []diskimage.Extent{first}, err: fmt.Errorf("x: %w", io.EOF)}, io.EOF},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := collect(c.d, 0, 200)
			require.ErrorIs(t, err, c.want)
			require.Empty(t, cmp.Diff([]diskimage.Extent{first}, got), "what was known before the error")
		})
	}

	lying := lyingDisk{mapDisk{size: 200, extents: []diskimage.Extent{first}}}
	_, err := collect(lying, 50, 10)
	require.ErrorIs(t, err, diskimage.ErrCorrupt, "an extent that starts elsewhere")
}

// lyingDisk answers with an extent that does not start where it was asked.
type lyingDisk struct{ mapDisk }

func (d lyingDisk) NextExtent(int64) (diskimage.Extent, error) { return d.extents[0], nil }

type closer struct {
	strings.Reader
	closed int
}

func (c *closer) Close() error { c.closed++; return nil }

func TestNewSource(t *testing.T) {
	s := diskimage.NewSource(strings.NewReader("hello"), 4)
	require.EqualValues(t, 4, s.Size())
	got, err := io.ReadAll(io.NewSectionReader(s, 0, s.Size()))
	require.NoError(t, err)
	require.Equal(t, "hell", string(got))
	require.NoError(t, s.(io.Closer).Close(), "of a reader that needs no closing")

	c := &closer{}
	require.NoError(t, diskimage.NewSource(c, 0).(io.Closer).Close())
	require.Equal(t, 1, c.closed)
}

type noter []diskimage.Note

func (n noter) Notes() []diskimage.Note { return n }

func TestNotes(t *testing.T) {
	require.Nil(t, diskimage.NotesOf(mapDisk{}))
	notes := diskimage.NotesOf(noter{{Format: "raw", Text: "padded"}, {Text: "plain"}})
	require.Equal(t, "raw: padded|plain", notes[0].String()+"|"+notes[1].String())
}

func TestBatchReset(t *testing.T) {
	b := &diskimage.Batch{Blocks: make([]diskimage.Block, 3), Buf: make([]byte, 8), Stored: make([]byte, 5), Plan: "kept"}
	b.Reset(2*diskimage.BatchSize, 4096)
	require.EqualValues(t, 2*diskimage.BatchSize, b.Off)
	require.EqualValues(t, 4096, b.Len)
	require.Empty(t, b.Blocks)
	require.Empty(t, b.Stored)
	require.Len(t, b.Buf, 8, "the memory stays")
	require.GreaterOrEqual(t, cap(b.Blocks), 3)
	require.Equal(t, "kept", b.Plan, "is the writer's")
}

// TestMemoryDisk holds that the disk which the examples offer to be copied
// keeps the laws.
func TestMemoryDisk(t *testing.T) {
	d := memoryDisk{size: 5*memoryBlock + 100, blocks: map[int64][]byte{
		0: bytes.Repeat([]byte{1}, memoryBlock),
		1: bytes.Repeat([]byte{2}, memoryBlock),
		5: bytes.Repeat([]byte{3}, memoryBlock),
	}}
	want := make([]byte, d.size)
	for n, block := range d.blocks {
		copy(want[n*memoryBlock:], block)
	}
	disktest.Conform(t, d, want)
}
