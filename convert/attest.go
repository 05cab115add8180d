package convert

import (
	"context"
	"errors"

	"golang.org/x/sync/errgroup"

	"github.com/diskimage-go/diskimage"
)

// attested runs move, and beside it holds the source's file against the
// checksums of the container that it lies in, if it does. Whichever fails ends
// the other.
func (r *run) attested(ctx context.Context, move func(context.Context) error) error {
	a, ok := r.disk.(diskimage.Attester)
	if !ok {
		return move(ctx)
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		err := a.Attest(ctx)
		if r.o.Salvage && errors.Is(err, diskimage.ErrCorrupt) {
			if r.phase == Converting { // not in both passes
				r.note("%v", err)
			}
			return nil
		}
		return err
	})
	g.Go(func() error { return move(ctx) })
	return g.Wait()
}
