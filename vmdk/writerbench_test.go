package vmdk

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage"
)

// BenchmarkEncode is what the workers do with a batch, by share of data.
func BenchmarkEncode(b *testing.B) {
	for _, kind := range []Subformat{MonolithicSparse, StreamOptimized} {
		for share, m := range map[int]mix{0: allZeros, 50: {5, 4}, 100: {0, 8}} {
			b.Run(fmt.Sprintf("%v/%d%%", kind, share), func(b *testing.B) {
				w, err := NewWriter(discard{}, WriterOptions{Size: diskimage.BatchSize, Subformat: kind})
				require.NoError(b, err)
				batch := w.NewBatch()
				copy(batch.Buf, guestData(diskimage.BatchSize, w.Unit(), m, 1))
				p := batch.Plan.(*writePlan)
				b.SetBytes(diskimage.BatchSize)
				b.ReportAllocs()
				for b.Loop() {
					batch.Reset(0, diskimage.BatchSize)
					batch.Blocks = append(batch.Blocks, diskimage.Block{Len: batch.Len, Data: batch.Buf})
					p.step = planEmpty
					if err := w.Encode(batch); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// BenchmarkPlace is the part that is done one batch at a time.
func BenchmarkPlace(b *testing.B) {
	for _, kind := range []Subformat{MonolithicSparse, StreamOptimized} {
		b.Run(kind.String(), func(b *testing.B) {
			const size = 1 << 36
			w, err := NewWriter(discard{}, WriterOptions{Size: size, Subformat: kind})
			require.NoError(b, err)
			batch := w.NewBatch()
			batch.Reset(0, diskimage.BatchSize)
			copy(batch.Buf, guestData(diskimage.BatchSize, w.Unit(), mixed, 1))
			batch.Blocks = append(batch.Blocks, diskimage.Block{Len: batch.Len, Data: batch.Buf})
			require.NoError(b, w.Encode(batch))
			p := batch.Plan.(*writePlan)
			b.SetBytes(diskimage.BatchSize)
			b.ReportAllocs()
			for b.Loop() {
				p.step, w.next, w.files[0].end = planEncoded, 0, 1<<20
				if err := w.Place(batch); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
