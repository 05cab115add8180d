package vmdk

import (
	"context"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/internal/imagefile"
)

// An outFile is one of the files that an image consists of.
type outFile struct {
	imagefile.File
	end int64 // its length, as far as space was given: of Place and Finish
}

func newOutFile(out diskimage.Output) *outFile {
	return &outFile{File: imagefile.New(Name, out)}
}

// Store writes the batch. It is safe for concurrent use on different batches.
func (w *Writer) Store(ctx context.Context, b *diskimage.Batch) error {
	p, err := w.plan(b, planPlaced)
	if err != nil {
		return err
	}
	if err := p.writes.Store(ctx); err != nil {
		return w.fail(err)
	}
	w.stored.Add(1)
	p.step = planEmpty
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
	if err := p.writes.Store(ctx); err != nil {
		return err
	}
	for _, f := range w.files {
		if err := f.Close(ctx, f.end); err != nil {
			return err
		}
	}
	if len(front) == 0 {
		return nil
	}
	if err := w.files[0].WriteAt(ctx, front, 0); err != nil {
		return err
	}
	return w.files[0].Sync(ctx)
}
