// Package imagefile writes the files that an image consists of: what a writer's
// Place has given a place, its Store writes in few calls.
package imagefile

import (
	"context"
	"fmt"
	"io"

	"github.com/diskimage-go/diskimage"
)

// A File is one of an image's files. Its methods are safe for concurrent use as
// far as its Output's are.
type File struct {
	out        diskimage.Output
	format     string
	zeroFilled bool
}

// New returns the File for an output. Errors begin with format, the format's
// name.
func New(format string, out diskimage.Output) File {
	f := File{out: out, format: format}
	if z, ok := out.(diskimage.ZeroFiller); ok {
		f.zeroFilled = z.ZeroFilled()
	}
	return f
}

// ZeroFilled reports whether what is never written reads as zeros.
func (f *File) ZeroFilled() bool { return f.zeroFilled }

// Truncates reports whether the length can be set.
func (f *File) Truncates() bool {
	_, ok := f.out.(diskimage.Truncater)
	return ok
}

// WriteAt writes all of data.
func (f *File) WriteAt(ctx context.Context, data []byte, off int64) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	n, err := f.out.WriteAt(data, off)
	if err == nil && n != len(data) {
		err = fmt.Errorf("%w: %d bytes", io.ErrShortWrite, n)
	}
	if err != nil {
		return fmt.Errorf("%s: writing %d bytes at %#x: %w", f.format, len(data), off, err)
	}
	return nil
}

// Truncate sets the length if that can be done.
func (f *File) Truncate(length int64) error {
	t, ok := f.out.(diskimage.Truncater)
	if !ok {
		return nil
	}
	if err := t.Truncate(length); err != nil {
		return fmt.Errorf("%s: setting the length to %d: %w", f.format, length, err)
	}
	return nil
}

// Close sets the length and syncs the file, if either can be done.
func (f *File) Close(ctx context.Context, length int64) error {
	if err := f.Truncate(length); err != nil {
		return err
	}
	return f.Sync(ctx)
}

// Sync syncs the file if that can be done.
func (f *File) Sync(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s, ok := f.out.(diskimage.Syncer)
	if !ok {
		return nil
	}
	if err := s.Sync(); err != nil {
		return fmt.Errorf("%s: syncing: %w", f.format, err)
	}
	return nil
}
