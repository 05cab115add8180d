package convert

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/diskimage-go/diskimage"
)

// ToWriter converts src into out, which cannot seek: standard output, a pipe,
// a network connection. The bytes are those that ToFile writes.
//
// A format that has bytes at its front which are known last (QCOW2's header)
// takes two passes: the first computes them and writes nothing, the second
// emits the image in order. Both read the source; if it changed in between,
// that is found at the end and is an error, and what was emitted is no image.
// These bytes are held in memory: a cluster of QCOW2; the tables in front of a
// monolithicSparse VMDK, at most 512 MiB. A streamOptimized VMDK has none and
// takes one pass.
//
// The digests of a package that src lies in are verified beside the first pass:
// before anything is emitted where there are two, else by the end, and then
// too what was emitted is not to be used after an error.
func ToWriter(ctx context.Context, out io.Writer, src diskimage.VirtualDisk, o Options) (*Report, error) {
	if o.Verify {
		return nil, errVerifyPipe
	}
	if o.several() {
		return nil, errSeveral(o)
	}
	r, err := newRun(src, nil, o)
	if err != nil {
		return nil, err
	}
	if err := r.check(); err != nil {
		return nil, err
	}
	var front frontCatcher
	probe, err := newWriter(r.metered(&front), r.targetSize(), r.o)
	if err != nil {
		return nil, err
	}
	if n := prefix(probe); n > 0 {
		front.bytes = make([]byte, n)
		r.phase = Planning
		if err := r.convert(ctx, probe); err != nil {
			return nil, err
		}
		r.rep, r.lost = Report{}, losses{}
	} else if err := probe.Abort(); err != nil {
		return nil, err
	}
	r.phase, r.inTurn = Converting, true
	e := &emitter{w: r.digested(out), front: front.bytes}
	if err := e.emit(front.bytes); err != nil {
		return nil, err
	}
	w, err := newWriter(r.metered(e), r.targetSize(), r.o)
	if err != nil {
		return nil, err
	}
	if err := r.convert(ctx, w); err != nil {
		return nil, err
	}
	if e.at != front.end && len(front.bytes) > 0 {
		return nil, errChangedBetween
	}
	r.piped(e)
	return r.report(), nil
}

// StreamToWriter is ToWriter for a source that is read once, front to back: it
// takes formats of one pass, which are raw and streamOptimized VMDK, and
// refuses others as [diskimage.ErrUnsupported]. A VMDK also needs a source that
// knows its size.
func StreamToWriter(ctx context.Context, out io.Writer, src diskimage.Stream, o Options) (*Report, error) {
	if o.Verify {
		return nil, errVerifyPipe
	}
	if o.several() {
		return nil, errSeveral(o)
	}
	r, err := newRun(nil, src, o)
	if err != nil {
		return nil, err
	}
	if err := r.check(); err != nil {
		return nil, err
	}
	r.inTurn = true
	e := &emitter{w: r.digested(out)}
	w, err := newWriter(r.metered(e), r.targetSize(), r.o)
	if err != nil {
		return nil, err
	}
	if prefix(w) > 0 {
		err := &diskimage.Error{Kind: diskimage.ErrUnsupported, Format: r.o.Format.String(), Off: -1,
			Msg: "what such an image begins with is known last, so that from a stream it goes into a file, not into a pipe; or read the source with random access (--spool)"}
		return nil, errors.Join(err, w.Abort())
	}
	if err := r.convert(ctx, w); err != nil {
		return nil, err
	}
	r.piped(e)
	return r.report(), nil
}

// metered returns out, held against the limit on the output's size.
func (r *run) metered(out diskimage.Output) diskimage.Output {
	return &meter{out: out, allowed: newAllowance(r.o.MaxOutputSize)}
}

var errVerifyPipe = errors.New("convert: a pipe cannot be read back to be verified")

func errSeveral(o Options) error {
	return fmt.Errorf("convert: a %v image consists of several files, which cannot go into one pipe; a streamOptimized or a monolithicSparse one can", o.VMDK.Subformat)
}

var errChangedBetween error = &diskimage.Error{Kind: diskimage.ErrChanged, Off: -1,
	Msg: "the source changed between the two passes: what was emitted is no image"}

// prefix returns how many of an image's first bytes its writer writes last.
func prefix(w diskimage.Writer) int64 {
	if p, ok := w.(diskimage.Prefixer); ok {
		return p.Prefix()
	}
	return 0
}

// A frontCatcher keeps an image's first bytes and forgets the others.
type frontCatcher struct {
	mu    sync.Mutex
	bytes []byte
	end   int64 // of the image
}

func (f *frontCatcher) WriteAt(p []byte, off int64) (int, error) {
	f.mu.Lock() // Stores are concurrent
	defer f.mu.Unlock()
	if off < int64(len(f.bytes)) {
		copy(f.bytes[off:], p)
	}
	f.end = max(f.end, off+int64(len(p)))
	return len(p), nil
}

// An emitter passes writes that come in order to an io.Writer, with zeros
// between them. The first bytes, which come last, went out before.
type emitter struct {
	w     io.Writer
	front []byte
	at    int64
}

func (e *emitter) emit(p []byte) error {
	n, err := e.w.Write(p)
	e.at += int64(n)
	return err
}

func (e *emitter) WriteAt(p []byte, off int64) (int, error) {
	if off < int64(len(e.front)) {
		if end := off + int64(len(p)); end > int64(len(e.front)) || string(e.front[off:end]) != string(p) {
			return 0, errChangedBetween
		}
		return len(p), nil
	}
	if off < e.at {
		return 0, fmt.Errorf("convert: a write at %d after one that ended at %d", off, e.at)
	}
	for e.at < off {
		if err := e.emit(zeros[:min(off-e.at, int64(len(zeros)))]); err != nil {
			return 0, err
		}
	}
	if err := e.emit(p); err != nil {
		return 0, err
	}
	return len(p), nil
}
