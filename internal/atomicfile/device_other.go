//go:build !linux

package atomicfile

const deviceFlags = 0
