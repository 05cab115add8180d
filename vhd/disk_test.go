package vhd

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/internal/disktest"
	"github.com/diskimage-go/diskimage/internal/peer"
)

// TestProductImages holds that the images that products made show the content
// that they are known to have.
func TestProductImages(t *testing.T) {
	dir := os.Getenv("DISKIMAGE_SAMPLES")
	if dir == "" {
		t.Skip("DISKIMAGE_SAMPLES does not say where the images are")
	}
	load := func(name string) []byte {
		file, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err)
		return file
	}
	opener := files{"ntfs-parent.vhd": load("ntfs-parent.vhd")}
	for _, c := range []struct {
		name, content string
		kind          DiskType
		creator       string
	}{
		{"ntfs-fixed.vhd", "cd81fade3878f1b2957f1ece168201876bdf4e90c9b30f60c2f232eba5fea76c", Fixed, "win "},
		{"ntfs-dynamic.vhd", "8b10b52e3d1e76075d05a5101a6536b9fa8376a5b8f7c22f502d0987d165c876", Dynamic, "win "},
		{"ntfs-parent.vhd", "c91d1766dd4b3327f33a082cbf958d3566dd84a3d71c2473a5ae6155e53171de", Fixed, "win "},
		{"ntfs-differential.vhd", "b7922a46a6b08fa4f4fc0c51a25d5587d1d49f15cfade45ca740dd07110ae144", Differencing, "win "},
	} {
		t.Run(c.name, func(t *testing.T) {
			file := load(c.name)
			d := open(t, file, Options{Opener: opener})
			require.EqualValues(t, 4194304, d.Size())
			guest := make([]byte, d.Size())
			_, err := d.ReadAt(guest, 0)
			require.NoError(t, err)
			sum := sha256.Sum256(guest)
			require.Equal(t, c.content, hex.EncodeToString(sum[:]))
			disktest.Conform(t, d, guest)
			require.NoError(t, d.CheckMap())
			require.Empty(t, d.Notes())
			require.Equal(t, c.kind, d.Info().Type)
			require.Equal(t, c.creator, d.Info().Creator)
			res, err := Check(context.Background(), source(file), CheckOptions{Opener: opener})
			require.NoError(t, err)
			require.Zero(t, res.Corruptions+res.CheckErrors+res.Leaks, "%+v", res)
		})
	}
	d := open(t, load("virtualpc-dynamic.vhd"), Options{})
	require.EqualValues(t, int64(136365211648), d.Size(), "the larger of current size and geometry")
	require.Len(t, d.Notes(), 1)
	require.Contains(t, d.Notes()[0].Text, "136363130880")
	e, err := d.NextExtent(0)
	require.NoError(t, err)
	require.Equal(t, diskimage.Extent{Len: d.Size(), Kind: diskimage.Hole, Depth: 1, Host: -1}, e)
	d = open(t, load("virtualpc-dynamic.vhd"), Options{SizeRule: SizeGeometry})
	require.EqualValues(t, int64(136363130880), d.Size())
	require.Equal(t, SizeGeometry, d.Info().SizeRule)

	file := load("afl5.img")
	_, err = Open(context.Background(), source(file), Options{})
	require.Error(t, err, "1,073,741,825 table entries")
}

// TestImagesOfPeer holds that what qemu-img writes, with its sizes kept or
// padded, is read as qemu-img reads it.
func TestImagesOfPeer(t *testing.T) {
	peer.Find(t, "qemu-img")
	guest := patchwork(11, 7<<20+512)
	flat := save(t, "disk.raw", guest)
	for _, o := range []string{"", "force_size", "subformat=fixed", "subformat=fixed,force_size"} {
		t.Run(o, func(t *testing.T) {
			name := filepath.Join(t.TempDir(), "disk.vhd")
			args := []string{"convert", "-O", "vpc", flat, name}
			if o != "" {
				args = append(args, "-o", o)
			}
			peer.Run(t, "qemu-img", args...)
			file, err := os.ReadFile(name)
			require.NoError(t, err)
			d := open(t, file, Options{})
			size := int64(len(guest))
			if !strings.Contains(o, "force_size") {
				size = d.Info().Geometry.Size()
				require.Greater(t, size, int64(len(guest)))
			}
			require.Equal(t, size, d.Size())
			disktest.Conform(t, d, append(bytes.Clone(guest), make([]byte, size-int64(len(guest)))...))
			require.NoError(t, d.CheckMap())
			require.Empty(t, d.Notes())
			res, err := Check(context.Background(), source(file), CheckOptions{})
			require.NoError(t, err)
			require.Zero(t, res.Corruptions+res.CheckErrors, "%+v", res)
		})
	}
}

// TestSizeRules holds who goes by the geometry, and that nobody's disk is cut.
func TestSizeRules(t *testing.T) {
	const current, chs = 8 << 20, 120 * 4 * 17 * 512
	for _, c := range []struct {
		creator  string
		geometry Geometry
		size     int64
		rule     SizeRule
		want     int64
		note     bool
	}{
		{"vpc ", Geometry{120, 4, 17}, 4 << 20, SizeAuto, 4 << 20, true}, // the geometry is smaller
		{"vpc ", Geometry{120, 4, 17}, 3 << 20, SizeAuto, chs, true},
		{"qemu", Geometry{120, 4, 17}, 3 << 20, SizeAuto, chs, true},
		{"vpc ", Geometry{65535, 16, 255}, current, SizeAuto, current, false}, // no geometry at all
		{"vpc ", Geometry{1000, 16, 63}, current, SizeAuto, current, true},    // no room for it
		{"win ", Geometry{120, 4, 17}, current, SizeAuto, current, false},
		{"d2v ", Geometry{120, 4, 17}, current, SizeAuto, current, false},
		{"vbox", Geometry{120, 4, 17}, current, SizeAuto, current, false},
		{"vs  ", Geometry{120, 4, 17}, current, SizeAuto, current, false},
		{"tap\x00", Geometry{120, 4, 17}, current, SizeAuto, current, false},
		{"CTXS", Geometry{120, 4, 17}, current, SizeAuto, current, false},
		{"wa\x00\x00", Geometry{120, 4, 17}, current, SizeAuto, current, false},
		{"qem2", Geometry{120, 4, 17}, current, SizeAuto, current, false},
		{"vpc ", Geometry{120, 4, 17}, 3 << 20, SizeCurrent, 3 << 20, false},
		{"win ", Geometry{120, 4, 17}, current, SizeGeometry, chs, true}, // cut
		{"win ", Geometry{120, 4, 17}, 3 << 20, SizeGeometry, chs, false},
		{"d2v ", Geometry{65535, 16, 255}, current, SizeGeometry, current, true}, // it tells nothing
	} {
		r := &recorder{zeros: true}
		w, err := NewWriter(r, WriterOptions{Size: current})
		require.NoError(t, err)
		copy(w.footer.creator[:], c.creator)
		w.footer.geometry, w.footer.currentSize = c.geometry, uint64(c.size)
		require.NoError(t, w.Finish(context.Background()))
		d := open(t, r.bytes, Options{SizeRule: c.rule})
		require.Equal(t, c.want, d.Size(), "%+v", c)
		require.Equal(t, c.note, len(d.Notes()) == 1, "%+v: %v", c, d.Notes())
	}
	_, err := Open(context.Background(), source(write(t, WriterOptions{Size: 1 << 20}, nil)), Options{SizeRule: 3})
	require.Error(t, err)
	for _, r := range []SizeRule{SizeAuto, SizeCurrent, SizeGeometry} {
		got, err := ParseSizeRule(r.String())
		require.NoError(t, err)
		require.Equal(t, r, got)
	}
	_, err = ParseSizeRule("larger")
	require.ErrorIs(t, err, diskimage.ErrUnsupported)
}

// TestCandidates holds what files are tried for a parent's names.
func TestCandidates(t *testing.T) {
	for _, c := range []struct {
		names []ParentName
		want  []string
	}{
		{nil, nil},
		{[]ParentName{{"W2ru", `.\base.vhd`}}, []string{"base.vhd"}},
		{[]ParentName{{"W2ru", `base.vhd`}, {"", `base.vhd`}}, []string{"base.vhd"}},
		{[]ParentName{{"W2ru", `..\images\base.vhd`}}, []string{"../images/base.vhd"}},
		{[]ParentName{{"W2ku", `C:\images\base.vhd`}, {"W2ru", `.\other.vhd`}}, []string{"other.vhd", "base.vhd", "C:/images/base.vhd"}},
		{[]ParentName{{"W2ku", `C:base.vhd`}}, []string{"base.vhd", "C:base.vhd"}},
		{[]ParentName{{"W2ku", `\disks\base.vhd`}}, []string{"base.vhd", "/disks/base.vhd"}},
		{[]ParentName{{"W2ku", `\\server\share\base.vhd`}}, []string{"base.vhd"}},
		{[]ParentName{{"MacX", `file://./base.vhd`}}, []string{"base.vhd"}},
		{[]ParentName{{"MacX", `file://../a%zz/base.vhd`}}, []string{"../a%zz/base.vhd"}},
		{[]ParentName{{"MacX", `file:///Volumes/d/b%20c.vhd`}}, []string{"b c.vhd", "/Volumes/d/b c.vhd"}},
		{[]ParentName{{"MacX", `file://localhost/d/base.vhd`}}, []string{"base.vhd", "/d/base.vhd"}},
		{[]ParentName{{"MacX", `http://host/base.vhd`}}, nil},
		{[]ParentName{{"MacX", `file://host/base.vhd`}}, nil},
		{[]ParentName{{"", ``}, {"W2ku", `C:\`}}, nil},
	} {
		require.Equal(t, c.want, candidates(c.names), "%v", c.names)
	}
}

// TestLocators holds how a parent's names are decoded, and that a damaged one
// leaves the others.
func TestLocators(t *testing.T) {
	little, big := encodeUTF16("é😀.vhd", binary.LittleEndian), encodeUTF16("x.vhd", binary.BigEndian)
	file := make([]byte, 4096)
	copy(file[1024:], little)
	copy(file[2048:], big)
	copy(file[3072:], "file:///b.vhd\x00\x00")
	h := &header{parentName: make([]byte, parentNameLen)}
	copy(h.parentName, encodeUTF16("name.vhd", binary.BigEndian))
	h.locators = [locators]locator{
		{platformW2ku, 1, uint32(len(big)), 2048},
		{platformW2ru, 512, uint32(len(little)), 1024}, // a space in bytes, as some have it
		{platformMacX, 1, 15, 3072},
		{platformW2ru, 1, 4096, 1024}, // beyond the end
		{platformW2ku, 1, 0, 1024},
		{platformMac, 1, 10, 1024},
		{0x41424344, 1, 10, 1024},
	}
	f := &footers{footer: &footer{}, end: int64(len(file))}
	require.Equal(t, []ParentName{{"W2ru", "é😀.vhd"}, {"MacX", "file:///b.vhd"}, {"W2ku", "x.vhd"}, {"", "name.vhd"}}, h.readParentNames(source(file), f))
	require.Len(t, f.notes, 4)
	for name, want := range map[string]struct {
		platform uint32
		path     string
	}{
		"base.vhd":        {platformW2ru, `.\base.vhd`},
		"./base.vhd":      {platformW2ru, `.\base.vhd`},
		"../a/base.vhd":   {platformW2ru, `..\a\base.vhd`},
		"/disks/base.vhd": {platformW2ku, `\disks\base.vhd`},
		`C:\base.vhd`:     {platformW2ku, `C:\base.vhd`},
	} {
		platform, path := windowsName(name)
		require.Equal(t, want.platform, platform, name)
		require.Equal(t, want.path, path, name)
	}
}

// TestParentTime holds that a parent that was written to since is noted.
func TestParentTime(t *testing.T) {
	base := write(t, WriterOptions{Size: 1 << 20}, nil)
	when := time.Date(2020, 5, 6, 7, 8, 9, 0, time.UTC)
	top := write(t, WriterOptions{Type: Differencing, Size: 1 << 20, Parent: &Parent{Name: "base.vhd", ID: open(t, base, Options{}).f.uniqueID, Time: when}}, nil)
	for _, c := range []struct {
		found time.Time
		notes int
	}{{when, 0}, {when.Add(2 * time.Second), 0}, {when.Add(time.Minute), 1}} {
		d := open(t, top, Options{Opener: dated{base, c.found}})
		require.Len(t, d.Notes(), c.notes)
		require.Equal(t, when, d.Info().ParentTime)
	}
}

// dated is an opener of one image in a file of a known time.
type dated struct {
	file []byte
	time time.Time
}

type datedSource struct {
	diskimage.Source
	time time.Time
}

func (s datedSource) ModTime() time.Time { return s.time }

func (d dated) OpenDisk(ctx context.Context, _ diskimage.Reference) (diskimage.VirtualDisk, error) {
	return Open(ctx, datedSource{source(d.file), d.time}, Options{})
}

func (d dated) OpenSource(context.Context, diskimage.Reference) (diskimage.Source, error) {
	return nil, io.EOF
}

// TestBitmapRuns holds the runs of a bitmap against its bits.
func TestBitmapRuns(t *testing.T) {
	for _, bits := range [][]byte{{0}, {0xff}, {0xa5, 0x00, 0xff, 0x01}, {0x80}, {0x01, 0x80}, {0xff, 0xff, 0xfe},
		bytes.Repeat([]byte{0xff}, 20), append(make([]byte, 15), 1, 0xff), append(bytes.Repeat([]byte{0xff}, 8), 0x7f)} {
		b := &bitmap{sectors: int64(len(bits)) * 8, bits: append(bits, make([]byte, -len(bits)&7)...)}
		at := func(i int64) bool { return bits[i/8]<<(i%8)&0x80 != 0 }
		for i := int64(0); i < b.sectors; i++ {
			n := int64(1)
			for i+n < b.sectors && at(i+n) == at(i) {
				n++
			}
			set, got := b.run(i)
			require.Equal(t, at(i), set, "%x %d", bits, i)
			require.Equal(t, n, got, "%x %d", bits, i)
		}
	}
}

// TestChainOfManyIsRefused holds that a chain ends somewhere.
func TestChainOfManyIsRefused(t *testing.T) {
	chain := files{}
	var id [16]byte
	for i := diskimage.MaxDepth + 2; i >= 0; i-- {
		o := WriterOptions{Size: 1 << 20, UniqueID: [16]byte{1, byte(i), byte(i >> 8)}}
		if i < diskimage.MaxDepth+2 {
			o.Type, o.Parent = Differencing, &Parent{Name: strconv.Itoa(i + 1), ID: id}
		}
		chain[strconv.Itoa(i)] = write(t, o, nil)
		id = o.UniqueID
	}
	_, err := Open(context.Background(), source(chain["0"]), Options{Opener: chain})
	require.ErrorIs(t, err, diskimage.ErrLimit)
	d := open(t, chain["2"], Options{Opener: chain})
	e, err := d.NextExtent(0)
	require.NoError(t, err)
	require.Equal(t, diskimage.MaxDepth+1, e.Depth)
}
