package raw_test

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/raw"
	"github.com/stretchr/testify/require"
)

// TestScatter: batches in any order, and parts of a guest range, each byte
// once, make the same image.
func TestScatter(t *testing.T) {
	disk := pattern(9*diskimage.BatchSize + 5000)
	clear(disk[diskimage.BatchSize : 3*diskimage.BatchSize])
	clear(disk[8192:12288])
	const part = 64 << 10
	var offs []int64
	for off := int64(0); off < int64(len(disk)); off += part {
		offs = append(offs, off)
	}
	for _, known := range []bool{true, false} {
		rand.Shuffle(len(offs), func(i, j int) { offs[i], offs[j] = offs[j], offs[i] })
		m := &memory{t: t} // which takes no byte twice
		o := raw.WriterOptions{Size: int64(len(disk))}
		if !known {
			o.Size = -1
		}
		w, err := raw.NewWriter(zeroFilled{m}, o)
		require.NoError(t, err)
		require.True(t, w.Scatters())
		b := w.NewBatch()
		for _, off := range offs {
			start := off &^ (diskimage.BatchSize - 1)
			fillBatch(b, disk, start, part)
			b.Blocks = []diskimage.Block{b.Blocks[(off-start)/part]}
			require.NoError(t, w.Encode(b))
			require.NoError(t, w.Place(b))
			require.NoError(t, w.Store(t.Context(), b))
		}
		if !known {
			require.NoError(t, w.SetSize(int64(len(disk))))
		}
		require.NoError(t, w.Finish(t.Context()))
		require.True(t, bytes.Equal(disk, m.image(true)))
	}
}

// TestScattersOnlyWhereZerosAreLeftOut: else the gaps are filled in order.
func TestScattersOnlyWhereZerosAreLeftOut(t *testing.T) {
	for _, tt := range []struct {
		out  diskimage.Output
		o    raw.WriterOptions
		want bool
	}{
		{&memory{t: t}, raw.WriterOptions{}, false},
		{zeroFilled{&memory{t: t}}, raw.WriterOptions{}, true},
		{zeroFilled{&memory{t: t}}, raw.WriterOptions{AllocateZeros: true}, false},
	} {
		w, err := raw.NewWriter(tt.out, tt.o)
		require.NoError(t, err)
		require.Equal(t, tt.want, w.Scatters())
	}
}
