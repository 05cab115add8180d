package convert

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage"
)

// The concurrent pipeline gives the writer what the sequential one gives it,
// in the same order, whatever the source's map looks like.
func TestSequentialAndConcurrentAgree(t *testing.T) {
	for seed := range uint64(3) {
		size := int64(5<<20) + int64(seed)*100_001
		d := patchworkDisk(seed, size)
		for _, unit := range []int64{512, 4096, 64 << 10, 2 << 20} {
			var first *logWriter
			for _, workers := range []int{1, 2, 8} {
				w := &logWriter{unit: unit}
				rep, err := runInto(t, context.Background(), w, d, nil, Options{Workers: workers, Digest: true})
				require.NoError(t, err)
				require.True(t, w.finished)
				require.Zero(t, w.aborts)
				require.True(t, slices.IsSorted(w.placed))
				require.True(t, bytes.Equal(d.content, w.disk(size)), "seed %d unit %d workers %d", seed, unit, workers)
				sum := sha256.Sum256(d.content)
				require.Equal(t, sum[:], rep.Digest)
				require.Equal(t, size, rep.Data+rep.Zeros+rep.Holes)
				if first == nil {
					first = w
				}
				require.Equal(t, first.placed, w.placed)
			}
		}
	}
}

// A source that fails, and a writer that fails in any step: the error comes
// out, the writer is aborted once, and nobody is left running.
func TestErrorsStopThePipeline(t *testing.T) {
	before := runtime.NumGoroutine()
	for _, workers := range []int{1, 2, 8} {
		for _, step := range []string{"encode", "place", "store", "finish", "read"} {
			for _, at := range []int{0, 1, 3} {
				t.Run(fmt.Sprintf("%d workers, %s %d", workers, step, at), func(t *testing.T) {
					d := &memDisk{content: bytes.Repeat([]byte{1}, 12<<20), badFrom: -1, badTo: -1}
					d.extents = []diskimage.Extent{{Len: d.Size(), Host: -1}}
					want := errInjected
					if step == "read" {
						bad := int64(at)*(2<<20) + 1<<20 // beyond what is looked at beforehand
						d.badFrom, d.badTo, want = bad, bad+1, errBadSector
					}
					w := &logWriter{unit: 4096, failIn: step, failAt: at}
					_, err := runInto(t, context.Background(), w, d, nil, Options{Workers: workers})
					require.ErrorIs(t, err, want)
					require.Equal(t, 1, w.aborts)
					require.False(t, w.finished)
				})
			}
		}
	}
	for deadline := time.Now().Add(time.Second); runtime.NumGoroutine() > before && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	require.LessOrEqual(t, runtime.NumGoroutine(), before)
}

func TestCancelStopsThePipeline(t *testing.T) {
	why := errors.New("the user went home")
	for _, workers := range []int{1, 4} {
		ctx, cancel := context.WithCancelCause(context.Background())
		d := &memDisk{content: bytes.Repeat([]byte{1}, 32<<20), badFrom: -1, badTo: -1}
		d.extents = []diskimage.Extent{{Len: d.Size(), Host: -1}}
		d.onRead = func(off int64) {
			if off >= 4<<20 {
				cancel(why)
			}
		}
		w := &logWriter{unit: 4096}
		_, err := runInto(t, ctx, w, d, nil, Options{Workers: workers})
		require.ErrorIs(t, err, why)
		require.Equal(t, 1, w.aborts)
		require.LessOrEqual(t, d.reads.Load(), int64(3+workers), "no new work is begun")
	}
}

// Holes and zeros are not read; batches in which there is nothing are not made.
func TestHolesAreNotRead(t *testing.T) {
	d := &memDisk{content: make([]byte, 1<<30), badFrom: -1, badTo: -1}
	d.content[700<<20] = 1
	d.extents = []diskimage.Extent{
		{Off: 0, Len: 300 << 20, Kind: diskimage.Hole, Host: -1},
		{Off: 300 << 20, Len: 400 << 20, Kind: diskimage.Zero, Host: -1},
		{Off: 700 << 20, Len: 512, Host: -1},
		{Off: 700<<20 + 512, Len: 324<<20 - 512, Kind: diskimage.Hole, Host: -1},
	}
	w := &logWriter{unit: 65536}
	rep, err := runInto(t, context.Background(), w, d, nil, Options{Workers: 2})
	require.NoError(t, err)
	require.Equal(t, []int64{700 << 20}, w.placed)
	require.Equal(t, int64(3), d.reads.Load(), "front and end to see what the disk holds, and its data")
	require.Equal(t, int64(512), rep.Data)
	require.Equal(t, int64(400<<20), rep.Zeros)
}

// Salvaging replaces what cannot be read by zeros, and says so.
func TestSalvageReportsWhatIsLost(t *testing.T) {
	for _, workers := range []int{1, 4} {
		d := &memDisk{content: bytes.Repeat([]byte{7}, 9<<20), badFrom: 5<<20 + 100, badTo: 5<<20 + 9000}
		d.extents = []diskimage.Extent{{Len: d.Size(), Host: -1}}
		w := &logWriter{unit: 4096}
		rep, err := runInto(t, context.Background(), w, d, nil, Options{Workers: workers, Salvage: true})
		require.NoError(t, err)
		require.Equal(t, []Range{{5 << 20, 12288}}, rep.Unreadable)
		want := slices.Clone(d.content)
		clear(want[5<<20 : 5<<20+12288])
		require.True(t, bytes.Equal(want, w.disk(d.Size())))
	}
}

func TestProgressGrowsToItsTotal(t *testing.T) {
	d := patchworkDisk(3, 12<<20)
	var last Progress
	_, err := runInto(t, context.Background(), &logWriter{unit: 4096}, d, nil, Options{Workers: 4, Progress: func(p Progress) {
		require.GreaterOrEqual(t, p.Done, last.Done)
		last = p
	}})
	require.NoError(t, err)
	require.Positive(t, last.Total)
	require.Equal(t, last.Total, last.Done)
}

func TestOptionsOutOfRangeAreErrors(t *testing.T) {
	for _, o := range []Options{{Workers: -1}, {Workers: 257}, {Size: -1}, {AllocateZeros: true, OnlyTop: true}, {Digest: true, OnlyTop: true}} {
		_, err := newRun(patchworkDisk(1, 512), nil, o)
		require.Error(t, err)
	}
}
