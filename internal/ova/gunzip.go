package ova

import (
	"bufio"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/gzip"

	"github.com/diskimage-go/diskimage"
)

// A Gunzip reads a disk's file that is compressed with gzip (RFC 1952): one or
// several gzip members. What follows them and is none is noted.
type Gunzip struct {
	in    *bufio.Reader
	z     *gzip.Reader
	field string
	left  int64 // what may still come out
	most  int64
	notes []diskimage.Note
	err   error
}

// NewGunzip returns what reads d's file from r. More than such a file can have
// for its disk's capacity is ErrLimit: some KiB of gzip can hold a GiB.
func NewGunzip(r io.Reader, d Disk) (*Gunzip, error) {
	field := memberField(d.File)
	if d.Capacity < 0 {
		return nil, failure(diskimage.ErrLimit, field, -1, "is compressed, and the descriptor does not say how large the disk is")
	}
	// No format takes more than a sixteenth for its tables; snapshots would.
	most := d.Capacity + d.Capacity/16 + 64<<20
	if most < 0 {
		most = 1<<63 - 1
	}
	g := &Gunzip{in: bufio.NewReaderSize(r, 64<<10), field: field, left: most, most: most}
	z, err := gzip.NewReader(g.in)
	if err != nil {
		return nil, g.fault(err)
	}
	g.z = z
	z.Multistream(false)
	return g, nil
}

// Notes returns what was noted so far.
func (g *Gunzip) Notes() []diskimage.Note { return g.notes }

func (g *Gunzip) Read(p []byte) (n int, err error) {
	for n == 0 && len(p) > 0 && g.err == nil {
		n, err = g.z.Read(p)
		if g.left -= int64(n); g.left < 0 {
			n, err = 0, failure(diskimage.ErrLimit, g.field, -1,
				fmt.Sprintf("unpacks to more than %d bytes, far beyond its disk's capacity", g.most))
		}
		if err == io.EOF {
			err = g.another()
		} else if err != nil {
			err = g.fault(err)
		}
		g.err = err
	}
	if n > 0 {
		return n, nil
	}
	return n, g.err
}

// another goes to the next gzip member, or returns io.EOF.
func (g *Gunzip) another() error {
	next, err := g.in.Peek(2)
	switch {
	case len(next) == 0:
		return err // io.EOF, or why there is no more
	case string(next) != "\x1f\x8b":
		g.notes = append(g.notes, note("something follows the gzip data of "+g.field+", and was not read"))
		return io.EOF
	}
	if err := g.z.Reset(g.in); err != nil {
		return g.fault(err)
	}
	g.z.Multistream(false)
	return nil
}

// fault says what is wrong with the data; errors of the input are their own.
func (g *Gunzip) fault(err error) error {
	var damaged flate.CorruptInputError
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return failure(diskimage.ErrTruncated, g.field, -1, "the gzip data ends too early")
	case errors.Is(err, gzip.ErrHeader), errors.Is(err, gzip.ErrChecksum), errors.As(err, &damaged):
		e := corrupt(g.field, -1, "the gzip data is damaged")
		e.Err = err
		return e
	}
	return err
}
