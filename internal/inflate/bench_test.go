package inflate

import (
	"bytes"
	"io"
	"testing"

	"github.com/klauspost/compress/flate"
	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage/internal/disktest"
)

// BenchmarkDecode decodes clusters of 64 KiB beside the streaming decoder that
// it takes the place of. See [disktest.Data] for their content.
func BenchmarkDecode(b *testing.B) {
	const cluster = 65536
	data := disktest.Data(b, 16<<20)
	data = data[:len(data)/cluster*cluster]

	for _, window := range []int{4096, 32768} {
		var streams [][]byte
		var buf bytes.Buffer
		w, err := flate.NewWriterWindow(&buf, window)
		require.NoError(b, err)
		for off := 0; off < len(data); off += cluster {
			buf.Reset()
			w.Reset(&buf)
			_, err := w.Write(data[off : off+cluster])
			require.NoError(b, err)
			require.NoError(b, w.Close())
			streams = append(streams, bytes.Clone(buf.Bytes()))
		}
		dst := make([]byte, cluster)
		sub := map[int]string{4096: "window=4k", 32768: "window=32k"}[window]
		b.Run("own/"+sub, func(b *testing.B) {
			var d Decoder
			b.SetBytes(int64(len(data)))
			b.ReportAllocs()
			for b.Loop() {
				for _, s := range streams {
					if _, _, _, err := d.Decode(dst, s); err != nil {
						b.Fatal(err)
					}
				}
			}
		})
		b.Run("klauspost/"+sub, func(b *testing.B) {
			var in bytes.Reader
			r := flate.NewReader(&in)
			b.SetBytes(int64(len(data)))
			b.ReportAllocs()
			for b.Loop() {
				for _, s := range streams {
					in.Reset(s)
					if err := r.(flate.Resetter).Reset(&in, nil); err != nil {
						b.Fatal(err)
					}
					if _, err := io.ReadFull(r, dst); err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}
