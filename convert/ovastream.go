package convert

import (
	"context"
	"io"
	"slices"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/internal/ova"
	"github.com/diskimage-go/diskimage/internal/unwrap"
)

// A streamOpener opens an image that comes front to back. size is its file's
// length, -1 where that is not known.
type streamOpener func(ctx context.Context, r io.Reader, size int64, o OpenOptions) (diskimage.Stream, error)

// openPackageStream shows a disk in the OVA that r gives. What is inside is
// opened by open. Closing the stream closes what open was given no more than
// r itself: that is left to the caller.
func openPackageStream(ctx context.Context, r io.Reader, o OpenOptions, open streamOpener) (diskimage.Stream, error) {
	p, err := ova.NewReader(r, ova.Options{Salvage: o.Salvage})
	if err != nil {
		return nil, err
	}
	d, err := p.Find(o.Member)
	if err != nil {
		return nil, err
	}
	file, size, err := p.Disk(d)
	if err != nil {
		return nil, err
	}
	s := &packageStream{p: p, d: d, file: file}
	if d.Compressed {
		if s.zip, err = ova.NewGunzip(file, d); err != nil {
			return nil, err
		}
		s.file, size = s.zip, -1
	}
	var declared Format
	declared, s.said = packedFormat(d)
	o.Format, o.RawAnyway, o.Name, o.Member, o.Opener = declared, false, d.File, "", nil
	if s.Stream, err = open(ctx, s.file, size, o); err != nil {
		return nil, inMember(d.File, err)
	}
	return s, nil
}

// A packageStream is a disk in an OVA that comes front to back. Where the disk
// ends the rest of the package is read, and held against the manifest: until
// then nothing that was read is known to be good.
type packageStream struct {
	diskimage.Stream
	p    *ova.Reader
	d    ova.Disk
	file io.Reader
	zip  *unwrap.Reader // nil: the file is not compressed
	said []diskimage.Note
	err  error // what ended the stream
}

var (
	_ diskimage.Unsorted = (*packageStream)(nil)
	_ diskimage.Noter    = (*packageStream)(nil)
)

// AnyOrder asks the same of the stream inside; one that has an order keeps it.
func (s *packageStream) AnyOrder() {
	if u, ok := s.Stream.(diskimage.Unsorted); ok {
		u.AnyOrder()
	}
}

func (s *packageStream) NextBlock(buf []byte) (diskimage.Block, error) {
	if s.err != nil {
		return diskimage.Block{}, s.err
	}
	b, err := s.Stream.NextBlock(buf)
	if err == io.EOF {
		err = s.finish()
	} else if err != nil {
		err = inMember(s.d.File, err)
	}
	s.err = err
	return b, err
}

// finish returns io.EOF if what is left of the package is as it must be.
func (s *packageStream) finish() error {
	if _, err := io.Copy(io.Discard, s.file); err != nil { // the end of gzip's data has its checksum
		return err
	}
	if err := s.p.Finish(); err != nil {
		return err
	}
	return io.EOF
}

// Notes returns what was noted of the package and the disk so far.
func (s *packageStream) Notes() []diskimage.Note {
	notes := append(s.p.Notes(), s.said...)
	if s.zip != nil {
		notes = append(notes, s.zip.Notes()...)
	}
	return slices.Concat(notes, diskimage.NotesOf(s.Stream))
}
