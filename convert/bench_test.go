package convert

import (
	"fmt"
	"runtime"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/internal/disktest"
	"github.com/diskimage-go/diskimage/qcow2"
)

// BenchmarkPipeline converts a disk in memory, of which a share is data and the
// rest holes, into nothing: what is left is the pipeline's own cost and the
// encoder's.
func BenchmarkPipeline(b *testing.B) {
	const size = 128 << 20
	data := disktest.Data(b, 8<<20)
	for _, c := range []struct {
		name string
		o    Options
	}{
		{"raw", Options{}},
		{"qcow2", Options{Format: QCOW2}},
		{"deflate", Options{Format: QCOW2, QCOW2: qcow2.WriterOptions{Compression: diskimage.Deflate}}},
		{"zstd", Options{Format: QCOW2, QCOW2: qcow2.WriterOptions{Compression: diskimage.Zstd}}},
	} {
		for _, share := range []int64{0, 50, 100} { // per cent, in turns of 4 MiB
			d := &memDisk{content: make([]byte, size), badFrom: -1, badTo: -1}
			for off := int64(0); off < size; off += 4 << 20 {
				n := (4 << 20) * share / 100
				for at := off; at < off+n; {
					at += int64(copy(d.content[at:off+n], data))
				}
				if n > 0 {
					d.extents = append(d.extents, diskimage.Extent{Off: off, Len: n, Host: -1})
				}
				if n < 4<<20 {
					d.extents = append(d.extents, diskimage.Extent{Off: off + n, Len: 4<<20 - n, Kind: diskimage.Hole, Host: -1})
				}
			}
			for _, workers := range slices.Compact([]int{1, 2, runtime.GOMAXPROCS(0)}) {
				b.Run(fmt.Sprintf("%s/data=%d/workers=%d", c.name, share, workers), func(b *testing.B) {
					o := c.o
					o.Workers = workers
					b.SetBytes(size)
					b.ReportAllocs()
					for b.Loop() {
						_, err := ToOutput(b.Context(), new(nowhere), d, o)
						require.NoError(b, err)
					}
				})
			}
		}
	}
}
