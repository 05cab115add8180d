package qcow2_test

import (
	"fmt"
	"io"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage/internal/imagetest"
	"github.com/diskimage-go/diskimage/qcow2"
)

// scattered returns an image in which no two neighbours are alike, so that
// each cluster is an extent.
func scattered(clusterBits uint, n int, kinds ...imagetest.ClusterKind) []byte {
	q := imagetest.QCOW2{ClusterBits: clusterBits}
	for i := range n {
		q.Clusters = append(q.Clusters, imagetest.Cluster{Kind: kinds[i%len(kinds)], Data: []byte("data")})
	}
	return q.Build().Bytes
}

func BenchmarkNextExtent(b *testing.B) {
	for _, c := range []struct {
		name  string
		image []byte
	}{
		{"cluster=64k", scattered(16, 500, imagetest.Plain, imagetest.Zeros)},
		{"cluster=512", scattered(9, 5000, imagetest.Plain, imagetest.Zeros)},
		{"compressed", scattered(12, 5000, imagetest.Packed)},
		{"empty", imagetest.QCOW2{Size: 64 << 40}.Build().Bytes},
	} {
		b.Run(c.name, func(b *testing.B) {
			d, err := qcow2.Open(b.Context(), imagetest.Source(c.image), qcow2.Options{})
			require.NoError(b, err)
			b.ReportAllocs()
			off := int64(0)
			for b.Loop() {
				e, err := d.NextExtent(off)
				if err == io.EOF {
					off = 0
					continue
				}
				if err != nil {
					b.Fatal(err)
				}
				off = e.End()
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds()/1e6, "Mextents/s")
		})
	}
}

func BenchmarkReadAt(b *testing.B) {
	for _, kind := range []imagetest.ClusterKind{imagetest.Plain, imagetest.Packed} {
		d, err := qcow2.Open(b.Context(), imagetest.Source(scattered(16, 256, kind)), qcow2.Options{})
		require.NoError(b, err)
		for _, n := range []int{4 << 10, 2 << 20} {
			name := fmt.Sprintf("%s/%dk", map[imagetest.ClusterKind]string{imagetest.Plain: "plain", imagetest.Packed: "packed"}[kind], n>>10)
			b.Run(name, func(b *testing.B) {
				b.ReportAllocs()
				b.SetBytes(int64(n))
				b.RunParallel(func(pb *testing.PB) {
					p := make([]byte, n)
					for off := int64(0); pb.Next(); off = (off + int64(n)) % d.Size() {
						if _, err := d.ReadAt(p, off); err != nil {
							b.Error(err)
							return
						}
					}
				})
			})
		}
	}
}
