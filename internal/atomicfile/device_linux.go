package atomicfile

import "syscall"

// deviceFlags: with O_EXCL the kernel refuses a block device that is in use.
const deviceFlags = syscall.O_EXCL | syscall.O_CLOEXEC
