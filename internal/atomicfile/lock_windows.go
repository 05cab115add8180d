package atomicfile

import (
	"io/fs"
	"os"
)

const (
	openFlags = 0
	modeless  = true // Chmod knows only read-only
)

// lockTemp has nothing to do: os.OpenFile does not share the right to delete,
// so that an open file cannot be removed by another.
func lockTemp(file *os.File, name string) (lock *os.File, ours bool) {
	return nil, sameFile(file, name)
}

// removeLeftover removes the temporary file name, which fails if it is open.
func removeLeftover(name string) {
	if info, err := os.Lstat(name); err == nil && info.Mode().IsRegular() {
		_ = os.Remove(name)
	}
}

func inheritOwner(*os.File, fs.FileInfo) {}

// syncFolder does nothing: folders cannot be synced.
func syncFolder(string) error { return nil }
