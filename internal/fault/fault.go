// Package fault makes the errors that every format has, so that they read the
// same: format is the package's name, as [diskimage.Error] has it.
package fault

import (
	"fmt"
	"io"

	"github.com/diskimage-go/diskimage"
)

// New returns a [diskimage.Error] with what its fields say.
func New(format string, kind diskimage.ErrorKind, off int64, field, msg string, args ...any) error {
	return &diskimage.Error{Kind: kind, Format: format, Off: off, Field: field, Msg: fmt.Sprintf(msg, args...)}
}

// ReadFull fills p from offset off of src. field names what is read, in the
// error for a file that ends too early: of kind [diskimage.ErrTruncated].
func ReadFull(format string, src io.ReaderAt, p []byte, off int64, field string) error {
	n, err := src.ReadAt(p, off)
	switch {
	case n == len(p):
		return nil
	case err == nil || err == io.EOF:
		return New(format, diskimage.ErrTruncated, off, field, "the file ends at %#x, after %d of %d bytes", off+int64(n), n, len(p))
	}
	return fmt.Errorf("%s: %s: reading %d bytes at %#x: %w", format, field, len(p), off, err)
}

// Within says in err's field which object the field belongs to.
func Within(format string, err error, object string, args ...any) error {
	object = fmt.Sprintf(object, args...)
	if e, ok := err.(*diskimage.Error); ok {
		inner := *e
		inner.Field = object + ": " + e.Field
		return &inner
	}
	return fmt.Errorf("%s: %s: %w", format, object, err)
}
