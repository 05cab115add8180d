// Package hostfile opens image files of the host: regular files and block
// devices, and nothing else. It never waits for what it opens: folders, FIFOs,
// sockets and character devices (some act on being opened) are refused by what
// stat(2) says of them, and once more after opening, should the name have come
// to mean something else in between.
//
// What the systems do:
//
//   - Linux: holes are told by SEEK_DATA and SEEK_HOLE where the file system
//     knows them; block devices are one run of data.
//   - macOS and the BSDs: holes likewise (their numbers for the two differ);
//     the size of a block device cannot be told by lseek(2): refused.
//   - Windows and others: a file is one run of data; devices are refused.
package hostfile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync/atomic"
	"time"

	"github.com/diskimage-go/diskimage"
)

// A File is an open image file of the host: a diskimage.Source, a
// diskimage.HoleMapper and an io.Closer. Its size is what it was when it was
// opened: what is appended later is not seen, and what is cut off is
// ErrChanged. All methods but Close are safe for concurrent use.
type File struct {
	f       *os.File
	name    string
	size    int64
	info    fs.FileInfo // at opening
	noHoles atomic.Bool // the file system does not tell holes
}

var (
	_ diskimage.Source         = (*File)(nil)
	_ diskimage.HoleMapper     = (*File)(nil)
	_ diskimage.ChangeDetector = (*File)(nil)
	_ io.Closer                = (*File)(nil)
)

// Open opens a regular file or a block device for reading. Anything else is an
// error that says what it is. Errors are *fs.PathError.
func Open(name string) (*File, error) {
	// Before opening: opening a FIFO wakes its writer, and some character
	// devices (tapes, watchdogs) do something.
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if err := usable(info); err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	f, err := os.OpenFile(name, os.O_RDONLY|openFlags, 0)
	if err != nil {
		return nil, err
	}
	h, err := New(f)
	if err != nil {
		f.Close()
		return nil, err
	}
	return h, nil
}

// New returns the open file f, which must be a regular file or a block device,
// as a File; its name is f.Name(). Closing the File closes f, and f's own file
// offset is not to be relied on any more. After an error f is as it was.
func New(f *os.File) (*File, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if err := usable(info); err != nil {
		return nil, &fs.PathError{Op: "open", Path: f.Name(), Err: err}
	}
	h := &File{f: f, name: f.Name(), size: info.Size(), info: info}
	if IsBlockDevice(info) {
		if h.size, err = deviceSize(f); err != nil {
			return nil, &fs.PathError{Op: "size", Path: f.Name(), Err: err}
		}
		h.noHoles.Store(true)
	}
	return h, nil
}

// usable returns an error for what is neither a regular file nor a block
// device, and says what it is.
func usable(info fs.FileInfo) error {
	if info.Mode().IsRegular() || IsBlockDevice(info) {
		return nil
	}
	return errors.New("is " + Describe(info.Mode()) + ", not a regular file or a block device")
}

// Describe returns what a file of this mode is, with its article.
func Describe(mode fs.FileMode) string {
	switch {
	case mode.IsRegular():
		return "a regular file"
	case mode.IsDir():
		return "a folder"
	case mode&fs.ModeNamedPipe != 0:
		return "a FIFO"
	case mode&fs.ModeSocket != 0:
		return "a socket"
	case mode&fs.ModeCharDevice != 0:
		return "a character device"
	case mode&fs.ModeDevice != 0:
		return "a block device"
	case mode&fs.ModeSymlink != 0:
		return "a symbolic link"
	}
	return "no file of a known type"
}

// IsBlockDevice reports whether info is of a block device.
func IsBlockDevice(info fs.FileInfo) bool {
	return info.Mode()&(fs.ModeDevice|fs.ModeCharDevice) == fs.ModeDevice
}

// deviceSize returns the length of a block device.
func deviceSize(f *os.File) (int64, error) {
	size, err := f.Seek(0, io.SeekEnd)
	if err == nil && size == 0 && !seekEndSizesDevices {
		err = errors.New("the size of a block device cannot be told on this system")
	}
	return size, err
}

// DeviceSize returns the length of the open block device f, whose file offset
// it moves.
func DeviceSize(f *os.File) (int64, error) { return deviceSize(f) }

// Name returns the name the file was opened by.
func (h *File) Name() string { return h.name }

// OS returns the open file, for system calls that take an offset. Its own
// file offset moves about.
func (h *File) OS() *os.File { return h.f }

// Size returns the file's length when it was opened.
func (h *File) Size() int64 { return h.size }

// Info returns what stat(2) said when the file was opened.
func (h *File) Info() fs.FileInfo { return h.info }

// ModTime returns when the file was last written to, as of its opening.
func (h *File) ModTime() time.Time { return h.info.ModTime() }

// Close closes the file.
func (h *File) Close() error { return h.f.Close() }

// ReadAt reads as io.ReaderAt demands. Where the file turns out to end before
// Size it is ErrChanged, not io.EOF.
func (h *File) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, &fs.PathError{Op: "read", Path: h.name, Err: fmt.Errorf("negative offset %d", off)}
	}
	if off >= h.size {
		if len(p) == 0 {
			return 0, nil
		}
		return 0, io.EOF
	}
	cut := int64(len(p)) > h.size-off
	if cut {
		p = p[:h.size-off]
	}
	n, err := h.f.ReadAt(p, off)
	switch {
	case n == len(p) && cut:
		return n, io.EOF
	case n == len(p):
		return n, nil
	case err == io.EOF:
		return n, h.shrank(off + int64(n))
	}
	return n, err
}

func (h *File) shrank(off int64) error {
	return &diskimage.Error{Kind: diskimage.ErrChanged, Off: off, Field: h.name,
		Msg: fmt.Sprintf("the file ends here, it was %d bytes long when it was opened", h.size)}
}

// Changed returns ErrChanged if the file's length or time of modification are
// not what they were when it was opened. Of block devices it knows nothing.
func (h *File) Changed() error {
	if IsBlockDevice(h.info) {
		return nil
	}
	now, err := h.f.Stat()
	if err != nil {
		return err
	}
	switch {
	case now.Size() != h.size:
		return &diskimage.Error{Kind: diskimage.ErrChanged, Off: -1, Field: h.name,
			Msg: fmt.Sprintf("the file is %d bytes long, it was %d when it was opened", now.Size(), h.size)}
	case !now.ModTime().Equal(h.info.ModTime()):
		return &diskimage.Error{Kind: diskimage.ErrChanged, Off: -1, Field: h.name,
			Msg: "the file was written to after it was opened"}
	}
	return nil
}

// Same reports whether name, which need not exist, leads to this file: by a
// link of any kind, or another node of the same block device.
func (h *File) Same(name string) (bool, error) {
	info, err := os.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return SameFile(h.info, info), nil
}

// SameFile reports whether a and b, which came from os.Stat or the Stat of a
// file, are the same file or the same block device.
func SameFile(a, b fs.FileInfo) bool {
	if os.SameFile(a, b) {
		return true
	}
	if !IsBlockDevice(a) || !IsBlockDevice(b) {
		return false
	}
	da, oka := deviceNumber(a)
	db, okb := deviceNumber(b)
	return oka && okb && da == db
}
