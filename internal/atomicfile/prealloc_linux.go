package atomicfile

import (
	"sync/atomic"
	"syscall"
)

// deviceFlags: with O_EXCL the kernel refuses a block device that is in use.
const deviceFlags = syscall.O_EXCL | syscall.O_CLOEXEC

// noPrealloc says that allocating ahead failed once, and is not tried again.
type noPrealloc struct{ refused atomic.Bool }

// Preallocate gives the bytes [off, off+n) space on the disk, and makes the
// file at least as long. It is a hint: where it fails (file systems without
// fallocate(2), a full disk), writing will tell.
func (f *File) Preallocate(off, n int64) {
	if f.device >= 0 || n <= 0 || off < 0 || f.refused.Load() {
		return
	}
	c, err := f.f.SyscallConn()
	if err != nil {
		return
	}
	f.dirty.Store(true)
	_ = c.Control(func(fd uintptr) {
		if err := syscall.Fallocate(int(fd), 0, off, n); err != nil && err != syscall.EINTR {
			f.refused.Store(true)
		}
	})
}
