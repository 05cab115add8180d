package vmdk_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/internal/disktest"
	"github.com/diskimage-go/diskimage/internal/imagetest"
	"github.com/diskimage-go/diskimage/internal/peer"
	"github.com/diskimage-go/diskimage/vmdk"
)

// files opens what images name from memory, and counts what is open.
type files struct {
	content map[string][]byte
	open    int
	asked   []diskimage.Reference
}

// A memFile is one that is open.
type memFile struct {
	diskimage.Source
	of *files
}

func (f memFile) Close() error { f.of.open--; return nil }

func (f *files) OpenSource(_ context.Context, ref diskimage.Reference) (diskimage.Source, error) {
	f.asked = append(f.asked, ref)
	b, ok := f.content[ref.Name]
	if !ok {
		return nil, &fs.PathError{Op: "open", Path: ref.Name, Err: fs.ErrNotExist}
	}
	f.open++
	return memFile{imagetest.Source(b), f}, nil
}

func (f *files) OpenDisk(ctx context.Context, ref diskimage.Reference) (diskimage.VirtualDisk, error) {
	src, err := f.OpenSource(ctx, ref)
	if err != nil {
		return nil, err
	}
	d, err := vmdk.Open(ctx, src, vmdk.Options{Name: ref.Name, Opener: f, Depth: ref.Depth})
	if err != nil {
		src.(io.Closer).Close()
		return nil, err
	}
	return d, nil
}

// set returns a descriptor of these extents.
func set(createType string, lines ...string) []byte {
	return []byte(imagetest.VMDKText{CreateType: createType, Extents: lines}.String())
}

// sparseFile returns a sparse extent of a set: 8 KiB of noise, a hole of 8 KiB
// and 8 KiB of noise.
func sparseFile(seed uint64) *imagetest.VMDKImage {
	return imagetest.VMDK{Grain: 16, Descriptor: "-", Grains: []imagetest.Grain{
		{Kind: imagetest.Plain, Data: noisy(8192, seed)}, {}, {Kind: imagetest.Plain, Data: noisy(8192, seed+1)},
	}}.Build()
}

// TestExtentsOfAllTypes reads a disk in which each extent is of another type
// and access. The reference drops all that are not RW, and ZERO, and shifts
// what follows.
func TestExtentsOfAllTypes(t *testing.T) {
	flat, vmfs, sparse := noisy(15*512, 1), noisy(7*512, 2), sparseFile(3)
	f := &files{content: map[string][]byte{"flat": flat, "vmfs": vmfs, "sparse": sparse.Bytes}}
	text := set("custom",
		`RW 5 FLAT "flat" 10`,
		`RW 3 ZERO`,
		`RDONLY 48 SPARSE "sparse"`,
		`rdonly 7 vmfs "vmfs"`,
		`NOACCESS 2 ZERO`,
		`RW 9 FLAT "flat" 0`)
	want := slices.Concat(flat[10*512:15*512], make([]byte, 3*512), sparse.Guest, vmfs, make([]byte, 2*512), flat[:9*512])
	d := openBytes(t, text, vmdk.Options{Name: "disk.vmdk", Opener: f, Depth: 3})
	require.NoError(t, d.CheckMap())
	require.NoError(t, d.Changed())
	require.Empty(t, d.Notes())
	disktest.ConformHost(t, d, want, func(depth, file int) io.ReaderAt {
		require.Zero(t, depth)
		return bytes.NewReader(f.content[d.FileName(file)])
	})
	require.Equal(t, diskimage.Reference{Name: "flat", Role: diskimage.RoleExtent, From: "disk.vmdk", Depth: 4}, f.asked[0])
	require.Equal(t, []string{"disk.vmdk", "flat", "sparse", "vmfs", "flat", ""},
		[]string{d.FileName(0), d.FileName(1), d.FileName(2), d.FileName(3), d.FileName(4), d.FileName(5)})

	all := disktest.Walk(t, d)
	require.Equal(t, diskimage.Extent{Len: 5 * 512, File: 1, Host: 10 * 512}, all[0])
	require.Equal(t, diskimage.Extent{Off: 5 * 512, Len: 3 * 512, Kind: diskimage.Zero, Host: -1}, all[1])
	require.Equal(t, 2, all[2].File)
	require.Equal(t, diskimage.Hole, all[3].Kind)

	info := d.Info()
	require.Len(t, info.Extents, 6)
	require.Equal(t, vmdk.ExtentInfo{Access: "RDONLY", Type: "SPARSE", Sectors: 48, FileName: "sparse", GrainSize: 8192}, info.Extents[2])
	require.Equal(t, vmdk.ExtentInfo{Access: "RW", Type: "FLAT", Sectors: 5, FileName: "flat", Offset: 10}, info.Extents[0])
	require.Equal(t, "custom", info.CreateType)
	require.False(t, info.Embedded)

	require.Equal(t, 4, f.open)
	require.NoError(t, d.Close())
	require.Zero(t, f.open)
}

func TestExtentTypesOfPeer(t *testing.T) {
	peer.Find(t, "qemu-img")
	dir := t.TempDir()
	part := noisy(1<<20, 4)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "flat"), part, 0o666))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "disk.vmdk"),
		set("twoGbMaxExtentFlat", `RW 1024 FLAT "flat" 0`, `RW 2048 ZERO`, `RW 1024 FLAT "flat" 1024`), 0o666))
	want := slices.Concat(part[:512<<10], make([]byte, 1<<20), part[512<<10:])
	disktest.Conform(t, open(t, filepath.Join(dir, "disk.vmdk")), want)

	raw := filepath.Join(dir, "raw")
	peer.Run(t, "qemu-img", "convert", "-f", "vmdk", "-O", "raw", filepath.Join(dir, "disk.vmdk"), raw)
	got, err := os.ReadFile(raw)
	require.NoError(t, err)
	require.Equal(t, part, got, "the reference reads extents of zeros: this test has lost its reason")
}

func TestExtentRules(t *testing.T) {
	sparse, packed := sparseFile(1).Bytes, exportedShape()
	packed.Descriptor = "-"
	self := set("monolithicFlat", `RW 1 FLAT "other" 0`)
	for _, c := range []struct {
		name  string
		text  []byte
		kind  diskimage.ErrorKind
		error string
	}{
		{"a part is missing", set("custom", `RW 5 FLAT "flat"`, `RW 48 SPARSE "gone"`), diskimage.ErrTruncated, `extent "gone": the file is missing`},
		{"a part is too short", set("custom", `RW 21 FLAT "flat"`), diskimage.ErrTruncated, `extent "flat": data at 0x2800`},
		{"an offset behind the end", set("custom", `RW 1 FLAT "flat" 21`), diskimage.ErrTruncated, `extent "flat": data at 0x2800`},
		{"a part larger than it should be", set("custom", `RW 47 SPARSE "sparse"`), diskimage.ErrCorrupt, `extent "sparse": header: capacity at 0xc: 48 sectors`},
		{"a part smaller than it should be", set("custom", `RW 64 SPARSE "sparse"`), diskimage.ErrCorrupt, `extent "sparse": header: capacity`},
		{"not what it should be", set("custom", `RW 20 SPARSE "flat"`), diskimage.ErrFormat, `extent "flat": header: magicNumber`},
		{"a damaged part", set("custom", `RW 48 SPARSE "text mode"`), diskimage.ErrCorrupt, "transferred in text mode"},
		{"not accessible", set("custom", `NOACCESS 5 FLAT "flat"`), diskimage.ErrUnsupported, "NOACCESS"},
		{"itself", self, diskimage.ErrCorrupt, "descriptor itself"},
		{"the same bytes", set("custom", `RW 5 FLAT "flat" 3`, `RW 5 FLAT "flat" 7`), diskimage.ErrCorrupt, `extents 1 and 2 are the same bytes of "flat"`},
		{"the same file", set("custom", `RW 48 SPARSE "sparse"`, `RW 1 ZERO`, `RW 48 SPARSE "sparse"`), diskimage.ErrCorrupt, `extents 1 and 3 are the same bytes of "sparse"`},
		{"a device", set("fullDevice", `RW 5 FLAT "/dev/sda" 0`), diskimage.ErrUnsupported, "fullDevice"},
		{"a mapping", set("vmfs", `RW 5 VMFSRDM "flat"`), diskimage.ErrUnsupported, "VMFSRDM"},
	} {
		t.Run(c.name, func(t *testing.T) {
			torn := bytes.Clone(sparse)
			torn[imagetest.VMDKNewlines+2] = '\n'
			f := &files{content: map[string][]byte{"flat": noisy(20*512, 1), "sparse": sparse, "text mode": torn, "other": self}}
			_, err := vmdk.Open(t.Context(), imagetest.Source(c.text), vmdk.Options{Opener: f})
			require.ErrorIs(t, err, c.kind)
			require.ErrorContains(t, err, c.error)
			require.Zero(t, f.open)
		})
	}
	t.Run("a set of compressed extents", func(t *testing.T) {
		m := packed.Build()
		f := &files{content: map[string][]byte{"a": m.Bytes, "b": bytes.Clone(m.Bytes)}}
		d := openBytes(t, set("custom", `RW 64 SPARSE "a"`, `RW 64 SPARSE "b"`), vmdk.Options{Opener: f})
		require.NoError(t, d.CheckMap())
		disktest.Conform(t, d, slices.Concat(m.Guest, m.Guest))
		require.True(t, d.Info().Extents[1].Compressed)
	})
}

// TestLongerFilesAreNoted has files with more in them than the descriptor shows.
func TestLongerFilesAreNoted(t *testing.T) {
	for _, c := range []struct {
		bytes int
		lines []string
		more  int
	}{
		{8 * 512, []string{`RW 8 FLAT "flat.vmdk" 0`}, 0},
		{8*512 + 511, []string{`RW 8 FLAT "flat.vmdk" 0`}, 0},
		{9 * 512, []string{`RW 8 FLAT "flat.vmdk" 0`}, 512},
		{9 * 512, []string{`RW 4 FLAT "flat.vmdk" 5`, `RW 5 FLAT "flat.vmdk" 0`}, 0},
		{9*512 + 1, []string{`RW 4 FLAT "flat.vmdk" 3`, `RW 3 FLAT "flat.vmdk" 0`}, 2*512 + 1},
	} {
		text := imagetest.VMDKText{CreateType: "custom", Extents: c.lines}.String()
		d := openBytes(t, []byte(text), vmdk.Options{Opener: &files{content: map[string][]byte{"flat.vmdk": make([]byte, c.bytes)}}})
		if c.more == 0 {
			require.Empty(t, d.Notes())
		} else {
			require.Equal(t, fmt.Sprintf("vmdk: extent \"flat.vmdk\": the file goes on for %d bytes behind what the descriptor shows of it\n", c.more), texts(d))
		}
	}
}

// TestExtentsAreNotOpened holds that nothing is opened without an opener, and
// what can be done without it.
func TestExtentsAreNotOpened(t *testing.T) {
	text := set("custom", `RW 5 FLAT "flat"`, `RW 2 ZERO`, `NOACCESS 48 SPARSE "sparse"`)
	_, err := vmdk.Open(t.Context(), imagetest.Source(text), vmdk.Options{})
	require.ErrorIs(t, err, diskimage.ErrExternal)
	require.ErrorContains(t, err, `"flat"`)

	d := openBytes(t, text, vmdk.Options{SkipExternal: true})
	require.EqualValues(t, 55*512, d.Size())
	require.Equal(t, "NOACCESS", d.Info().Extents[2].Access)
	_, err = d.NextExtent(0)
	require.ErrorIs(t, err, diskimage.ErrExternal)
	_, err = d.ReadAt(make([]byte, 1), 0)
	require.ErrorIs(t, err, diskimage.ErrExternal)
	require.ErrorIs(t, d.CheckMap(), diskimage.ErrExternal)
	p := []byte{1}
	_, err = d.ReadAt(p, 5*512)
	require.NoError(t, err)
	require.Zero(t, p[0])
	_, err = d.ReadStored(diskimage.Extent{Len: 512}, nil)
	require.Error(t, err)
}

// TestSalvageOfSets reads what there is of a set.
func TestSalvageOfSets(t *testing.T) {
	flat, sparse := noisy(5*512, 1), sparseFile(1)
	f := &files{content: map[string][]byte{"flat": flat, "sparse": sparse.Bytes}}
	text := set("custom", `RW 5 FLAT "gone"`, `RW 5 FLAT "flat"`, `NOACCESS 48 SPARSE "sparse"`)
	d := openBytes(t, text, vmdk.Options{Opener: f, Salvage: true})
	e, err := d.NextExtent(512)
	require.NoError(t, err)
	require.Equal(t, diskimage.Extent{Off: 512, Len: 4 * 512, File: 1, Host: -1}, e)
	_, err = d.ReadAt(make([]byte, 512), 512)
	require.ErrorIs(t, err, diskimage.ErrTruncated)
	p := make([]byte, 5*512)
	_, err = d.ReadAt(p, 5*512)
	require.NoError(t, err)
	require.Equal(t, flat, p)
	_, err = d.ReadAt(p, 10*512)
	require.ErrorIs(t, err, diskimage.ErrUnsupported)
	require.Contains(t, texts(d), `"gone"`)
	require.Contains(t, texts(d), "NOACCESS")
	require.NoError(t, d.Close())
	require.Zero(t, f.open)

	_, err = vmdk.Open(t.Context(), imagetest.Source(sparse.Bytes), vmdk.Options{})
	require.ErrorIs(t, err, diskimage.ErrUnsupported)
	require.ErrorContains(t, err, "open the descriptor that names it")
	d = openBytes(t, sparse.Bytes, vmdk.Options{Salvage: true})
	require.Contains(t, texts(d), "no descriptor")
	disktest.Conform(t, d, sparse.Guest)
	require.Empty(t, d.Info().CreateType)
}

func TestManyExtents(t *testing.T) {
	part := noisy(10_000*512, 3)
	var lines []string
	var want []byte
	for i := range 10_000 {
		if i%3 == 0 {
			lines = append(lines, "RW 1 ZERO")
			want = append(want, make([]byte, 512)...)
			continue
		}
		at := (i * 7) % 10_000
		lines = append(lines, fmt.Sprintf(`RW 1 FLAT "flat" %d`, at))
		want = append(want, part[at*512:][:512]...)
	}
	f := &files{content: map[string][]byte{"flat": part}}
	d := openBytes(t, set("custom", lines...), vmdk.Options{Opener: f})
	got := make([]byte, len(want))
	_, err := d.ReadAt(got, 0)
	require.NoError(t, err)
	require.True(t, bytes.Equal(want, got))
	disktest.Walk(t, d)
	require.NoError(t, d.Close())
	require.Zero(t, f.open)
}

// child returns an image that differs from the one of the CID parent: its own
// second grain, of three of 8 KiB.
func child(parentCID, hint string, grains int) *imagetest.VMDKImage {
	v := imagetest.VMDK{Grain: 16, Grains: make([]imagetest.Grain, grains)}
	v.Grains[1] = imagetest.Grain{Kind: imagetest.Plain, Data: noisy(8192, 77)}
	v.Text = imagetest.VMDKText{CID: "00000002", ParentCID: parentCID, ParentHint: hint}
	return v.Build()
}

func parentOf(grains int) *imagetest.VMDKImage {
	v := imagetest.VMDK{Dialect: imagetest.Exported, Grain: 16, Text: imagetest.VMDKText{CID: "0000abcd", CreateType: "streamOptimized"}}
	for i := range grains {
		v.Grains = append(v.Grains, imagetest.Grain{Kind: imagetest.Plain, Data: noisy(8100, uint64(i))})
	}
	return v.Build()
}

func TestParent(t *testing.T) {
	for _, grains := range []int{2, 3, 5} { // smaller than the child, as large, larger
		base, top := parentOf(grains), child("abcd", "base.vmdk", 3)
		want := make([]byte, 3*8192)
		copy(want, base.Guest)
		copy(want[8192:], top.Guest[8192:2*8192])
		f := &files{content: map[string][]byte{"base.vmdk": base.Bytes}}
		d := openBytes(t, top.Bytes, vmdk.Options{Name: "top.vmdk", Opener: f})
		require.Equal(t, []diskimage.Reference{{Name: "base.vmdk", Role: diskimage.RoleParent, Format: "vmdk", From: "top.vmdk", Depth: 1}}, f.asked)
		require.NoError(t, d.CheckMap())
		require.NoError(t, d.Changed())
		disktest.Conform(t, d, want)
		e, err := d.NextExtent(0)
		require.NoError(t, err)
		require.Equal(t, diskimage.Extent{Len: 8192, Stored: diskimage.Deflate, Depth: 1, Host: base.Data[0]}, e)
		stored, err := d.ReadStored(e, nil)
		require.NoError(t, err)
		require.True(t, stored.Exact && stored.Adler32)
		require.NotNil(t, d.Parent())
		require.EqualValues(t, 0xabcd, d.Info().ParentCID)
		require.NoError(t, d.Close())
		require.Zero(t, f.open)
	}
}

func TestParentRules(t *testing.T) {
	base := parentOf(3).Bytes
	for _, c := range []struct {
		name  string
		top   *imagetest.VMDKImage
		base  []byte
		kind  diskimage.ErrorKind
		error string
	}{
		{"another CID", child("abce", "base.vmdk", 3), base, diskimage.ErrCorrupt, `0000abce, but the parent "base.vmdk" has the CID 0000abcd`},
		{"no name", child("abcd", "", 3), base, diskimage.ErrExternal, "does not name it"},
		{"a name, but no CID", child("", "base.vmdk", 3), base, diskimage.ErrCorrupt, "parentCID says that there is no parent"},
		{"no VMDK", child("abcd", "base.vmdk", 3), []byte("rubbish"), diskimage.ErrFormat, `parent "base.vmdk"`},
		{"itself", child("2", "base.vmdk", 3), child("2", "base.vmdk", 3).Bytes, diskimage.ErrLimit, "128 are followed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := &files{content: map[string][]byte{"base.vmdk": c.base}}
			_, err := vmdk.Open(t.Context(), imagetest.Source(c.top.Bytes), vmdk.Options{Opener: f})
			require.ErrorIs(t, err, c.kind)
			require.ErrorContains(t, err, c.error)
			require.Zero(t, f.open)
		})
	}
	top := child("abcd", "base.vmdk", 3)
	_, err := vmdk.Open(t.Context(), imagetest.Source(top.Bytes), vmdk.Options{})
	require.ErrorIs(t, err, diskimage.ErrExternal)
	require.ErrorContains(t, err, `"base.vmdk"`)
	d := openBytes(t, top.Bytes, vmdk.Options{SkipExternal: true})
	require.Nil(t, d.Parent())
	_, err = d.NextExtent(0)
	require.ErrorIs(t, err, diskimage.ErrExternal)
	_, err = d.ReadAt(make([]byte, 8192), 8192)
	require.NoError(t, err)

	f := &files{content: map[string][]byte{"base.vmdk": base}}
	d = openBytes(t, child("abce", "base.vmdk", 3).Bytes, vmdk.Options{Opener: f, Salvage: true})
	require.Contains(t, texts(d), "another image, or was written to")
}

// TestDeltaOfPeer reads a chain that qemu-img makes, and one whose parent was
// written to since.
func TestDeltaOfPeer(t *testing.T) {
	peer.Find(t, "qemu-img")
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	disk := noisy(1<<20, 8)
	require.NoError(t, os.WriteFile(in("raw"), disk, 0o666))
	peer.Run(t, "qemu-img", "convert", "-f", "raw", "-O", "vmdk", in("raw"), in("base.vmdk"))
	peer.Run(t, "qemu-img", "create", "-q", "-f", "vmdk", "-b", "base.vmdk", "-F", "vmdk", in("middle.vmdk"))
	peer.Run(t, "qemu-img", "create", "-q", "-f", "vmdk", "-b", "middle.vmdk", "-F", "vmdk", in("top.vmdk"))
	peer.Run(t, "qemu-io", "-f", "vmdk", "-c", "write -P 7 128k 70k", in("top.vmdk"))
	for i := range 70 << 10 {
		disk[128<<10+i] = 7
	}
	d := open(t, in("top.vmdk"))
	require.NoError(t, d.CheckMap())
	disktest.Conform(t, d, disk)
	e, err := d.NextExtent(0)
	require.NoError(t, err)
	require.Equal(t, 2, e.Depth)

	peer.Run(t, "qemu-io", "-f", "vmdk", "-c", "write -P 8 0 64k", in("base.vmdk"))
	file, err := os.ReadFile(in("top.vmdk"))
	require.NoError(t, err)
	_, err = vmdk.Open(t.Context(), imagetest.Source(file), vmdk.Options{Opener: dirOpener(dir)})
	require.ErrorIs(t, err, diskimage.ErrCorrupt)
	require.ErrorContains(t, err, "has the CID")
}
