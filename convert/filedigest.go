package convert

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"maps"
	"slices"

	"github.com/diskimage-go/diskimage"
)

// A WrittenFile is a file of an image that was written.
type WrittenFile struct {
	Name   string // its plain name; "" for an Output or a pipe that has none
	Size   int64  // bytes
	SHA256 []byte // of all of them
}

var errNoFileDigest = errors.New("convert: an output that cannot be read back has no digest of its bytes, which do not come in their order")

// digestFiles reads again what was written: the image's own file, which is of
// this name, and those that it names.
func (r *run) digestFiles(ctx context.Context, w *written, name string) error {
	if !r.o.FileDigest {
		return nil
	}
	if err := r.digestFile(ctx, w.meter, name); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(w.files)) {
		if err := r.digestFile(ctx, w.files[name], name); err != nil {
			return err
		}
	}
	return nil
}

func (r *run) digestFile(ctx context.Context, m *meter, name string) error {
	src, err := m.source()
	if err != nil {
		return err
	}
	h := sha256.New()
	p := make([]byte, diskimage.BatchSize)
	for off := int64(0); off < src.Size(); {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		q := p[:min(int64(len(p)), src.Size()-off)]
		n, err := src.ReadAt(q, off)
		if n < len(q) {
			return fmt.Errorf("convert: cannot read the output back: %d bytes at %#x: %w", len(q), off, err)
		}
		h.Write(q)
		off += int64(n)
	}
	r.files = append(r.files, WrittenFile{name, src.Size(), h.Sum(nil)})
	return nil
}

// A digestWriter hashes what goes into a pipe.
type digestWriter struct {
	io.Writer
	sum hash.Hash
}

// digested returns out, hashed on the way if that is asked for.
func (r *run) digested(out io.Writer) io.Writer {
	if !r.o.FileDigest {
		return out
	}
	return &digestWriter{out, sha256.New()}
}

func (d *digestWriter) Write(p []byte) (int, error) {
	n, err := d.Writer.Write(p)
	d.sum.Write(p[:n])
	return n, err
}

// piped accounts for what an emitter has emitted.
func (r *run) piped(e *emitter) {
	r.written = e.at
	if d, ok := e.w.(*digestWriter); ok {
		r.files = []WrittenFile{{Size: e.at, SHA256: d.sum.Sum(nil)}}
	}
}
