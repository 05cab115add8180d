//go:build linux || darwin || freebsd

package hostfile

import (
	"errors"
	"io/fs"
	"syscall"
)

const (
	tellsHoles = true

	// openFlags: O_NONBLOCK means nothing to files and block devices, and
	// opening a FIFO that was put in their place does not wait.
	openFlags = syscall.O_NONBLOCK | syscall.O_CLOEXEC

	errNoMore = syscall.ENXIO // lseek(2): no data, or no file, from there on
)

// noSeekHole reports whether lseek's error means that the file system does not
// know SEEK_DATA.
func noSeekHole(err error) bool {
	return errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOTSUP) || errors.Is(err, syscall.ENOTTY)
}

// deviceNumber returns the number of the device that info's file is a node of.
func deviceNumber(info fs.FileInfo) (uint64, bool) {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, false
	}
	return uint64(st.Rdev), true
}
