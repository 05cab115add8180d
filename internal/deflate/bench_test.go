package deflate

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/klauspost/compress/flate"
	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage/internal/disktest"
)

// BenchmarkEncode encodes clusters of 64 KiB beside the streaming encoder that
// it takes the place of, and tells what part of their size is left. See
// [disktest.Data] for their content.
func BenchmarkEncode(b *testing.B) {
	const cluster = 65536
	data := disktest.Data(b, 8<<20)
	data = data[:len(data)/cluster*cluster]

	run := func(name string, encode func(src []byte) int) {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(data)))
			b.ReportAllocs()
			size := 0
			for b.Loop() {
				size = 0
				for off := 0; off < len(data); off += cluster {
					size += encode(data[off : off+cluster])
				}
			}
			b.ReportMetric(float64(size)/float64(len(data)), "size")
		})
	}
	for _, window := range []int{4096, 32768} {
		for _, level := range []int{1, 2, 4, 6, 9} {
			e := newEncoder(b, window, level)
			var buf []byte
			run(fmt.Sprintf("own/window=%d/level=%d", window, level), func(src []byte) int {
				buf = e.Encode(buf[:0], src)
				return len(buf)
			})
		}
		var buf bytes.Buffer
		w, err := flate.NewWriterWindow(&buf, window)
		require.NoError(b, err)
		run(fmt.Sprintf("klauspost/window=%d", window), func(src []byte) int {
			buf.Reset()
			w.Reset(&buf)
			_, _ = w.Write(src) // a Buffer has no errors
			_ = w.Close()
			return buf.Len()
		})
	}
}
