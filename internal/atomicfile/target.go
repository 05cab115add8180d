package atomicfile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/diskimage-go/diskimage/internal/hostfile"
)

// A target is where a new file is to be.
type target struct {
	name   string
	linked bool        // name is where a symbolic link leads
	info   fs.FileInfo // of what is there; nil for nothing
}

// maxLinks is how many symbolic links the kernels follow (Linux: 40).
const maxLinks = 40

// errMoved says that a name changed its meaning while it was looked at, or
// that a link's text is not where it leads, as some of /proc's are.
var errMoved = errors.New("leads to a file that has no name")

// resolve follows symbolic links to the place where the file will be, which
// need not exist, and refuses what is neither a regular file that may be
// written nor a block device.
func resolve(name string) (target, error) {
	if name == "" || os.IsPathSeparator(name[len(name)-1]) {
		return target{}, &fs.PathError{Op: "create", Path: name, Err: errors.New("is not the name of a file")}
	}
	const tries = 100 // others may be replacing it all the time
	for try := 1; ; try++ {
		t, err := resolveOnce(name)
		switch {
		case err == nil:
			return t, nil
		case err != errMoved:
			return target{}, err
		case try == tries:
			return target{}, &fs.PathError{Op: "create", Path: name, Err: err}
		}
	}
}

func resolveOnce(name string) (target, error) {
	// First what the name means in the end: a link in /proc leads to things
	// that its text does not name.
	info, err := os.Stat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		info = nil
	case err != nil:
		return target{}, err
	case !info.Mode().IsRegular() && !hostfile.IsBlockDevice(info):
		return target{}, &fs.PathError{Op: "create", Path: name,
			Err: errors.New("is " + hostfile.Describe(info.Mode()) + ", not a regular file or a block device")}
	}

	t := target{name: name}
	for range maxLinks {
		now, err := os.Lstat(t.name)
		if errors.Is(err, fs.ErrNotExist) {
			if info != nil {
				return target{}, errMoved
			}
			return t, nil
		}
		if err != nil {
			return target{}, err
		}
		if now.Mode()&fs.ModeSymlink == 0 {
			if info == nil || !os.SameFile(info, now) {
				return target{}, errMoved
			}
			t.info = info
			return t, writable(t)
		}
		if err := t.follow(); err != nil {
			return target{}, err
		}
	}
	return target{}, &fs.PathError{Op: "create", Path: name, Err: errors.New("leads through too many symbolic links")}
}

// follow puts where the symbolic link t.name leads in its place.
func (t *target) follow() error {
	link, err := os.Readlink(t.name)
	if err != nil {
		return err
	}
	if !filepath.IsAbs(link) {
		// Not filepath.Join, which takes ".." for the folder above by name,
		// where the folder may be a link itself.
		dir, _ := filepath.Split(t.name)
		link = dir + link
	}
	dir, base := filepath.Split(link)
	if dir == "" {
		dir = "."
	}
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		return err
	}
	t.name, t.linked = filepath.Join(dir, base), true
	return nil
}

// writable returns an error if the regular file that is to be replaced may not
// be written: renaming would ask for its folder's permission only.
func writable(t target) error {
	if !t.info.Mode().IsRegular() {
		return nil
	}
	f, err := os.OpenFile(t.name, os.O_WRONLY|openFlags, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return errMoved
	}
	if err != nil {
		return err
	}
	return f.Close()
}
