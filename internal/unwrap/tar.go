package unwrap

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"

	"github.com/diskimage-go/diskimage"
)

// A Tar reads one file of a tar archive, front to back: what Google Compute
// Engine exports and imports is disk.raw in a tar.gz, most often in GNU tar's
// format for sparse files, which is read with the others. It is not safe for
// concurrent use.
//
// Errors are ErrTruncated where the archive ends too early, ErrCorrupt where it
// is damaged, ErrUnsupported for what it holds, and the input's own.
type Tar struct {
	in     *tar.Reader
	member string // the one that was asked for, if any
	found  *tar.Header
	left   int64
}

// NewTar goes to the file of the name member in the archive that r gives, or
// to the first there is where that is empty.
func NewTar(r io.Reader, member string) (*Tar, error) {
	t := &Tar{in: tar.NewReader(r), member: member}
	for {
		h, err := t.next()
		switch {
		case err == io.EOF && member != "":
			return nil, tarFailure(diskimage.ErrUnsupported, "", "the archive holds no file "+diskimage.Quote(member))
		case err == io.EOF:
			return nil, tarFailure(diskimage.ErrUnsupported, "", "the archive holds no file")
		case err != nil:
			return nil, err
		case member != "" && h.Name != member:
			continue
		case h.Typeflag != tar.TypeReg && h.Typeflag != tar.TypeGNUSparse:
			return nil, tarFailure(diskimage.ErrUnsupported, h.Name, "it is a link or a device, which is not followed")
		}
		t.found, t.left = h, h.Size
		return t, nil
	}
}

// Name returns the file's name, which is not to be trusted.
func (t *Tar) Name() string { return t.found.Name }

// Size returns the file's length in bytes.
func (t *Tar) Size() int64 { return t.found.Size }

// Read reads the file.
func (t *Tar) Read(p []byte) (int, error) {
	n, err := t.in.Read(p)
	if t.left -= int64(n); err == io.EOF && t.left > 0 {
		err = io.ErrUnexpectedEOF
	}
	return n, t.fault(err)
}

// Finish reads what comes behind the file. Another file there is an error
// unless the one was asked for by its name.
func (t *Tar) Finish() error {
	for {
		h, err := t.next()
		switch {
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		case t.member == "":
			return tarFailure(diskimage.ErrUnsupported, h.Name, fmt.Sprintf("the archive holds it besides %s: say which is the disk (--disk NAME)", diskimage.Quote(t.Name())))
		}
	}
}

// next goes to the next member that is no folder.
func (t *Tar) next() (*tar.Header, error) {
	for {
		h, err := t.in.Next()
		if err != nil {
			return nil, t.fault(err)
		}
		if h.Typeflag != tar.TypeDir && h.Typeflag != tar.TypeXGlobalHeader {
			return h, nil
		}
	}
}

// fault says what is wrong with the archive; errors of the input are their own.
func (t *Tar) fault(err error) error {
	name := ""
	if t.found != nil {
		name = t.found.Name
	}
	switch {
	case err == nil, err == io.EOF:
		return err
	case errors.Is(err, io.ErrUnexpectedEOF):
		return tarFailure(diskimage.ErrTruncated, name, "the archive ends too early")
	case errors.Is(err, tar.ErrHeader), errors.Is(err, tar.ErrFieldTooLong):
		e := tarFailure(diskimage.ErrCorrupt, name, "the archive is damaged")
		e.Err = err
		return e
	}
	return err
}

func tarFailure(kind diskimage.ErrorKind, member, msg string) *diskimage.Error {
	e := &diskimage.Error{Kind: kind, Format: "tar", Off: -1, Msg: msg}
	if member != "" {
		e.Field = "member " + diskimage.Quote(member)
	}
	return e
}
