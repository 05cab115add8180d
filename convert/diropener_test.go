package convert

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/diskimage-go/diskimage"
	"github.com/stretchr/testify/require"
)

func dirOpener(t *testing.T, dir string) *DirOpener {
	t.Helper()
	d, err := NewDirOpener(dir)
	require.NoError(t, err)
	t.Cleanup(func() { d.Close() })
	return d
}

// openers are the two kinds, for what they have in common.
func openers(t *testing.T, dir string) map[string]*DirOpener {
	return map[string]*DirOpener{"dir": dirOpener(t, dir), "any": AnyOpener()}
}

func TestOpenerFollows(t *testing.T) {
	ctx, dir := context.Background(), t.TempDir()
	base := put(t, layer{fill: 'b'}.bytes(), dir, "base.qcow2")
	put(t, layer{fill: 's'}.bytes(), dir, "sub", "base.qcow2")
	put(t, file(65536, 0, "raw disk\x01"), dir, "base.raw")
	put(t, layer{backing: "base.qcow2", format: "qcow2"}.bytes(), dir, "sub", "middle.qcow2")
	put(t, layer{backing: "../base.qcow2", format: "qcow2"}.bytes(), dir, "sub", "up.qcow2")
	put(t, file(65536, 0, "data file\x01"), dir, "data")
	require.NoError(t, os.Symlink("base.qcow2", filepath.Join(dir, "link")))
	require.NoError(t, os.Symlink("sub", filepath.Join(dir, "sublink")))
	for name, tc := range map[string]struct {
		layer
		want byte
	}{
		"relative":                {layer{backing: "base.qcow2", format: "qcow2"}, 'b'},
		"dot":                     {layer{backing: "./base.qcow2", format: "qcow2"}, 'b'},
		"file:":                   {layer{backing: "file:base.qcow2", format: "qcow2"}, 'b'},
		"in a folder":             {layer{backing: "sub/base.qcow2", format: "qcow2"}, 's'},
		"absolute":                {layer{backing: base, format: "qcow2"}, 'b'},
		"down and up":             {layer{backing: "sub/../base.qcow2", format: "qcow2"}, 'b'},
		"link":                    {layer{backing: "link", format: "qcow2"}, 'b'},
		"linked folder":           {layer{backing: "sublink/base.qcow2", format: "qcow2"}, 's'},
		"beside the middle":       {layer{backing: "sub/middle.qcow2", format: "qcow2"}, 's'},
		"above the middle":        {layer{backing: "sub/up.qcow2", format: "qcow2"}, 'b'},
		"above the linked middle": {layer{backing: "sublink/up.qcow2", format: "qcow2"}, 'b'},
		"raw, declared":           {layer{backing: "base.raw", format: "raw"}, 'r'},
		"raw, undeclared":         {layer{backing: "base.raw"}, 'r'},
		"qcow2, undeclared":       {layer{backing: "base.qcow2"}, 'b'},
		"data file":               {layer{dataFile: "data", fill: 'd'}, 'd'},
	} {
		top := put(t, tc.bytes(), dir, "top.qcow2")
		for kind, opener := range openers(t, dir) {
			t.Run(name+"/"+kind, func(t *testing.T) {
				d, err := OpenFile(ctx, top, OpenOptions{Opener: opener})
				require.NoError(t, err)
				require.Equal(t, tc.want, firstByte(t, d))

				// The same without the file's identity, and the name alone.
				f, err := os.Open(top)
				require.NoError(t, err)
				defer f.Close()
				d, err = Open(ctx, diskimage.NewSource(f, int64(len(tc.bytes()))), OpenOptions{Opener: opener, Name: top})
				require.NoError(t, err)
				require.Equal(t, tc.want, firstByte(t, d))
			})
		}
	}
}

// A folder may be called by a symbolic link, by whoever opens it, the image, or
// whoever made the image.
func TestOpenerKnowsItsFolderByLink(t *testing.T) {
	ctx, dir := context.Background(), t.TempDir()
	plain, link := filepath.Join(dir, "plain"), filepath.Join(dir, "link")
	put(t, layer{fill: 'b'}.bytes(), plain, "base")
	require.NoError(t, os.Symlink("plain", link))
	for _, folder := range []string{plain, link} {
		for _, backing := range []string{"base", filepath.Join(plain, "base"), filepath.Join(link, "base")} {
			if folder == plain && backing == filepath.Join(link, "base") {
				continue // a name from outside: it leads inside, but only by a link that is outside
			}
			put(t, layer{backing: backing, format: "qcow2"}.bytes(), plain, "top")
			for _, top := range []string{filepath.Join(plain, "top"), filepath.Join(link, "top")} {
				d, err := OpenFile(ctx, top, OpenOptions{Opener: dirOpener(t, folder)})
				require.NoError(t, err, "%s names %s, opener of %s", top, backing, folder)
				require.EqualValues(t, 'b', firstByte(t, d))
			}
		}
	}
}

// The image itself may lie outside, its backing files inside.
func TestOpenerOfAnotherFolder(t *testing.T) {
	ctx, dir := context.Background(), t.TempDir()
	put(t, layer{fill: 'b'}.bytes(), dir, "pool", "base")
	put(t, layer{fill: 'c'}.bytes(), dir, "base")
	opener := dirOpener(t, filepath.Join(dir, "pool"))

	top := put(t, layer{backing: "pool/base", format: "qcow2"}.bytes(), dir, "top")
	d, err := OpenFile(ctx, top, OpenOptions{Opener: opener})
	require.NoError(t, err)
	require.EqualValues(t, 'b', firstByte(t, d))

	top = put(t, layer{backing: "base", format: "qcow2"}.bytes(), dir, "top")
	_, err = OpenFile(ctx, top, OpenOptions{Opener: opener})
	require.ErrorIs(t, err, diskimage.ErrExternal)
}

func TestOpenerConfines(t *testing.T) {
	ctx, outside := context.Background(), t.TempDir()
	dir := filepath.Join(outside, "dir")
	canary := put(t, layer{fill: 'c'}.bytes(), outside, "canary")
	put(t, layer{backing: "../../canary", format: "qcow2"}.bytes(), dir, "sub", "middle")
	put(t, nil, outside, "dirty", "canary") // its name begins as dir's does
	require.NoError(t, os.Symlink("../canary", filepath.Join(dir, "out")))
	require.NoError(t, os.Symlink(canary, filepath.Join(dir, "abs")))
	require.NoError(t, os.Symlink("..", filepath.Join(dir, "up")))
	require.NoError(t, os.Symlink(filepath.Join(dir, "top"), filepath.Join(dir, "inside")))
	for _, name := range []string{
		canary, "../canary", "sub/../../canary", dir + "/../canary", "out", "abs", "up/canary", "inside",
		filepath.Join(outside, "dirty", "canary"), "sub/middle", "file:../canary", "/etc/passwd", "file:///etc/passwd",
		"../../../../../../../../../../etc/passwd", "/proc/self/root" + canary,
	} {
		for _, l := range []layer{{backing: name, format: "qcow2"}, {backing: name, format: "raw"}, {backing: name}, {dataFile: name}} {
			if name == "sub/middle" && (l.format != "qcow2") {
				continue
			}
			top := put(t, l.bytes(), dir, "top")
			_, err := OpenFile(ctx, top, OpenOptions{Opener: dirOpener(t, dir)})
			require.ErrorIs(t, err, diskimage.ErrExternal, "%+v", l)
		}
	}
}

func TestOpenerRefusesProtocols(t *testing.T) {
	ctx, dir := context.Background(), t.TempDir()
	base := put(t, layer{fill: 'b'}.bytes(), dir, "base")
	json := `json:{"driver":"qcow2","file.filename":"base"}`
	put(t, layer{fill: 'x'}.bytes(), dir, json)
	put(t, layer{fill: 'x'}.bytes(), dir, "nbd:localhost")
	put(t, layer{fill: 'c'}.bytes(), dir, "a:b")
	for _, name := range []string{json, "json:{}", "nbd:localhost", "nbd://127.0.0.1:1/", "nbd+unix:///x?socket=/x", "http://127.0.0.1/" + base, "fat:.", "a:b", ":x", "base\x00"} {
		top := put(t, layer{backing: name, format: "qcow2"}.bytes(), dir, "top")
		for kind, opener := range openers(t, dir) {
			_, err := OpenFile(ctx, top, OpenOptions{Opener: opener})
			require.Error(t, err, "%s %q", kind, name)
			_, err = opener.OpenDisk(ctx, diskimage.Reference{Name: name})
			require.ErrorIs(t, err, diskimage.ErrExternal, "%s %q", kind, name)
			_, err = opener.OpenSource(ctx, diskimage.Reference{Name: name, Role: diskimage.RoleDataFile})
			require.ErrorIs(t, err, diskimage.ErrExternal, "%s %q", kind, name)
		}
	}
	// QEMU's own way to name such a file.
	for _, name := range []string{"./a:b", "file:a:b"} {
		top := put(t, layer{backing: name, format: "qcow2"}.bytes(), dir, "top")
		for _, opener := range openers(t, dir) {
			d, err := OpenFile(ctx, top, OpenOptions{Opener: opener})
			require.NoError(t, err)
			require.EqualValues(t, 'c', firstByte(t, d))
		}
	}
}

func TestOpenerRefusesCircles(t *testing.T) {
	ctx, dir := context.Background(), t.TempDir()
	self := put(t, layer{backing: "self", format: "qcow2"}.bytes(), dir, "self")
	a := put(t, layer{backing: "b", format: "qcow2"}.bytes(), dir, "a")
	put(t, layer{backing: "sub/../a", format: "qcow2"}.bytes(), dir, "b")
	linked := put(t, layer{backing: "link", format: "qcow2"}.bytes(), dir, "linked")
	require.NoError(t, os.Symlink("linked", filepath.Join(dir, "link")))
	hard := put(t, layer{backing: "harder", format: "qcow2"}.bytes(), dir, "hard")
	require.NoError(t, os.Link(hard, filepath.Join(dir, "harder")))
	data := put(t, layer{dataFile: "data"}.bytes(), dir, "data")
	require.NoError(t, os.Mkdir(filepath.Join(dir, "sub"), 0o777))
	for _, top := range []string{self, a, linked, hard, data} {
		for kind, opener := range openers(t, dir) {
			_, err := OpenFile(ctx, top, OpenOptions{Opener: opener})
			require.ErrorIs(t, err, diskimage.ErrCorrupt, "%s %s", kind, top)
			require.ErrorContains(t, err, "circle")
			if top == data {
				continue // one link: only who opened the image knows what it is
			}
			f, err := os.Open(top)
			require.NoError(t, err)
			_, err = Open(ctx, diskimage.NewSource(f, int64(len(layer{}.bytes()))), OpenOptions{Opener: opener, Name: top})
			require.ErrorContains(t, err, "circle", "%s %s", kind, top)
			f.Close()
		}
	}
}

func TestOpenerRefusesLongChains(t *testing.T) {
	ctx, dir := context.Background(), t.TempDir()
	const links = diskimage.MaxDepth + 2
	put(t, layer{fill: 'b'}.bytes(), dir, "0")
	for i := 1; i <= links; i++ {
		put(t, layer{backing: fmt.Sprint(i - 1), format: "qcow2"}.bytes(), dir, fmt.Sprint(i))
	}
	for _, opener := range openers(t, dir) {
		d, err := OpenFile(ctx, filepath.Join(dir, fmt.Sprint(diskimage.MaxDepth)), OpenOptions{Opener: opener})
		require.NoError(t, err)
		require.EqualValues(t, 'b', firstByte(t, d))
		_, err = OpenFile(ctx, filepath.Join(dir, fmt.Sprint(diskimage.MaxDepth+1)), OpenOptions{Opener: opener})
		require.ErrorIs(t, err, diskimage.ErrLimit)
		_, err = opener.OpenDisk(ctx, diskimage.Reference{Name: "0", From: dir + "/x", Depth: diskimage.MaxDepth + 1})
		require.ErrorIs(t, err, diskimage.ErrLimit)
	}
}

func TestOpenerHoldsToFormats(t *testing.T) {
	ctx, dir := context.Background(), t.TempDir()
	put(t, layer{fill: 'b'}.bytes(), dir, "base")
	put(t, layer{backing: "base", format: "qcow2"}.bytes(), dir, "middle")
	put(t, file(65536, 0, "\x1f\x8b\x08"), dir, "packed")
	put(t, []byte("hello"), dir, "text")
	for name, tc := range map[string]struct {
		layer
		rawAnyway bool
		kind      error
		notes     int
	}{
		"declared":                    {layer: layer{backing: "base", format: "qcow2"}},
		"declared raw, is qcow2":      {layer: layer{backing: "base", format: "raw"}, kind: diskimage.ErrFormat},
		"declared raw, raw anyway":    {layer: layer{backing: "base", format: "raw"}, rawAnyway: true, notes: 1},
		"declared vmdk, is qcow2":     {layer: layer{backing: "base", format: "vmdk"}, kind: diskimage.ErrFormat},
		"declared unknown":            {layer: layer{backing: "base", format: "luks"}, kind: diskimage.ErrUnsupported},
		"undeclared":                  {layer: layer{backing: "base"}, notes: 1},
		"undeclared gzip":             {layer: layer{backing: "packed"}, kind: diskimage.ErrFormat},
		"undeclared text":             {layer: layer{backing: "text"}, kind: diskimage.ErrFormat},
		"text declared raw":           {layer: layer{backing: "text", format: "raw"}, notes: 1},
		"missing":                     {layer: layer{backing: "missing", format: "raw"}, kind: fs.ErrNotExist},
		"a folder":                    {layer: layer{backing: "..", format: "raw"}},
		"undeclared, names another":   {layer: layer{backing: "middle"}, kind: diskimage.ErrExternal},
		"declared and names another":  {layer: layer{backing: "middle", format: "qcow2"}},
		"undeclared top is not meant": {layer: layer{backing: "base", format: "qcow2"}},
	} {
		top := put(t, tc.bytes(), dir, "top")
		t.Run(name, func(t *testing.T) {
			probe := &keepDisk{Opener: dirOpener(t, dir)}
			o := OpenOptions{Opener: dirOpener(t, dir), RawAnyway: tc.rawAnyway}
			if tc.rawAnyway {
				o.Format = QCOW2
			}
			d, err := OpenFile(ctx, top, o)
			switch {
			case tc.backing == "..":
				require.Error(t, err)
				return
			case tc.kind != nil:
				require.ErrorIs(t, err, tc.kind)
				return
			}
			require.NoError(t, err)
			require.NoError(t, d.Close())

			// The notes are the backing image's.
			d, err = OpenFile(ctx, top, OpenOptions{Opener: probe})
			if tc.rawAnyway {
				require.ErrorIs(t, err, diskimage.ErrFormat, "an opener that is not ours does not know of it")
				return
			}
			require.NoError(t, err)
			require.Len(t, diskimage.NotesOf(probe.disk), tc.notes)
			require.Equal(t, diskimage.NotesOf(probe.disk), diskimage.NotesOf(d)) // nothing is lost
			require.NoError(t, d.Close())
		})
	}

	// What the caller allows holds below an image that is no file, too.
	p := layer{backing: "base", format: "raw"}.bytes()
	d, err := Open(ctx, source(p), OpenOptions{Opener: dirOpener(t, dir), RawAnyway: true})
	require.NoError(t, err)
	require.EqualValues(t, 'Q', firstByte(t, d))

	// Who opens any file believes any file.
	top := put(t, layer{backing: "middle"}.bytes(), dir, "top")
	d, err = OpenFile(ctx, top, OpenOptions{Opener: AnyOpener()})
	require.NoError(t, err)
	require.EqualValues(t, 'b', firstByte(t, d))
}

// keepDisk remembers what it opened.
type keepDisk struct {
	diskimage.Opener
	disk diskimage.VirtualDisk
}

func (k *keepDisk) OpenDisk(ctx context.Context, ref diskimage.Reference) (d diskimage.VirtualDisk, err error) {
	k.disk, err = k.Opener.OpenDisk(ctx, ref)
	return k.disk, err
}

// Closing the folder does not close what was opened, and closing a disk closes
// the chain below it.
func TestOpenerCloses(t *testing.T) {
	ctx, dir := context.Background(), t.TempDir()
	put(t, layer{fill: 'b'}.bytes(), dir, "base")
	top := put(t, layer{backing: "base", format: "qcow2"}.bytes(), dir, "top")
	opener := dirOpener(t, dir)
	probe := &keepDisk{Opener: opener}
	d, err := OpenFile(ctx, top, OpenOptions{Opener: probe})
	require.NoError(t, err)
	require.NoError(t, opener.Close())
	require.EqualValues(t, 'b', firstByte(t, d))
	_, err = probe.disk.ReadAt(make([]byte, 1), 0)
	require.Error(t, err)
	_, err = OpenFile(ctx, top, OpenOptions{Opener: opener})
	require.Error(t, err)
	require.NotErrorIs(t, err, diskimage.ErrExternal)

	require.NoError(t, AnyOpener().Close())
	_, err = NewDirOpener(top)
	require.Error(t, err)
	_, err = NewDirOpener(filepath.Join(dir, "missing"))
	require.ErrorIs(t, err, fs.ErrNotExist)

	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	_, err = dirOpener(t, dir).OpenSource(cancelled, diskimage.Reference{Name: "base"})
	require.ErrorIs(t, err, context.Canceled)
	src, err := dirOpener(t, dir).OpenSource(ctx, diskimage.Reference{Name: "base"})
	require.NoError(t, err)
	require.EqualValues(t, 6*65536, src.Size())
	require.NoError(t, src.(io.Closer).Close())
}

func ExampleNewDirOpener() {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	top := layer{backing: "/etc/passwd", format: "raw"}.bytes()
	if err := os.WriteFile(filepath.Join(dir, "top.qcow2"), top, 0o666); err != nil {
		panic(err)
	}

	opener, err := NewDirOpener(dir) // backing files may lie in this folder, and nowhere else
	if err != nil {
		panic(err)
	}
	defer opener.Close()
	_, err = OpenFile(context.Background(), filepath.Join(dir, "top.qcow2"), OpenOptions{Opener: opener})
	fmt.Println(errors.Is(err, diskimage.ErrExternal))
	// Output: true
}
