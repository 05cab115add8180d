package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/diskimage-go/diskimage/convert"
	"github.com/diskimage-go/diskimage/internal/hostfile"
	"github.com/diskimage-go/diskimage/vmdk"
)

// checkTarget looks at what stands under the name that is about to be
// written. What the job reads, by whatever name, is refused; so are folders,
// FIFOs and the like, and block devices unless force is set.
func checkTarget(name string, force bool, reads []fs.FileInfo) error {
	info, err := os.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return about(name, err)
	}
	for _, r := range reads {
		if hostfile.SameFile(info, r) {
			return fmt.Errorf("%s: is the file %s, which is read", name, r.Name())
		}
	}
	switch {
	case info.Mode().IsRegular():
		return nil
	case !hostfile.IsBlockDevice(info):
		return fmt.Errorf("%s: is %s, not a regular file", name, hostfile.Describe(info.Mode()))
	case !force:
		return fmt.Errorf("%s: is a block device, which --force writes to in place", name)
	}
	return nil
}

// checkTargets is checkTarget for all files of a target with a guest disk of
// size bytes: of a set none may exist, unless it is forced.
func checkTargets(name string, size int64, o convert.Options, reads []fs.FileInfo) error {
	if o.Format != convert.VMDK || !o.VMDK.Subformat.Several() {
		return checkTarget(name, o.Force, reads)
	}
	o.VMDK.Size, o.VMDK.FileName = size, filepath.Base(name)
	others, err := vmdk.ExtentNames(o.VMDK)
	if err != nil {
		return err
	}
	for i := range others {
		others[i] = filepath.Join(filepath.Dir(name), others[i])
	}
	for _, file := range append(others, name) {
		if err := checkTarget(file, false, reads); err != nil {
			return err
		}
		if _, err := os.Lstat(file); err == nil && !o.Force {
			return fmt.Errorf("%s: exists: an image of several files is written over others only with --force", file)
		}
	}
	return nil
}

// noteLink says so where a name that is written to is a symbolic link.
func (s *session) noteLink(name string) {
	if to, err := os.Readlink(name); err == nil {
		s.note(fmt.Sprintf("%s is a symbolic link: what it leads to, %s, is written", name, to))
	}
}

// openInPlace opens an existing raw target, a regular file or a block device,
// whose bytes are to be replaced by a disk of size bytes.
func openInPlace(name string, size int64, zeros bool) (*inPlace, error) {
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	has := int64(0)
	switch {
	case err != nil:
	case hostfile.IsBlockDevice(info):
		has, err = hostfile.DeviceSize(f)
	default:
		has = info.Size()
	}
	if err == nil && has < size {
		err = errors.New("output file is smaller than input file")
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return &inPlace{f: f, zeros: zeros}, nil
}

// inPlace is an Output whose length stays what it is, and whose old bytes have
// to be overwritten unless they are known to be zeros.
type inPlace struct {
	f     *os.File
	zeros bool
}

func (t *inPlace) WriteAt(p []byte, off int64) (int, error) { return t.f.WriteAt(p, off) }
func (t *inPlace) ReadAt(p []byte, off int64) (int, error)  { return t.f.ReadAt(p, off) }
func (t *inPlace) Sync() error                              { return t.f.Sync() }
func (t *inPlace) ZeroFilled() bool                         { return t.zeros }

// checkStdout refuses to write an image to a terminal.
func checkStdout(w io.Writer) error {
	if isTerminal(w) {
		return errors.New("an image is not written to a terminal; redirect standard output")
	}
	return nil
}
