package adler32

import (
	"bytes"
	"hash/adler32"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestChecksum(t *testing.T) {
	p := make([]byte, 70_000)
	rand.NewChaCha8([32]byte{}).Read(p)
	for n := range 3 * run {
		require.Equal(t, adler32.Checksum(p[:n]), Checksum(p[:n]), n)
	}
	for _, n := range []int{4096, 65535, 65536, len(p)} {
		require.Equal(t, adler32.Checksum(p[n/1000:n]), Checksum(p[n/1000:n]), n)
	}
	// The largest sums that there are, over more than one division.
	ones := bytes.Repeat([]byte{0xff}, (maxRuns+2)*run+5)
	require.Equal(t, adler32.Checksum(ones), Checksum(ones))
}

func FuzzChecksum(f *testing.F) {
	f.Add([]byte("Wikipedia"))
	f.Fuzz(func(t *testing.T, p []byte) {
		require.Equal(t, adler32.Checksum(p), Checksum(p))
	})
}

func BenchmarkChecksum(b *testing.B) {
	p := make([]byte, 64<<10)
	rand.NewChaCha8([32]byte{}).Read(p)
	for _, c := range []struct {
		name string
		sum  func([]byte) uint32
	}{{"own", Checksum}, {"std", adler32.Checksum}} {
		b.Run(c.name, func(b *testing.B) {
			b.SetBytes(int64(len(p)))
			b.ReportAllocs()
			for b.Loop() {
				c.sum(p)
			}
		})
	}
}
