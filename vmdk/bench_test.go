package vmdk_test

import (
	"fmt"
	"io"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage/internal/imagetest"
	"github.com/diskimage-go/diskimage/vmdk"
)

// scattered returns a sparse extent with grains of 4 KiB in which no two
// neighbours are alike, so that each grain is an extent.
func scattered(dialect imagetest.Dialect, n int) []byte {
	v := imagetest.VMDK{Dialect: dialect, Grain: 8}
	for i := range n {
		kind := imagetest.Plain
		if dialect == imagetest.Sparse && i%2 == 1 {
			kind = imagetest.Absent
		}
		v.Grains = append(v.Grains, imagetest.Grain{Kind: kind, Data: []byte("data")})
	}
	return v.Build().Bytes
}

func BenchmarkNextExtent(b *testing.B) {
	for _, c := range []struct {
		name  string
		image []byte
	}{
		{"plain", scattered(imagetest.Sparse, 5000)},
		{"compressed", scattered(imagetest.Exported, 5000)},
		{"empty", imagetest.VMDK{Sectors: 1 << 31, NoRGD: true}.Build().Bytes},
		{"empty, redundant", imagetest.VMDK{Sectors: 1 << 31}.Build().Bytes},
	} {
		b.Run(c.name, func(b *testing.B) {
			d := openBytes(b, c.image, vmdk.Options{})
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

func BenchmarkCheckMap(b *testing.B) {
	for name, dialect := range map[string]imagetest.Dialect{"plain": imagetest.Sparse, "compressed": imagetest.Exported} {
		b.Run(name, func(b *testing.B) {
			const grains = 50_000
			d := openBytes(b, scattered(dialect, grains), vmdk.Options{})
			for b.Loop() {
				require.NoError(b, d.CheckMap())
			}
			b.ReportMetric(grains*float64(b.N)/b.Elapsed().Seconds()/1e6, "Mgrains/s")
		})
	}
}

func BenchmarkReadAt(b *testing.B) {
	v := imagetest.VMDK{}
	for i := range 64 {
		v.Grains = append(v.Grains, imagetest.Grain{Kind: imagetest.Plain, Data: append(noisy(30<<10, uint64(i)), make([]byte, 30<<10)...)})
	}
	for name, dialect := range map[string]imagetest.Dialect{"plain": imagetest.Sparse, "compressed": imagetest.Exported} {
		v.Dialect = dialect
		d := openBytes(b, v.Build().Bytes, vmdk.Options{})
		for _, n := range []int{4 << 10, 2 << 20} {
			b.Run(fmt.Sprintf("%s/%dk", name, n>>10), func(b *testing.B) {
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
