package vhd_test

import (
	"context"
	"errors"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/internal/disktest"
	"github.com/diskimage-go/diskimage/internal/imagetest"
	"github.com/diskimage-go/diskimage/vhd"
)

// TestHostileInput reads every row of the list of hostile input: what is
// refused, where, and with what words; that opening, walking, reading, CheckMap
// and Check agree; and that none of it takes memory or long.
func TestHostileInput(t *testing.T) {
	for _, c := range imagetest.VHDCases() {
		t.Run(c.ID+" "+c.Name, func(t *testing.T) {
			file := c.Build()
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			start := time.Now()
			verdict(t, c, imagetest.Source(file))
			if took := time.Since(start); !disktest.Race {
				require.Less(t, took, 2*time.Second)
			}
			runtime.ReadMemStats(&after)
			require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(16<<20))
		})
	}
}

func verdict(t *testing.T, c imagetest.Case, src diskimage.Source) {
	d, err := vhd.Open(t.Context(), src, vhd.Options{})
	check, checkErr := vhd.Check(t.Context(), src, vhd.CheckOptions{})
	if c.Kind != "" && c.Stage == imagetest.AtOpen {
		imagetest.RequireError(t, c, vhd.Name, err)
		if c.Kind != diskimage.ErrExternal { // the image itself can be checked
			imagetest.RequireError(t, c, vhd.Name, checkErr)
		}
		return
	}
	require.NoError(t, err)
	require.NoError(t, checkErr)
	defer func() {
		if c.Note == "" {
			require.Empty(t, d.Notes())
		} else {
			require.Len(t, d.Notes(), 1)
			require.Contains(t, d.Notes()[0].String(), c.Note)
		}
	}()
	require.Equal(t, c.Check == imagetest.Corrupt, check.Corruptions > 0, "%+v", check)
	switch {
	case c.Kind == "":
		require.NoError(t, d.CheckMap())
		require.NoError(t, disktest.TryWalk(d))
		got := make([]byte, d.Size())
		_, err := d.ReadAt(got, 0)
		require.NoError(t, err)
		disktest.Conform(t, d, got)
	case c.Stage == imagetest.AtRead:
		_, err = d.ReadAt(make([]byte, 512), c.Guest)
		imagetest.RequireError(t, c, vhd.Name, err)
		imagetest.RequireError(t, c, vhd.Name, disktest.TryWalk(d))
		if c.Field != "sector bitmap" { // the one thing that the table does not tell
			imagetest.RequireError(t, c, vhd.Name, d.CheckMap())
		}
	default:
		imagetest.RequireError(t, c, vhd.Name, d.CheckMap())
	}
}

// chain is an opener over images in memory.
type chain map[string]*imagetest.VHDImage

func (f chain) OpenDisk(ctx context.Context, ref diskimage.Reference) (diskimage.VirtualDisk, error) {
	m, ok := f[ref.Name]
	if !ok {
		return nil, diskimage.Refuse("", ref, "it is not there")
	}
	return vhd.Open(ctx, imagetest.Source(m.Bytes), vhd.Options{Opener: f, Depth: ref.Depth})
}

func (f chain) OpenSource(context.Context, diskimage.Reference) (diskimage.Source, error) {
	return nil, errors.New("a VHD has no extents")
}

// TestBitmaps holds that a clear bit means the parent, or zeros without one,
// whatever lies below it.
func TestBitmaps(t *testing.T) {
	const size = imagetest.VHDBaseBlock
	noise := imagetest.VHDBase()
	block := noise.Bytes[noise.Blocks[0]+512:][:size]
	bits := make([]byte, 4)
	bits[0], bits[1], bits[3] = 0b10100000, 0b00000001, 0b00000011
	set := func(sector int) bool { return bits[sector/8]<<(sector%8)&0x80 != 0 }
	top := imagetest.VHD{Size: 2 * size, BlockSize: size, Blocks: []imagetest.VHDBlock{{}, {Data: block, Bits: bits}}}
	want := make([]byte, 2*size)
	for s := range size / 512 {
		if set(s) {
			copy(want[size+512*s:], block[512*s:][:512])
		}
	}
	src := imagetest.Source(top.Build().Bytes)
	d, err := vhd.Open(t.Context(), src, vhd.Options{})
	require.NoError(t, err)
	disktest.Conform(t, d, want)
	res, err := vhd.Check(t.Context(), src, vhd.CheckOptions{})
	require.NoError(t, err)
	require.EqualValues(t, 1, res.Corruptions, "readers that ignore bitmaps see other data")

	base := imagetest.VHDBase()
	baseDisk, err := vhd.Open(t.Context(), imagetest.Source(base.Bytes), vhd.Options{})
	require.NoError(t, err)
	_, err = baseDisk.ReadAt(want, 0)
	require.NoError(t, err)
	for s := range size / 512 {
		if set(s) {
			copy(want[size+512*s:], block[512*s:][:512])
		}
	}
	top.Locators = []imagetest.VHDLocator{{Platform: "W2ku", Name: imagetest.UTF16(`C:\disks\base.vhd`)}}
	top.ParentID = [16]byte{1, 2, 3, 4}
	d, err = vhd.Open(t.Context(), imagetest.Source(top.Build().Bytes), vhd.Options{Opener: chain{"base.vhd": base}})
	require.NoError(t, err)
	disktest.Conform(t, d, want)
	require.NoError(t, d.CheckMap())

	top.ParentID[0]++
	for _, salvage := range []bool{false, true} {
		d, err = vhd.Open(t.Context(), imagetest.Source(top.Build().Bytes), vhd.Options{Opener: chain{"base.vhd": base}, Salvage: salvage})
		if !salvage {
			require.ErrorIs(t, err, diskimage.ErrCorrupt)
			require.ErrorContains(t, err, "02020304-0000-0000-0000-000000000000")
			continue
		}
		require.NoError(t, err)
		require.Contains(t, d.Notes()[0].Text, "parent unique id")
	}
}

// TestSalvage holds that around damage everything is read, and that damage is
// an error and no zeros.
func TestSalvage(t *testing.T) {
	m := imagetest.VHDBase()
	m.SetEntry(1, 1<<24)
	file := m.Bytes[:m.Footer] // and no footer
	d, err := vhd.Open(t.Context(), imagetest.Source(file), vhd.Options{Salvage: true})
	require.NoError(t, err)
	require.NoError(t, disktest.TryWalk(d))
	require.Len(t, d.Notes(), 2)
	p := make([]byte, imagetest.VHDBaseBlock)
	_, err = d.ReadAt(p, 2*imagetest.VHDBaseBlock)
	require.NoError(t, err)
	require.Equal(t, m.Bytes[m.Blocks[2]+512:][:imagetest.VHDBaseBlock], p)
	_, err = d.ReadAt(p, imagetest.VHDBaseBlock)
	require.ErrorIs(t, err, diskimage.ErrTruncated)
}
