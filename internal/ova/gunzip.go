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
	return unwrap.NewReader(r, unwrap.Options{Kind: unwrap.Gzip, Limit: unwrap.FileLimit(d.Capacity), Format: Name, Field: field})
}
