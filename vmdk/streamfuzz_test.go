package vmdk_test

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/diskimage-go/diskimage/internal/imagetest"
	"github.com/diskimage-go/diskimage/vmdk"
	"github.com/stretchr/testify/require"
)

// FuzzStream changes 32-bit words of streams, cuts or lengthens them, and reads
// what comes of it. One that is sound in order is so in any order, and with
// random access if that does not refuse it, and gives the same disk.
func FuzzStream(f *testing.F) {
	var images [][]byte
	for _, d := range []imagetest.Dialect{imagetest.Exported, imagetest.FrontIndex, imagetest.QEMUStream} {
		v := smallStream(d)
		images = append(images, v.Build().Bytes, permuted(v, 1).Build().Bytes)
		v.Sectors = 4797
		images = append(images, v.Build().Bytes)
	}
	for i := range images {
		f.Add(byte(i), []byte("\x00\x00\x00\x05\x00\x00\x00\x08"), int16(0))
		f.Add(byte(i), []byte{}, int16(-512))
	}
	f.Fuzz(func(t *testing.T, i byte, edits []byte, longer int16) {
		b := bytes.Clone(images[int(i)%len(images)])
		for ; len(edits) >= 8; edits = edits[8:] {
			word := int(binary.BigEndian.Uint32(edits)) % (len(b) / 4)
			copy(b[word*4:][:4], edits[4:])
		}
		b = append(b, make([]byte, max(0, longer))...)
		b = b[:max(0, len(b)+min(0, int(longer)))]
		s, err := vmdk.NewStream(bytes.NewReader(b), vmdk.StreamOptions{})
		if err != nil || s.Size() > 16<<20 {
			return
		}
		want, err := drain(t, s, false)
		if err != nil {
			return
		}
		got, err := readStream(t, bytes.NewReader(b), true)
		require.NoError(t, err)
		require.True(t, bytes.Equal(want, got))

		if d, err := vmdk.Open(t.Context(), imagetest.Source(b), vmdk.Options{}); err == nil && d.CheckMap() == nil {
			if _, err := d.ReadAt(got, 0); err == nil {
				require.True(t, bytes.Equal(want, got))
			}
		}
	})
}
