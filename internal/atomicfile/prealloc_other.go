//go:build !linux

package atomicfile

// noPrealloc holds nothing where space is not allocated ahead.
type noPrealloc struct{}

// Preallocate does nothing on this system.
func (f *File) Preallocate(off, n int64) {}
