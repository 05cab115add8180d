package convert

import (
	"context"
	"io"

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
	var zip *unwrap.Reader
	if d.Compressed {
		if zip, err = ova.NewGunzip(file, d); err != nil {
			return nil, err
		}
		file, size = zip, -1
	}
	declared, said := packedFormat(d)
	o.Format, o.RawAnyway, o.Name, o.Member, o.Opener = declared, false, d.File, "", nil
	s, err := open(ctx, file, size, o)
	if err != nil {
		return nil, inMember(d.File, err)
	}
	return &enclosedStream{
		Stream: s,
		within: func(err error) error { return inMember(d.File, err) },
		finish: func() error {
			if _, err := io.Copy(io.Discard, file); err != nil { // the end of gzip's data has its checksum
				return err
			}
			return p.Finish()
		},
		notes: func() []diskimage.Note {
			notes := append(p.Notes(), said...)
			if zip != nil {
				notes = append(notes, zip.Notes()...)
			}
			return notes
		},
	}, nil
}
