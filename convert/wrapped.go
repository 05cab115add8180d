package convert

import (
	"bufio"
	"context"
	"errors"
	"io"
	"path"
	"slices"
	"strings"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/internal/ova"
	"github.com/diskimage-go/diskimage/internal/spool"
	"github.com/diskimage-go/diskimage/internal/unwrap"
)

// wrapperNames are the ends of names that say that the image has to be
// unwrapped.
var wrapperNames = []string{".gz", ".tgz", ".zst", ".tzst", ".tar"}

// Wrapped returns what the image in src is wrapped in, "gzip", "zstd" or
// "tar", if o says that it is to be unwrapped, and else "". Such an image is
// read by [OpenStream], and by [Open] from a copy in the folder o.Spool.
func Wrapped(src diskimage.Source, o OpenOptions) (string, error) {
	if !o.unwraps() {
		return "", nil
	}
	prefix := make([]byte, min(src.Size(), prefixLen))
	if err := readFull(src, prefix, 0); err != nil {
		return "", err
	}
	return o.wrapper(prefix), nil
}

// unwraps reports whether an image that is wrapped is to be unwrapped.
func (o *OpenOptions) unwraps() bool {
	switch {
	case o.unwrapped, o.Format == Raw && o.RawAnyway:
		return false
	}
	return o.Unwrap || slices.Contains(wrapperNames, strings.ToLower(path.Ext(o.Name)))
}

// wrapper returns what is to be taken off a file that begins with prefix.
func (o *OpenOptions) wrapper(prefix []byte) string {
	if !o.unwraps() {
		return ""
	}
	if kind := unwrap.Probe(prefix); kind != unwrap.None {
		return kind.String()
	}
	if isTar(prefix) && !ova.Probe(prefix) {
		return tarName
	}
	return ""
}

func isTar(prefix []byte) bool {
	return slices.ContainsFunc(signatures, func(s signature) bool { return s.name == tarName && s.matches(prefix) })
}

// An unwrapped is the file that is left when what is around it is taken off:
// one compression, one archive, or an archive that is compressed.
type unwrapped struct {
	io.Reader
	size    int64          // of the file, -1 where that is not known
	packed  *unwrap.Reader // nil: not compressed
	archive *unwrap.Tar    // nil: in none
}

// takeOff takes off r what is around an image, and returns with it the options
// with which what is left is opened.
func takeOff(r io.Reader, o OpenOptions) (*unwrapped, OpenOptions, error) {
	b := bufio.NewReaderSize(r, prefixLen)
	prefix, err := b.Peek(prefixLen)
	if err != nil && err != io.EOF {
		return nil, o, err
	}
	u := &unwrapped{Reader: b, size: -1}
	if what := o.wrapper(prefix); what != tarName {
		var limit unwrap.Options
		if o.MaxVirtualSize > 0 {
			limit.Limit = unwrap.FileLimit(o.MaxVirtualSize)
		}
		if u.packed, err = unwrap.NewReader(b, limit); err != nil {
			return nil, o, err
		}
		b = bufio.NewReaderSize(u.packed, prefixLen)
		u.Reader = b
		if prefix, err = b.Peek(prefixLen); err != nil && err != io.EOF {
			return nil, o, errors.Join(err, u.Close())
		}
	}
	inner := o
	inner.unwrapped, inner.Name = true, strings.TrimSuffix(o.Name, path.Ext(o.Name))
	if isTar(prefix) && !ova.Probe(prefix) {
		if u.archive, err = unwrap.NewTar(b, o.Member); err != nil {
			return nil, o, errors.Join(err, u.Close())
		}
		u.Reader, u.size = u.archive, u.archive.Size()
		inner.Member, inner.Name = "", path.Base(u.archive.Name())
	}
	return u, inner, nil
}

// finish reads what comes behind the file, which holds the checksums of all
// that was read.
func (u *unwrapped) finish() error {
	if _, err := io.Copy(io.Discard, u.Reader); err != nil {
		return err
	}
	if u.archive != nil {
		if err := u.archive.Finish(); err != nil {
			return err
		}
	}
	if u.packed != nil {
		if _, err := io.Copy(io.Discard, u.packed); err != nil {
			return err
		}
	}
	return nil
}

// Notes returns what was noted so far.
func (u *unwrapped) Notes() []diskimage.Note {
	if u.packed == nil {
		return nil
	}
	return u.packed.Notes()
}

// Close gives memory back.
func (u *unwrapped) Close() error {
	if u.packed == nil {
		return nil
	}
	return u.packed.Close()
}

// openUnwrappedStream shows the image that lies wrapped in what r gives. Closing
// the stream leaves r open.
func openUnwrappedStream(ctx context.Context, r io.Reader, o OpenOptions) (diskimage.Stream, error) {
	u, inner, err := takeOff(r, o)
	if err != nil {
		return nil, err
	}
	s, err := openStream(ctx, u, u.size, inner, false)
	if err != nil {
		return nil, errors.Join(err, u.Close())
	}
	return &enclosedStream{
		Stream: s,
		finish: u.finish,
		notes:  u.Notes,
		within: func(err error) error { return err },
		close:  u.Close,
	}, nil
}

// An UnwrappedFile is the copy of a file that was wrapped. It is gone when it is
// closed, and however the program ends.
type UnwrappedFile struct {
	diskimage.Source
	file  io.Closer
	notes []diskimage.Note
}

// Notes returns what was noted of what was around the file.
func (f *UnwrappedFile) Notes() []diskimage.Note { return slices.Clone(f.notes) }

// Close removes the copy.
func (f *UnwrappedFile) Close() error { return f.file.Close() }

// UnwrapFile returns a copy of the file that lies wrapped in src, in the folder
// o.Spool, and the options with which [Open] shows it: o with what is known of
// it. It returns nil if o does not say that src is to be unwrapped, or it is not
// wrapped. src is left open, and needed no more.
func UnwrapFile(ctx context.Context, src diskimage.Source, o OpenOptions) (*UnwrappedFile, OpenOptions, error) {
	what, err := Wrapped(src, o)
	if what == "" || err != nil {
		return nil, o, err
	}
	if o.Spool == "" {
		return nil, o, &diskimage.Error{Kind: diskimage.ErrUnsupported, Off: -1,
			Msg: "the image is wrapped in " + what + ", which is read front to back, or from a copy in a folder for such files (--spool)"}
	}
	u, inner, err := takeOff(io.NewSectionReader(src, 0, src.Size()), o)
	if err != nil {
		return nil, o, err
	}
	file, err := spool.Fill(ctx, u, o.Spool)
	if err == nil {
		err = u.finish()
	}
	notes := u.Notes()
	if err = errors.Join(err, u.Close()); err != nil {
		if file != nil {
			err = errors.Join(err, file.Close())
		}
		return nil, o, err
	}
	return &UnwrappedFile{file, file, notes}, inner, nil
}

// openUnwrapped shows the image in the copy of what lay wrapped in src.
func openUnwrapped(ctx context.Context, src diskimage.Source, file *UnwrappedFile, o OpenOptions, notes []diskimage.Note) (diskimage.VirtualDisk, error) {
	d, err := open(ctx, file, o, 0, notes)
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	if c, ok := src.(io.Closer); ok { // the copy is what is read now
		if err := c.Close(); err != nil {
			return nil, errors.Join(err, d.Close())
		}
	}
	return d, nil
}
