package disktest

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"hash/adler32"
	"io"
	"testing"

	"github.com/diskimage-go/diskimage"
	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/require"
)

// checkStored: the streams of the first layer's compressed extents give the
// guest's bytes, by decoders that are not ours. Extents of deeper layers may
// be parts of units, which their streams say nothing of.
func checkStored(t testing.TB, d diskimage.VirtualDisk, all []diskimage.Extent, want []byte) {
	t.Helper()
	s, ok := d.(diskimage.StoredReader)
	if !ok {
		return
	}
	zr, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1))
	require.NoError(t, err)
	defer zr.Close()
	left := 500 // enough of them
	for _, e := range all {
		if e.Stored == diskimage.Plain || e.Depth > 0 {
			continue
		}
		if left--; left < 0 {
			return
		}
		stored, err := s.ReadStored(e, nil)
		require.NoError(t, err, "ReadStored(%+v)", e)
		stream := stored.Stream
		if e.HostLen > 0 {
			require.LessOrEqual(t, int64(len(stream)), e.HostLen, "ReadStored(%+v)", e)
		}
		again, err := s.ReadStored(e, bytes.Repeat([]byte{0xa5}, len(stream)))
		require.NoError(t, err)
		require.Equal(t, stored, again, "ReadStored(%+v) with a buffer", e)

		in := bytes.NewReader(stream)
		var r io.Reader
		if e.Stored == diskimage.Deflate {
			r = flate.NewReader(in)
		} else {
			require.NoError(t, zr.Reset(in))
			r = zr
		}
		p := make([]byte, e.Len)
		_, err = io.ReadFull(r, p)
		require.NoError(t, err, "the stream of %+v", e)
		requireEqual(t, want[e.Off:e.End()], p, e.Off, "the stream")
		if e.Stored != diskimage.Deflate {
			continue
		}
		rest, err := io.ReadAll(r) // to the stream's end: a last unit may go beyond the disk
		require.NoError(t, err, "the stream of %+v", e)
		if stored.Adler32 {
			sum := adler32.Checksum(append(p, rest...))
			require.Equal(t, binary.BigEndian.AppendUint32(nil, sum), stream[len(stream)-in.Len():][:4], "the checksum of %+v", e)
			in.Seek(4, io.SeekCurrent)
		}
		if stored.Exact {
			require.Zero(t, in.Len(), "the stream of %+v is said to be exact", e)
		}
	}
}
