package vhd

import (
	"bytes"
	"io"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/internal/imagetest"
)

// TestStream reads fixed disks front to back, into buffers of any length: what
// is read from the file is read, or refused, here too.
func TestStream(t *testing.T) {
	fixed := imagetest.VHD{Size: 8192, Fixed: noise(8192)}
	old := fixed
	old.Old = true
	whole := fixed.Build()
	longer := fixed.Build()
	longer.SetFooter(func(p []byte) { p[offCurrentSize+6]++ })
	for name, c := range map[string]struct {
		file []byte
		kind diskimage.ErrorKind
	}{
		"fixed":              {whole.Bytes, ""},
		"old":                {old.Build().Bytes, ""},
		"cut":                {whole.Bytes[:8192], diskimage.ErrFormat},
		"cut in the footer":  {whole.Bytes[:len(whole.Bytes)-100], diskimage.ErrFormat},
		"shorter than said":  {longer.Bytes, diskimage.ErrTruncated},
		"damaged footer":     {append(bytes.Clone(whole.Bytes[:len(whole.Bytes)-1]), 1), diskimage.ErrCorrupt},
		"dynamic":            {imagetest.VHDBase().Bytes, diskimage.ErrUnsupported},
		"less than a footer": {whole.Bytes[:100], diskimage.ErrFormat},
		"nothing":            {nil, diskimage.ErrFormat},
	} {
		for _, length := range []int{1, 100, 511, 512, 4096, 3 << 20} {
			s := NewStream(bytes.NewReader(c.file), StreamOptions{})
			require.EqualValues(t, -1, s.Size())
			var got []byte
			var err error
			for err == nil {
				var b diskimage.Block
				b, err = s.NextBlock(make([]byte, length))
				require.EqualValues(t, b.Len, len(b.Data))
				got = append(got, b.Data...)
			}
			_, again := s.NextBlock(make([]byte, length))
			require.Equal(t, err, again)
			if c.kind != "" {
				require.ErrorIs(t, err, c.kind, "%s, by %d", name, length)
				continue
			}
			require.Equal(t, io.EOF, err, "%s, by %d", name, length)
			require.True(t, bytes.Equal(fixed.Fixed, got), "%s, by %d", name, length)
			require.EqualValues(t, len(got), s.Size())
		}
	}
}
