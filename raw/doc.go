// Package raw reads and writes raw disk images: the guest's bytes themselves,
// without a header, in a file, on a block device or through a pipe.
//
//	file   |data|....hole....|data|..|data|      the same offsets, the same length
//	disk   |data|    zeros   |data|  |data|
//
// [Open] shows any diskimage.Source as a disk; holes of a sparse file are not
// read. [NewStream] takes what can only be read once, front to back.
// [NewWriter] writes a sparse image, exact to the byte.
//
// A raw image has no mark to know it by. Whether some bytes are a raw disk or
// an image of another format is asked elsewhere (package convert); this
// package believes its caller.
package raw

// Name is the format's name in errors, notes and on the command line.
const Name = "raw"
