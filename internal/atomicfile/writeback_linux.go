//go:build !arm

package atomicfile

import "syscall"

// startWriteBack starts writing to the disk what was written to the file, and
// does not wait for it. It is a hint too.
func (f *File) startWriteBack() {
	c, err := f.f.SyscallConn()
	if err != nil {
		return
	}
	const write = 2 // SYNC_FILE_RANGE_WRITE
	_ = c.Control(func(fd uintptr) {
		_ = syscall.SyncFileRange(int(fd), 0, 0, write) // 0 bytes: to the end
	})
}
