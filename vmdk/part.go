package vmdk

import (
	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/internal/notes"
	"github.com/diskimage-go/diskimage/internal/pagecache"
)

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

	guess int64 // packed: how many bytes of the file to read at first, for the grain to be in them
}

// A partFile is what a part with a file is made of: newSparse, newCOWD and
// newSESparse read and validate its header, and take all else from it later.
type partFile struct {
	src   diskimage.Source
	no    int              // which of the disk's files it is: File in its extents
	pages *pagecache.Cache // of the disk: pages of tables
	notes *notes.List      // of the disk
}

// page returns n bytes of a table at off. field names the table in errors.
func (f *partFile) page(off int64, n int, field string) ([]byte, error) {
	key := pagecache.Key{File: f.no, Off: off, Len: n}
	if p := f.pages.Get(key); p != nil {
		return p.Data, nil
	}
	p, err := f.pages.Load(key, func(b []byte) error { return readFull(f.src, b, off, field) })
	if err != nil {
		return nil, err
	}
	return p.Data, nil
}

// note notes a fact of the file.
func (f *partFile) note(format string, args ...any) { f.notes.Add(format, args...) }

// A region is a part of a file that its header names.
type region struct {
	name     string
	off, end int64
}

// regionAt returns the name of the region that the n bytes at off touch, or "".
func regionAt(regions []region, off, n int64) string {
	for _, r := range regions {
		if off < r.end && r.off < off+n {
			return r.name
		}
	}
	return ""
}
