package vmdk

import "github.com/diskimage-go/diskimage"

// A part is one extent of the disk: a run of guest bytes and the file, if there
// is one, that holds them. Offsets are those in the part. It is safe for
// concurrent use, and the file is closed by whoever opened it.
type part interface {
	// size returns the guest bytes.
	size() int64

	// locate maps the guest bytes at off, which is inside, limit of them at
	// most: a run that is alike, as far as that is told cheaply. With an error
	// the mapping's n is how many bytes it is about.
	locate(off, limit int64) (mapping, error)

	// read fills p with the guest bytes at off, p's length of which m maps and
	// which are plain or packed.
	read(p []byte, off int64, m mapping) error

	// checkMap is [Disk.CheckMap] for the part.
	checkMap() error
}

// A state says what a part tells of guest bytes.
type state uint8

const (
	absent state = iota // nothing: the parent's, or zeros
	zeros               // reads as zeros
	plain               // stored as it is
	packed              // compressed: one grain
)

// A mapping says where a run of guest bytes is.
type mapping struct {
	state state
	n     int64 // guest bytes
	host  int64 // offset in the part's file of the first byte; packed: of where the grain starts; -1 if there is no place
}

// A partFile is what a part with a file is made of: newSparse, newCOWD and
// newSESparse read and validate its header, and take all else from it later.
type partFile struct {
	src   diskimage.Source
	notes *notes // of the disk
}
