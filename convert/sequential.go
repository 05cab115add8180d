package convert

import (
	"context"

	"github.com/diskimage-go/diskimage"
)

// sequential is the pipeline as one loop.
func sequential(ctx context.Context, src feed, w diskimage.Writer, inOrder func(*job) error, done func(*job)) error {
	j := &job{Batch: w.NewBatch()}
	own := newWorker()
	for {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		if ok, err := src.plan(j); err != nil || !ok {
			return err
		}
		if err := src.fill(ctx, j, own); err != nil {
			return err
		}
		if err := inOrder(j); err != nil {
			return err
		}
		if err := w.Encode(j.Batch); err != nil {
			return err
		}
		if err := w.Place(j.Batch); err != nil {
			return err
		}
		if err := w.Store(ctx, j.Batch); err != nil {
			return err
		}
		done(j)
		j.seq++
	}
}
