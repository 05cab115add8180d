package vmdk

import (
	"bytes"
	"context"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage/internal/disktest"
)

// FuzzWriter holds every image of one file against this package's own reader:
// sound, of the same content, and the same bytes however many batches are in
// flight.
func FuzzWriter(f *testing.F) {
	for seed := range uint64(12) {
		f.Add(seed, uint8(seed), seed%2 == 0, uint8(seed*5%11), uint8(10-seed%11), uint32(1+seed*200_003))
	}
	f.Fuzz(func(t *testing.T, seed uint64, grain uint8, compressed bool, zeros, soft uint8, size uint32) {
		o := WriterOptions{Size: int64(1 + size%(5<<20)), Adapter: AdapterType(seed % 4)}
		if compressed {
			o.Subformat, o.Level = StreamOptimized, int(seed%3)
		} else {
			o.GrainSize, o.ZeroedGrains = 4<<10<<(grain%10), seed%2 == 0
		}
		o.AllocateZeros = seed%5 == 0
		guest := guestData(o.Size, min(max(4<<10, o.GrainSize), 64<<10), mix{int(zeros % 11), int(soft % 11)}, seed)
		img := build(t, o, guest)
		many := record(t, o)
		_, err := drive(many, o, guest, 3, seed)
		require.NoError(t, err)
		require.True(t, bytes.Equal(img, many.whole(t)), "the bytes depend on the order")

		d, err := Open(context.Background(), source(img), Options{})
		require.NoError(t, err)
		defer d.Close()
		require.NoError(t, d.CheckMap())
		require.Equal(t, roundUp(o.Size, sectorSize), d.Size())
		got := make([]byte, len(guest))
		_, err = d.ReadAt(got, 0)
		require.NoError(t, err)
		require.True(t, bytes.Equal(guest, got), "the content differs")
		require.Empty(t, d.Notes())
	})
}

// What is written conforms to the laws of disks when it is read.
func TestWriterConforms(t *testing.T) {
	for _, o := range []WriterOptions{{}, {GrainSize: 4 << 10}, {Subformat: StreamOptimized}} {
		guest := guestData(3<<20+512, 4<<10, mix{6, 3}, 29)
		if o.Subformat == StreamOptimized && !testing.Short() {
			guest = slices.Concat(make([]byte, 32<<20), guest) // a second table
		}
		img := build(t, o, guest)
		d, err := Open(context.Background(), source(img), Options{})
		require.NoError(t, err)
		disktest.Conform(t, d, guest)
		require.NoError(t, d.Close())
	}
}
