package ova

import (
	"io"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/internal/unwrap"
)

// NewGunzip returns what reads from r a disk's file that is compressed with
// gzip. More than such a file can have for its disk's capacity is ErrLimit: some
// KiB of gzip can hold a GiB.
func NewGunzip(r io.Reader, d Disk) (*unwrap.Reader, error) {
	field := memberField(d.File)
	if d.Capacity < 0 {
		return nil, failure(diskimage.ErrLimit, field, -1, "is compressed, and the descriptor does not say how large the disk is")
	}
	// No format takes more than a sixteenth for its tables; snapshots would.
	most := d.Capacity + d.Capacity/16 + 64<<20
	if most < 0 {
		most = 1<<63 - 1
	}
	return unwrap.NewReader(r, unwrap.Options{Kind: unwrap.Gzip, Limit: most, Format: Name, Field: field})
}
