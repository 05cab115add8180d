package spool

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
)

// What CreateFileW takes that package syscall does not name.
const (
	fileAttributeTemporary = 0x100
	fileFlagDeleteOnClose  = 0x0400_0000
)

// create makes a file that the system removes when its last handle is closed,
// which it does too when the process ends.
func create(dir string) (*os.File, error) {
	if dir == "" {
		dir = os.TempDir()
	}
	for range 100 {
		name := filepath.Join(dir, fmt.Sprintf(".diskimage-spool-%08x.tmp", rand.Uint32()))
		path, err := syscall.UTF16PtrFromString(name)
		if err == nil {
			var h syscall.Handle
			h, err = syscall.CreateFile(path, syscall.GENERIC_READ|syscall.GENERIC_WRITE, 0, nil, syscall.CREATE_NEW,
				fileAttributeTemporary|fileFlagDeleteOnClose, 0)
			if err == nil {
				return os.NewFile(uintptr(h), name), nil
			}
		}
		if !errors.Is(err, fs.ErrExist) {
			return nil, &fs.PathError{Op: "create", Path: name, Err: err}
		}
	}
	return nil, &fs.PathError{Op: "create", Path: dir, Err: errors.New("no temporary name is free")}
}
