package convert

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/internal/imagetest"
	"github.com/diskimage-go/diskimage/vhd"
)

// sameBytes returns the one image that any number of workers make, in a file,
// in memory and through a pipe, with what was noted.
func sameBytes(t *testing.T, d diskimage.VirtualDisk, o Options) ([]byte, []diskimage.Note) {
	t.Helper()
	var first []byte
	var notes []diskimage.Note
	for _, workers := range []int{1, 2, 8} {
		o.Workers, o.Verify = workers, true
		name := filepath.Join(t.TempDir(), "disk.vhd")
		rep, err := ToFile(t.Context(), name, d, o)
		require.NoError(t, err)
		require.True(t, rep.Verified)
		got, err := os.ReadFile(name)
		require.NoError(t, err)
		if first == nil {
			first, notes = got, rep.Notes
		}
		require.True(t, bytes.Equal(first, got), "%d workers", workers)
		exact, err := MeasureExactly(t.Context(), d, o)
		require.NoError(t, err)
		require.EqualValues(t, len(first), exact)

		o.Verify = false
		var pipe bytes.Buffer
		_, err = ToWriter(t.Context(), &pipe, d, o)
		require.NoError(t, err)
		require.True(t, bytes.Equal(first, pipe.Bytes()), "a pipe, %d workers", workers)
		o.Verify = true
		var mem memOutput
		_, err = ToOutput(t.Context(), &mem, d, o)
		require.NoError(t, err)
		require.True(t, bytes.Equal(first, mem.data), "memory, %d workers", workers)
		require.False(t, mem.twice(), "a byte was written twice")
	}
	return first, notes
}

// A size that has to be padded is, with a note, and the rest reads as zeros.
func TestPaddedVHD(t *testing.T) {
	d := patchworkDisk(61, 5<<20+1000)
	for name, c := range map[string]struct {
		o    vhd.WriterOptions
		size int64
	}{
		"geometric":       {vhd.WriterOptions{Geometric: true}, 5257216},
		"fixed geometric": {vhd.WriterOptions{Type: vhd.Fixed, Geometric: true}, 5257216},
		"azure":           {vhd.WriterOptions{Azure: true}, 6 << 20},
		"sectors":         {vhd.WriterOptions{}, 5<<20 + 1024},
	} {
		t.Run(name, func(t *testing.T) {
			image, notes := sameBytes(t, d, Options{Format: VHD, VHD: c.o})
			require.Len(t, notes, 1)
			require.Contains(t, notes[0].Text, fmt.Sprintf("padded with zeros to %d", c.size))
			disk, err := Open(t.Context(), imagetest.Source(image), OpenOptions{})
			require.NoError(t, err)
			require.Equal(t, c.size, disk.Size())
			got := make([]byte, c.size)
			_, err = disk.ReadAt(got, 0)
			require.NoError(t, err)
			require.True(t, bytes.Equal(append(slices.Clone(d.content), make([]byte, c.size-d.Size())...), got))
		})
	}
}

// The top of a chain becomes a differencing disk, which shows the whole disk
// with the parent that it was given.
func TestDifferencingVHD(t *testing.T) {
	dir := t.TempDir()
	base := patchworkDisk(62, 9<<20)
	_, err := ToFile(t.Context(), filepath.Join(dir, "base.vhd"), base, Options{Format: VHD})
	require.NoError(t, err)
	parent, err := OpenFile(t.Context(), filepath.Join(dir, "base.vhd"), OpenOptions{})
	require.NoError(t, err)
	id := parent.(*vhd.Disk).UniqueID()
	require.NoError(t, parent.Close())

	top := &memDisk{content: bytes.Clone(base.content), badFrom: -1, badTo: -1}
	for off := int64(0); off < base.Size(); off += 192 << 10 {
		n := min(64<<10, base.Size()-off)
		e := diskimage.Extent{Off: off, Len: n, Host: -1}
		switch off / (192 << 10) % 3 {
		case 0:
			copy(top.content[off:off+n], bytes.Repeat([]byte("above"), 64<<10))
		case 1:
			clear(top.content[off : off+n])
			e.Kind = diskimage.Zero
		case 2: // zeros as data, which hide the parent's too
			clear(top.content[off : off+n])
		}
		top.extents = append(top.extents, e)
		if rest := min(128<<10, base.Size()-off-n); rest > 0 {
			top.extents = append(top.extents, diskimage.Extent{Off: off + n, Len: rest, Host: -1, Depth: 1})
		}
	}
	for _, block := range []int64{0, 64 << 10} {
		o := Options{Format: VHD, OnlyTop: true, VHD: vhd.WriterOptions{Type: vhd.Differencing, BlockSize: block, Parent: &vhd.Parent{Name: "base.vhd", ID: id}}}
		image, notes := sameBytes(t, top, o)
		require.Empty(t, notes)
		require.Equal(t, string(top.content), string(guestOfVHD(t, dir, image)))
	}
}

func guestOfVHD(t *testing.T, dir string, image []byte) []byte {
	t.Helper()
	d, err := OpenFile(t.Context(), put(t, image, dir, "top.vhd"), OpenOptions{Opener: dirOpener(t, dir)})
	require.NoError(t, err)
	defer d.Close()
	got := make([]byte, d.Size())
	_, err = d.ReadAt(got, 0)
	require.NoError(t, err)
	return got
}

// child returns an image of the base's size that differs in nothing from a
// parent of this name.
func child(id, parentID byte, platform, name string) []byte {
	text := imagetest.UTF16(name)
	if platform == "MacX" {
		text = []byte(name)
	}
	return imagetest.VHD{
		Size: 4 * imagetest.VHDBaseBlock, BlockSize: imagetest.VHDBaseBlock, ID: [16]byte{id}, ParentID: [16]byte{parentID},
		Locators: []imagetest.VHDLocator{{Platform: platform, Name: text}},
	}.Build().Bytes
}

// A parent is found by any of its names, beside the image or inside the folder,
// and by no other way.
func TestParentsOfVHD(t *testing.T) {
	ctx, outside := context.Background(), t.TempDir()
	dir := filepath.Join(outside, "dir")
	base := imagetest.VHDBase()
	base.SetFooter(func(p []byte) {
		p[imagetest.VHDUniqueID], p[imagetest.VHDUniqueID+1], p[imagetest.VHDUniqueID+2], p[imagetest.VHDUniqueID+3] = 1, 0, 0, 0
	})
	first := base.Bytes[base.Blocks[0]+512]
	put(t, base.Bytes, dir, "base.vhd")
	put(t, base.Bytes, dir, "sub", "inner.vhd")
	put(t, base.Bytes, outside, "secret.vhd")
	put(t, child(7, 1, "W2ru", `.\base.vhd`), dir, "middle.vhd")
	put(t, child(8, 1, "W2ru", `.\missing.vhd`), dir, "orphan.vhd")
	put(t, bytes.Repeat([]byte("raw"), 4096), dir, "disk.raw")
	put(t, child(2, 3, "W2ru", `.\b.vhd`), dir, "a.vhd")
	put(t, child(3, 2, "W2ru", `.\a.vhd`), dir, "b.vhd")
	for name, tc := range map[string]struct {
		platform, name string
		id             byte
		kind           error // nil: it is found
		text           string
	}{
		"relative":               {"W2ru", `.\base.vhd`, 1, nil, ""},
		"relative, bare":         {"W2ru", `base.vhd`, 1, nil, ""},
		"in a folder":            {"W2ru", `.\sub\inner.vhd`, 1, nil, ""},
		"absolute, beside":       {"W2ku", `C:\Users\somebody\base.vhd`, 1, nil, ""},
		"share, beside":          {"W2ku", `\\server\share\base.vhd`, 1, nil, ""},
		"absolute, inside":       {"W2ku", filepath.Join(dir, "sub", "inner.vhd"), 1, nil, ""},
		"URL, beside":            {"MacX", "file:///Volumes/disks/base.vhd", 1, nil, ""},
		"URL, relative":          {"MacX", "file://./sub/inner.vhd", 1, nil, ""},
		"chain":                  {"W2ru", `.\middle.vhd`, 7, nil, ""},
		"missing":                {"W2ru", `.\missing.vhd`, 1, os.ErrNotExist, `"missing.vhd"`},
		"missing, absolute":      {"W2ku", `D:\a\missing.vhd`, 1, os.ErrNotExist, `"missing.vhd"`},
		"missing further down":   {"W2ru", `.\orphan.vhd`, 8, os.ErrNotExist, `"missing.vhd"`},
		"outside":                {"W2ru", `..\secret.vhd`, 1, diskimage.ErrExternal, "is not inside"},
		"outside, absolute":      {"W2ku", filepath.Join(outside, "secret.vhd"), 1, os.ErrNotExist, `"secret.vhd"`},
		"no VHD":                 {"W2ru", `.\disk.raw`, 1, diskimage.ErrFormat, `"disk.raw"`},
		"another disk":           {"W2ru", `.\base.vhd`, 9, diskimage.ErrCorrupt, "parent unique id"},
		"circle":                 {"W2ru", `.\a.vhd`, 2, diskimage.ErrCorrupt, "in a circle"},
		"itself":                 {"W2ru", `.\top.vhd`, 5, diskimage.ErrCorrupt, "in a circle"},
		"what is called a drive": {"W2ru", `nbd:\\host\disk`, 1, diskimage.ErrExternal, "only file names"},
	} {
		t.Run(name, func(t *testing.T) {
			image := put(t, child(5, tc.id, tc.platform, tc.name), dir, "top.vhd")
			d, err := OpenFile(ctx, image, OpenOptions{Opener: dirOpener(t, dir)})
			if tc.kind != nil {
				require.ErrorIs(t, err, tc.kind)
				require.ErrorContains(t, err, tc.text)
				return
			}
			require.NoError(t, err)
			require.Equal(t, VHD, FormatOf(d))
			require.Equal(t, first, firstByte(t, d))
		})
	}
}

// The right file is found though an other one has the name that is tried first.
func TestParentOfVHDBehindAnother(t *testing.T) {
	dir := t.TempDir()
	put(t, child(9, 1, "W2ru", "x"), dir, "base.vhd")
	base := imagetest.VHDBase()
	put(t, base.Bytes, dir, "old", "base.vhd")
	top := imagetest.VHD{
		Size: 4 * imagetest.VHDBaseBlock, BlockSize: imagetest.VHDBaseBlock, ParentID: [16]byte{1, 2, 3, 4},
		Locators: []imagetest.VHDLocator{{Platform: "W2ku", Name: imagetest.UTF16(filepath.Join(dir, "old", "base.vhd"))}, {Platform: "W2ru", Name: imagetest.UTF16(`.\base.vhd`)}},
	}.Build()
	got := guestOfVHD(t, dir, top.Bytes)
	require.Equal(t, base.Bytes[base.Blocks[0]+512:][:imagetest.VHDBaseBlock], got[:imagetest.VHDBaseBlock])
}

// What of a damaged image can be read is; the rest is zeros, and reported.
func TestSalvagedVHD(t *testing.T) {
	m := imagetest.VHDBase()
	m.SetEntry(1, 1<<24)
	name := put(t, m.Bytes[:m.Footer], t.TempDir(), "disk.vhd")
	_, err := OpenFile(t.Context(), name, OpenOptions{})
	require.ErrorIs(t, err, diskimage.ErrTruncated)
	d, err := OpenFile(t.Context(), name, OpenOptions{Salvage: true})
	require.NoError(t, err)
	defer d.Close()
	var out memOutput
	_, err = ToOutput(t.Context(), &out, d, Options{})
	require.ErrorIs(t, err, diskimage.ErrTruncated)
	rep, err := ToOutput(t.Context(), &out, d, Options{Salvage: true})
	require.NoError(t, err)
	const n = imagetest.VHDBaseBlock
	require.Equal(t, []Range{{n, n}}, rep.Unreadable)
	want := make([]byte, 4*n)
	copy(want, m.Bytes[m.Blocks[0]+512:][:n])
	copy(want[2*n:], m.Bytes[m.Blocks[2]+512:][:n])
	require.True(t, bytes.Equal(want, out.data))
	require.Len(t, rep.Notes, 2)
}

// An untouched is an Output that nobody may write to.
type untouched struct{ t *testing.T }

func (o untouched) WriteAt(p []byte, off int64) (int, error) {
	o.t.Errorf("%d bytes are written at %d", len(p), off)
	return len(p), nil
}

// TestCutVHDWritesNothing holds that images that were cut, at any sector, are
// refused before anything is written.
func TestCutVHDWritesNothing(t *testing.T) {
	for _, file := range [][]byte{imagetest.VHDBase().Bytes, imagetest.VHD{Size: 8192, Fixed: bytes.Repeat([]byte{7}, 8192)}.Build().Bytes} {
		for n := 0; n < len(file); n += 512 {
			d, err := Open(t.Context(), source(file[:n]), OpenOptions{Format: VHD})
			if err == nil {
				_, err = ToOutput(t.Context(), untouched{t}, d, Options{Format: Raw})
			}
			require.Error(t, err, "cut to %d", n)
		}
		// And with the footer, if what was cut off lies before it.
		short := slices.Concat(file[:len(file)-4096-512], file[len(file)-512:])
		d, err := Open(t.Context(), source(short), OpenOptions{})
		if err == nil {
			_, err = ToOutput(t.Context(), untouched{t}, d, Options{Format: Raw})
		}
		require.ErrorIs(t, err, diskimage.ErrTruncated)
	}
}
