package inflate

import (
	"bytes"
	"io"
	"os"
	"testing"

	"github.com/klauspost/compress/flate"
	"github.com/stretchr/testify/require"
)

// BenchmarkDecode decodes clusters of 64 KiB beside the streaming decoder that
// it takes the place of. Their content is the file that DISKIMAGE_BENCH_DATA
// names, or this program itself.
func BenchmarkDecode(b *testing.B) {
	const cluster = 65536
	name := os.Getenv("DISKIMAGE_BENCH_DATA")
	if name == "" {
		var err error
		name, err = os.Executable()
		require.NoError(b, err)
	}
	data, err := os.ReadFile(name)
	require.NoError(b, err)
	data = data[:min(len(data), 16<<20)/cluster*cluster]

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
