// Package guest reads guest disks that lie in their files in runs: what the
// disks of all formats do alike.
package guest

import (
	"fmt"
	"io"
)

// ReadAt reads guest bytes of a disk of size bytes run by run, as
// diskimage.VirtualDisk has it. read fills the front of p, at least a byte and
// as far as one run reaches, with what is at off, and returns how much that is;
// after an error nothing of it counts. format, the format's name, begins the
// error for an offset that no disk has.
func ReadAt(format string, size int64, p []byte, off int64, read func(p []byte, off int64) (int, error)) (n int, err error) {
	if off < 0 {
		return 0, fmt.Errorf("%s: reading at the negative offset %d", format, off)
	}
	if off >= size {
		if len(p) == 0 {
			return 0, nil
		}
		return 0, io.EOF
	}
	if left := size - off; int64(len(p)) > left {
		p, err = p[:left], io.EOF
	}
	for n < len(p) {
		got, readErr := read(p[n:], off+int64(n))
		if readErr != nil {
			return n, readErr
		}
		n += got
	}
	return n, err
}
