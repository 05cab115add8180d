package convert

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/internal/hostfile"
)

// A DirOpener opens what images name: files inside one folder, with
// [NewDirOpener], or any file, with [AnyOpener]. It is safe for concurrent
// use.
//
// Names are file names and nothing else. As QEMU does, it resolves a relative
// one against the folder of the image that has it, and reads "file:x" as x;
// what QEMU would hand to one of its protocols ("json:", "nbd:", "http:", all
// with a colon before the first slash) is refused.
//
// An image that leads back to one above it is an error, and so is a chain of
// more than [diskimage.MaxDepth].
//
// The format that an image declares for another is held to, as that of
// [OpenOptions]. Where it declares none, which QEMU has not allowed since 6.1,
// the content says it, which is noted: raw if nothing else. Since a guest may
// have written that content, an opener that is confined does not open what an
// image of undeclared format names in turn.
type DirOpener struct {
	root *os.Root // nil: any file
	dirs []string // what root is called, absolute: as given, and without symbolic links

	// What follows is of the image whose references are opened.
	above   []fs.FileInfo // it and the images above it
	at      string        // its name, as open takes it; "" if it was opened by somebody else
	guessed bool          // its format was told by its content though an image names it
	options OpenOptions   // what holds for the images below too: RawAnyway, Salvage
}

var _ diskimage.Opener = (*DirOpener)(nil)

// NewDirOpener returns an opener that is confined to the folder dir and what
// is below it: names and symbolic links that lead elsewhere are refused with
// [diskimage.ErrExternal], an absolute name inside dir counts as relative (an
// absolute symbolic link does not), and only regular files are opened, without
// blocking. Close it when the images that it is to open are open.
func NewDirOpener(dir string) (*DirOpener, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(abs)
	if err != nil {
		return nil, err
	}
	d := &DirOpener{root: root, dirs: []string{abs}}
	if plain, err := filepath.EvalSymlinks(abs); err == nil && plain != abs {
		d.dirs = append(d.dirs, plain)
	}
	return d, nil
}

// AnyOpener returns an opener that opens any regular file and block device
// that an image names: for images that are trusted like programs.
func AnyOpener() *DirOpener { return &DirOpener{} }

// Close closes the folder. Disks and sources that were opened stay open.
func (d *DirOpener) Close() error {
	if d.root == nil {
		return nil
	}
	return d.root.Close()
}

// OpenDisk opens another image as the disk it shows.
func (d *DirOpener) OpenDisk(ctx context.Context, ref diskimage.Reference) (diskimage.VirtualDisk, error) {
	format, err := ParseFormat(ref.Format)
	if err != nil {
		return nil, err
	}
	f, at, err := d.open(ctx, ref)
	if err != nil {
		return nil, err
	}
	o := d.options
	o.Format, o.Name = format, d.fullName(at)
	below := d.below(f.Info(), at, o)
	below.guessed = format == Auto
	o.Opener = below
	var notes []diskimage.Note
	if format == Auto {
		notes = append(notes, diskimage.Note{Text: ref.Role.String() + " " + diskimage.Quote(ref.Name) +
			": its format is not declared by the image that names it; the content was believed"})
	}
	disk, err := open(ctx, f, o, ref.Depth, notes)
	if err != nil {
		f.Close()
		return nil, err
	}
	return disk, nil
}

// OpenSource opens a file for its plain bytes.
func (d *DirOpener) OpenSource(ctx context.Context, ref diskimage.Reference) (diskimage.Source, error) {
	f, _, err := d.open(ctx, ref)
	if err != nil {
		return nil, err
	}
	return f, nil
}

// below returns the opener for what an image names; image is its file, or nil.
func (d *DirOpener) below(image fs.FileInfo, at string, o OpenOptions) *DirOpener {
	b := *d
	if image != nil {
		b.above = append(slices.Clip(d.above), image)
	}
	b.at = at
	b.guessed = false
	b.options = OpenOptions{RawAnyway: o.RawAnyway, Salvage: o.Salvage}
	return &b
}

// open opens the file that ref means, and returns the name it went by.
func (d *DirOpener) open(ctx context.Context, ref diskimage.Reference) (f *hostfile.File, at string, err error) {
	if err := ctx.Err(); err != nil {
		return nil, "", err
	}
	if ref.Depth > diskimage.MaxDepth {
		return nil, "", &diskimage.Error{Kind: diskimage.ErrLimit, Off: -1,
			Msg: fmt.Sprintf("more than %d images lead to one another", diskimage.MaxDepth)}
	}
	if d.guessed && d.root != nil {
		return nil, "", refuse("the format of the image that names it was not declared, so a guest may have written that name")
	}
	name, err := localName(ref)
	if err != nil {
		return nil, "", err
	}
	if d.root == nil {
		at = d.join(ref, name)
		f, err = hostfile.Open(at)
	} else if at, err = d.inside(ref, name); err == nil {
		f, err = d.openInside(at)
	}
	if err != nil {
		return nil, "", err
	}
	for _, image := range d.above {
		if hostfile.SameFile(f.Info(), image) {
			f.Close()
			return nil, "", &diskimage.Error{Kind: diskimage.ErrCorrupt, Off: -1,
				Msg: "the images lead to one another in a circle"}
		}
	}
	return f, at, nil
}

// localName returns the file name that ref has, or refuses what is none.
func localName(ref diskimage.Reference) (string, error) {
	name := strings.TrimPrefix(ref.Name, "file:")
	switch {
	case name == "":
		return "", refuse("the name is empty")
	case strings.ContainsRune(name, 0):
		return "", refuse("the name has a NUL in it")
	case name == ref.Name && hasProtocol(name):
		return "", refuse("only file names are followed, no protocols")
	}
	return name, nil
}

// hasProtocol reports whether QEMU would take a name for that of a protocol:
// a colon comes before any slash. The letter of a Windows drive is none.
func hasProtocol(name string) bool {
	separators := "/"
	if runtime.GOOS == "windows" {
		separators = `/\`
		name = name[len(filepath.VolumeName(name)):]
	}
	i := strings.IndexAny(name, ":"+separators)
	return i >= 0 && name[i] == ':'
}

// join returns name, which may be relative, as seen from the image that has
// it. Nothing is cleaned: "link/.." is what the system takes it for.
func (d *DirOpener) join(ref diskimage.Reference, name string) string {
	from := d.at
	if from == "" {
		from = ref.From
	}
	if filepath.IsAbs(name) {
		return name
	}
	return folder(from) + name
}

// folder returns what comes before the last element of a name.
func folder(name string) string {
	for i := len(name); i > 0; i-- {
		if os.IsPathSeparator(name[i-1]) {
			return name[:i]
		}
	}
	return filepath.VolumeName(name)
}

// inside returns a name as seen from the folder that d is confined to.
func (d *DirOpener) inside(ref diskimage.Reference, name string) (string, error) {
	if filepath.IsAbs(name) {
		if rel, ok := d.relative(name); ok {
			return rel, nil
		}
		return "", d.outside()
	}
	if d.at != "" || ref.From == "" {
		return folder(d.at) + name, nil
	}
	// The image itself was opened by somebody else, under a name from outside.
	dir, err := filepath.Abs(filepath.Dir(ref.From))
	if err != nil {
		return "", err
	}
	rel, ok := d.relative(dir)
	if !ok {
		if plain, err := filepath.EvalSymlinks(dir); err == nil {
			rel, ok = d.relative(plain)
		}
	}
	if !ok { // yet the name may lead inside: an image beside the folder that has its backing files
		if rel, ok = d.relative(filepath.Join(dir, name)); ok {
			return rel, nil
		}
		return "", d.outside()
	}
	if rel == "." {
		return name, nil
	}
	return rel + string(filepath.Separator) + name, nil
}

// relative returns an absolute name as seen from the folder, if it is inside.
func (d *DirOpener) relative(name string) (string, bool) {
	for _, dir := range d.dirs {
		if rel, err := filepath.Rel(dir, name); err == nil && filepath.IsLocal(rel) {
			return rel, true
		}
	}
	return "", false
}

// openInside opens a regular file below the folder.
func (d *DirOpener) openInside(at string) (*hostfile.File, error) {
	f, err := hostfile.OpenIn(d.root, at)
	if err == nil {
		return f, nil
	}
	var path *fs.PathError
	if !errors.As(err, &path) {
		return nil, err
	}
	if path.Err.Error() == "path escapes from parent" { // os does not export it
		return nil, d.outside()
	}
	return nil, &fs.PathError{Op: "open", Path: d.fullName(at), Err: path.Err}
}

// outside refuses what is not in the folder.
func (d *DirOpener) outside() error { return refuse("it is not inside " + d.dirs[0]) }

// refuse returns the error for a reference that may not be opened; who asked
// for it names it.
func refuse(why string) error {
	return &diskimage.Error{Kind: diskimage.ErrExternal, Off: -1, Msg: "refused: " + why}
}

// fullName returns the name of a file in a form that means the same from
// anywhere, for messages and for the image's own openers.
func (d *DirOpener) fullName(at string) string {
	if d.root == nil {
		return at
	}
	return d.dirs[0] + string(filepath.Separator) + at
}
