// Package spool keeps what a pipe gives in a temporary file, for random access.
//
// The file has no name for longer than the moment in which it is made, so that
// nothing is left of it however the program ends: unlinked at once where an
// open file can be, and on Windows removed by the system when it is closed.
package spool

import (
	"bufio"
	"context"
	"io"
	"os"

	"github.com/diskimage-go/diskimage/internal/hostfile"
	"github.com/diskimage-go/diskimage/internal/zero"
)

// block is what is left out of the file where it is all zeros, in whole and
// aligned: that of most file systems.
const block = 4096

// Fill copies r to a temporary file in the folder dir, "" being the system's
// own for such files, and returns it. Closing it removes it. Zeros become
// holes. Errors of the file are *fs.PathError; a full file system is one.
//
// The context is asked between reads: r itself has to end one that waits.
func Fill(ctx context.Context, r io.Reader, dir string) (*hostfile.File, error) {
	f, err := create(dir)
	if err != nil {
		return nil, err
	}
	src, err := fill(ctx, r, f)
	if err != nil {
		f.Close()
		return nil, err
	}
	return src, nil
}

func fill(ctx context.Context, r io.Reader, f *os.File) (*hostfile.File, error) {
	w := &sparseWriter{ctx: ctx, f: f}
	b := bufio.NewWriterSize(w, 1<<20) // so that blocks are aligned
	if _, err := b.ReadFrom(r); err != nil {
		return nil, err
	}
	if err := b.Flush(); err != nil {
		return nil, err
	}
	if err := f.Truncate(w.off); err != nil {
		return nil, err
	}
	return hostfile.New(f)
}

// A sparseWriter writes to a new file all but blocks of zeros.
type sparseWriter struct {
	ctx context.Context
	f   *os.File
	off int64
}

func (w *sparseWriter) Write(p []byte) (n int, err error) {
	for n < len(p) {
		if w.ctx.Err() != nil {
			return n, context.Cause(w.ctx)
		}
		run, isZero := zero.Run(p[n:], block)
		if !isZero {
			if _, err := w.f.WriteAt(p[n:n+run], w.off); err != nil {
				return n, err
			}
		}
		n += run
		w.off += int64(run)
	}
	return n, nil
}
