package codec

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/internal/disktest"
)

// BenchmarkEncode and BenchmarkDecode are of units of 64 KiB, as a conversion
// encodes and decodes them.
func BenchmarkEncode(b *testing.B) {
	units := benchUnits(b)
	for _, o := range benchEncoders {
		b.Run(o.name(), func(b *testing.B) {
			e := newEncoder(b, o)
			b.SetBytes(int64(len(units) * len(units[0])))
			b.ReportAllocs()
			var buf []byte
			size := 0
			for b.Loop() {
				size = 0
				for _, u := range units {
					buf = e.Encode(buf[:0], u)
					size += len(buf)
				}
			}
			b.ReportMetric(float64(size)/float64(len(units)*len(units[0])), "size")
		})
	}
}

func BenchmarkDecode(b *testing.B) {
	units := benchUnits(b)
	for _, o := range benchEncoders {
		b.Run(o.name(), func(b *testing.B) {
			e, d := newEncoder(b, o), NewDecoder()
			var streams [][]byte
			for _, u := range units {
				streams = append(streams, e.Encode(nil, u))
			}
			b.SetBytes(int64(len(units) * len(units[0])))
			b.ReportAllocs()
			dst := make([]byte, len(units[0]))
			for b.Loop() {
				for _, s := range streams {
					if _, err := d.Decode(dst, s, o.Encoding); err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}

var benchEncoders = []EncoderOptions{
	{Encoding: diskimage.Deflate}, {Encoding: diskimage.Deflate, Window: 32768}, {Encoding: diskimage.Deflate, Level: 6, Window: 32768},
	{Encoding: diskimage.Zstd, Level: 1}, {Encoding: diskimage.Zstd}, {Encoding: diskimage.Zstd, Level: 9},
}

func benchUnits(b *testing.B) (units [][]byte) {
	const unit = 65536
	for data := disktest.Data(b, 8<<20); len(data) >= unit; data = data[unit:] {
		units = append(units, data[:unit])
	}
	require.NotEmpty(b, units)
	return units
}
