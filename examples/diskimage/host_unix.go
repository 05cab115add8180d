//go:build unix

package main

import (
	"os"
	"os/signal"
	"syscall"
)

// allocatedBytes returns what a file takes on its file system: stat(2) counts
// in blocks of 512 bytes on every system.
func allocatedBytes(info os.FileInfo) int64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return int64(st.Blocks) * 512
	}
	return info.Size()
}

// ignoreStatusSignal keeps SIGUSR1, by which the reference is asked how far it
// is, from ending the process. Here -p tells.
func ignoreStatusSignal() { signal.Ignore(syscall.SIGUSR1) }
