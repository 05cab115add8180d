//go:build linux || darwin || freebsd || openbsd || netbsd || dragonfly

package atomicfile

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
)

const (
	openFlags = syscall.O_NONBLOCK | syscall.O_CLOEXEC
	modeless  = false
)

// lockTemp locks the temporary file under name, which was just made and is
// open as file, by another descriptor. ours is false if someone else has it or
// has removed it. Where there are no locks lock is nil.
func lockTemp(file *os.File, name string) (lock *os.File, ours bool) {
	lock, err := os.OpenFile(name, os.O_RDONLY|openFlags|syscall.O_NOFOLLOW, 0)
	if err == nil {
		if err = flock(lock); err != nil {
			lock.Close()
		}
	}
	switch {
	case errors.Is(err, syscall.EWOULDBLOCK) || errors.Is(err, fs.ErrNotExist):
		return nil, false
	case err != nil:
		return nil, true // no locks here; then nobody cleans up either
	case !sameFile(file, name):
		lock.Close()
		return nil, false
	}
	return lock, true
}

// removeLeftover removes the temporary file name if its lock can be had.
func removeLeftover(name string) {
	if info, err := os.Lstat(name); err != nil || !info.Mode().IsRegular() {
		return
	}
	f, err := os.OpenFile(name, os.O_RDONLY|openFlags|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return
	}
	defer f.Close()
	// Its maker locks it, and then looks whether it is still there.
	if flock(f) == nil && sameFile(f, name) {
		os.Remove(name)
	}
}

// flock takes the lock without waiting for it.
func flock(f *os.File) error {
	c, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var locked error
	err = c.Control(func(fd uintptr) {
		for {
			locked = syscall.Flock(int(fd), syscall.LOCK_EX|syscall.LOCK_NB)
			if locked != syscall.EINTR {
				return
			}
		}
	})
	return errors.Join(err, locked)
}

// inheritOwner gives f the owner and group of the file it replaces, as far as
// we may.
func inheritOwner(f *os.File, old fs.FileInfo) {
	st, ok := old.Sys().(*syscall.Stat_t)
	if !ok {
		return
	}
	now, err := f.Stat()
	if err != nil {
		return
	}
	if own, ok := now.Sys().(*syscall.Stat_t); ok && (own.Uid != st.Uid || own.Gid != st.Gid) {
		_ = f.Chown(int(st.Uid), int(st.Gid)) // usually only root's to give
	}
}

// syncFolder makes the names in a folder durable. File systems that cannot
// sync folders say EINVAL.
func syncFolder(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil && !errors.Is(err, syscall.EINVAL) && !errors.Is(err, syscall.ENOTSUP) {
		return err
	}
	return nil
}
