//go:build !linux || arm

package atomicfile

// startWriteBack does nothing where the kernel cannot be told (or, of 32-bit
// ARM, where package syscall does not know how).
func (f *File) startWriteBack() {}
