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
	type file struct {
		name string
		*meter
	}
	files := []file{{name, w.meter}}
	for _, name := range slices.Sorted(maps.Keys(w.files)) {
		files = append(files, file{name, w.files[name]})
	}
	var sources []diskimage.Source
	r.phase, r.done, r.total = Hashing, 0, 0
	for _, f := range files {
		src, err := f.source()
		if err != nil {
			return err
		}
		sources = append(sources, src)
		r.total += src.Size()
	}
	for i, src := range sources {
		sum, err := r.digestFile(ctx, src)
		if err != nil {
			return err
		}
		r.files = append(r.files, WrittenFile{files[i].name, src.Size(), sum})
	}
	return nil
}

func (r *run) digestFile(ctx context.Context, src diskimage.Source) ([]byte, error) {
	h := sha256.New()
	p := make([]byte, diskimage.BatchSize)
	for off := int64(0); off < src.Size(); {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		q := p[:min(int64(len(p)), src.Size()-off)]
		n, err := src.ReadAt(q, off)
		if n < len(q) {
			return nil, fmt.Errorf("convert: cannot read the output back: %d bytes at %#x: %w", len(q), off, err)
		}
		h.Write(q)
		off += int64(n)
		r.advance(int64(n))
	}
	return h.Sum(nil), nil
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
