//go:build !unix

package main

import "os"

// allocatedBytes returns a file's length: what it takes on its file system is
// not told here.
func allocatedBytes(info os.FileInfo) int64 { return info.Size() }

// ignoreStatusSignal has nothing to do: there is no such signal.
func ignoreStatusSignal() {}
