package disktest

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/diskimage-go/diskimage"
	"github.com/stretchr/testify/require"
)

// checkConcurrent: readers of pieces, planners and movers of compressed units,
// 32 at once, see what one alone sees.
func checkConcurrent(t testing.TB, d diskimage.VirtualDisk, all []diskimage.Extent, want []byte) {
	t.Helper()
	if len(want) == 0 {
		return
	}
	units := storedUnits(t, d, all)
	errs := make([]error, 32)
	var wg sync.WaitGroup
	for g := range errs {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(g), 4))
			p := make([]byte, 100_000)
			buf := make([]byte, 0, 4096)
			for i := 0; i < 15 && errs[g] == nil; i++ {
				off := rnd.IntN(len(want))
				n := min(1+rnd.IntN(len(p)), len(want)-off)
				errs[g] = sameBytes(d, p[:n], want, off)
				if errs[g] == nil {
					errs[g] = sameExtent(d, all, int64(off))
				}
				if errs[g] == nil && len(units) > 0 {
					errs[g] = units[rnd.IntN(len(units))].same(d, buf)
				}
			}
		})
	}
	wg.Wait()
	for _, err := range errs {
		require.NoError(t, err, "concurrent use")
	}
}

func sameBytes(d diskimage.VirtualDisk, p, want []byte, off int) error {
	n, err := d.ReadAt(p, int64(off))
	switch {
	case n < len(p) || err != nil && err != io.EOF:
		return fmt.Errorf("ReadAt of %d bytes at %d: %d, %w", len(p), off, n, err)
	case !bytes.Equal(p, want[off:off+n]):
		return fmt.Errorf("ReadAt of %d bytes at %d: other bytes", len(p), off)
	}
	return nil
}

// sameExtent holds the extent at off against those of a walk.
func sameExtent(d diskimage.VirtualDisk, all []diskimage.Extent, off int64) error {
	e, err := d.NextExtent(off)
	if err != nil {
		return fmt.Errorf("NextExtent(%d): %w", off, err)
	}
	i, _ := slices.BinarySearchFunc(all, off, func(e diskimage.Extent, off int64) int {
		if e.End() <= off {
			return -1
		}
		return 1
	})
	whole := all[i].Clip(off, d.Size())
	n := min(e.Len, whole.Len) // either may be shorter than it could be
	if err := Check(e, off, d.Size()); err != nil || e.Clip(off, n) != whole.Clip(off, n) {
		return fmt.Errorf("NextExtent(%d) is %+v, alone it was %+v: %w", off, e, whole, err)
	}
	return nil
}

// A storedUnit is a compressed extent and what ReadStored gives of it.
type storedUnit struct {
	extent diskimage.Extent
	stored diskimage.Stored
}

// storedUnits returns some of the first layer's compressed extents.
func storedUnits(t testing.TB, d diskimage.VirtualDisk, all []diskimage.Extent) (units []storedUnit) {
	t.Helper()
	s, ok := d.(diskimage.StoredReader)
	for _, e := range all {
		if !ok || len(units) == 50 {
			break
		}
		if e.Stored != diskimage.Plain && e.Depth == 0 {
			stored, err := s.ReadStored(e, nil)
			require.NoError(t, err)
			units = append(units, storedUnit{e, stored})
		}
	}
	return units
}

func (u storedUnit) same(d diskimage.VirtualDisk, buf []byte) error {
	stored, err := d.(diskimage.StoredReader).ReadStored(u.extent, buf)
	if err != nil || stored.Exact != u.stored.Exact || stored.Adler32 != u.stored.Adler32 || !bytes.Equal(stored.Stream, u.stored.Stream) {
		return fmt.Errorf("ReadStored(%+v) differs from what it gave alone: %w", u.extent, err)
	}
	return nil
}
