package vmdk

import (
	"context"
	"fmt"

	"github.com/diskimage-go/diskimage"
)

// An outFile is one of the files that an image consists of.
type outFile struct {
	out        diskimage.Output
	zeroFilled bool // what is never written reads as zeros

	end int64 // its length, as far as space was given: of Place and Finish
}

func newOutFile(out diskimage.Output) *outFile {
	f := &outFile{out: out}
	if z, ok := out.(diskimage.ZeroFiller); ok {
		f.zeroFilled = z.ZeroFilled()
	}
	return f
}

// A segment is bytes for one place in a file.
type segment struct {
	file  *outFile
	host  int64
	data  []byte
	zeros int64 // so many zeros, instead of data
}

const (
	stagingBytes = 256 << 10
	directBytes  = 32 << 10 // less is gathered first: copying costs less than a call
)

// write adds to what the plan's Store writes.
func (p *writePlan) write(f *outFile, host int64, data []byte) {
	if n := len(p.writes); n > 0 {
		if last := &p.writes[n-1]; last.file == f && last.host+int64(len(last.data)) == host && follows(last.data, data) {
			last.data = last.data[:len(last.data)+len(data)]
			return
		}
	}
	p.writes = append(p.writes, segment{file: f, host: host, data: data})
}

// writeZeros is write for n zeros, which may be very many.
func (p *writePlan) writeZeros(f *outFile, host, n int64) {
	p.writes = append(p.writes, segment{file: f, host: host, zeros: n})
}

// Store writes the batch. It is safe for concurrent use on different batches.
func (w *Writer) Store(ctx context.Context, b *diskimage.Batch) error {
	p, err := w.plan(b, planPlaced)
	if err != nil {
		return err
	}
	if err := p.store(ctx); err != nil {
		return w.fail(err)
	}
	w.stored.Add(1)
	p.step = planEmpty
	return nil
}

// store writes the plan's segments in few calls: small ones that follow each
// other are gathered.
func (p *writePlan) store(ctx context.Context) error {
	var into segment // what is gathered
	into.data = p.staging[:0]
	flush := func() error {
		if len(into.data) == 0 {
			return nil
		}
		err := into.file.writeAt(ctx, into.data, into.host)
		into.data = into.data[:0]
		return err
	}
	for _, s := range p.writes {
		direct := len(s.data) >= directBytes || s.zeros > 0
		if direct || into.file != s.file || into.host+int64(len(into.data)) != s.host || len(into.data)+len(s.data) > stagingBytes {
			if err := flush(); err != nil {
				return err
			}
		}
		if direct {
			if err := s.store(ctx); err != nil {
				return err
			}
			continue
		}
		if len(into.data) == 0 {
			into.file, into.host = s.file, s.host
		}
		into.data = append(into.data, s.data...)
	}
	err := flush()
	p.staging = into.data
	return err
}

// zeroBytes are written where a segment is zeros, and are never written to.
var zeroBytes [1 << 20]byte

// store writes the segment by itself.
func (s segment) store(ctx context.Context) error {
	if s.zeros == 0 {
		return s.file.writeAt(ctx, s.data, s.host)
	}
	for at := int64(0); at < s.zeros; {
		n := min(s.zeros-at, int64(len(zeroBytes)))
		if err := s.file.writeAt(ctx, zeroBytes[:n], s.host+at); err != nil {
			return err
		}
		at += n
	}
	return nil
}

// writeAt writes one piece of the file.
func (f *outFile) writeAt(ctx context.Context, data []byte, host int64) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	n, err := f.out.WriteAt(data, host)
	if err == nil && n != len(data) {
		err = fmt.Errorf("%d bytes written", n)
	}
	if err != nil {
		return fmt.Errorf(Name+": writing %d bytes at %#x: %w", len(data), host, err)
	}
	return nil
}

// finishFiles writes what is left of the image, sets the lengths of its files,
// and writes the first file's prefix.
func (w *Writer) finishFiles(ctx context.Context) error {
	p := &writePlan{w: w}
	front, err := w.finish(p)
	if err != nil {
		return err
	}
	if err := p.store(ctx); err != nil {
		return err
	}
	for _, f := range w.files {
		if err := f.close(ctx); err != nil {
			return err
		}
	}
	if len(front) == 0 {
		return nil
	}
	if err := w.files[0].writeAt(ctx, front, 0); err != nil {
		return err
	}
	return w.files[0].sync(ctx)
}

// close sets the file's length and syncs it, if either can be done.
func (f *outFile) close(ctx context.Context) error {
	if t, ok := f.out.(diskimage.Truncater); ok {
		if err := t.Truncate(f.end); err != nil {
			return fmt.Errorf(Name+": setting the length to %d: %w", f.end, err)
		}
	}
	return f.sync(ctx)
}

func (f *outFile) sync(ctx context.Context) error {
	s, ok := f.out.(diskimage.Syncer)
	if !ok {
		return nil
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := s.Sync(); err != nil {
		return fmt.Errorf(Name+": syncing: %w", err)
	}
	return nil
}
