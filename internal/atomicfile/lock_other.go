//go:build !linux && !darwin && !freebsd && !openbsd && !netbsd && !dragonfly && !windows

package atomicfile

import (
	"io/fs"
	"os"
)

const (
	openFlags = 0
	modeless  = false
)

func lockTemp(*os.File, string) (lock *os.File, ours bool) { return nil, true }

// removeLeftover keeps it: nothing tells it from a file in use.
func removeLeftover(string) {}

func inheritOwner(*os.File, fs.FileInfo) {}

func syncFolder(string) error { return nil }
