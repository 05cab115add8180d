package qcow2

import (
	"fmt"
	"slices"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/internal/units"
)

// A unitReader reads compressed clusters. It is safe for concurrent use.
type unitReader struct {
	src         diskimage.Source
	clusterSize int64
	encoding    diskimage.Encoding
	units       units.Reader
}

func (u *unitReader) init(src diskimage.Source, clusterSize int64, encoding diskimage.Encoding) {
	u.src, u.clusterSize, u.encoding = src, clusterSize, encoding
	u.units.Init(clusterSize)
}

// read fills p with guest bytes of one compressed cluster: those at the guest
// offset off, which m maps.
func (u *unitReader) read(p []byte, off int64, m mapping) error {
	within := off & (u.clusterSize - 1)
	guest := off - within
	return u.units.Read(p, within, units.Key{Guest: guest, Host: m.host, HostLen: m.hostLen}, func(b *units.Buffer, dst []byte) error {
		stream, err := u.readStream(b.Stored, m, guest)
		if err != nil {
			return err
		}
		b.Stored = stream
		if _, err := b.Decoder.Decode(dst, stream, u.encoding); err != nil {
			return u.undecodable(m, guest, err)
		}
		return nil
	})
}

// readStream reads what holds the stream of the guest cluster at guest, using
// buf's memory if it is large enough.
func (u *unitReader) readStream(buf []byte, m mapping, guest int64) ([]byte, error) {
	buf = slices.Grow(buf[:0], int(m.hostLen))[:m.hostLen] // at most 4 MiB, and inside the file
	if err := readFull(u.src, buf, m.host, "compressed cluster"); err != nil {
		return nil, within(err, "guest offset %#x", guest)
	}
	return buf, nil
}

// undecodable returns the error for a stream that is not one. If the file ends
// where it should go on it was cut off, as far as one can tell.
func (u *unitReader) undecodable(m mapping, guest int64, err error) error {
	kind := diskimage.ErrCorrupt
	if m.cut {
		kind = diskimage.ErrTruncated
	}
	return &diskimage.Error{Kind: kind, Format: Name, Off: m.host, Field: "compressed cluster",
		Msg: fmt.Sprintf("guest offset %#x: %d bytes do not hold the %d of a cluster", guest, m.hostLen, u.clusterSize), Err: err}
}
