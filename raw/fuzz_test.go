package raw_test

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/raw"
	"github.com/stretchr/testify/require"
)

// FuzzRoundTrip puts bytes through a Stream and a Writer, in blocks and to an
// output of some kind, and reads the same from a Disk. Each byte of script
// stands for so many bytes of the guest disk: zeros if it is even.
func FuzzRoundTrip(f *testing.F) {
	f.Add([]byte{1, 2, 3}, uint16(5), byte(1), byte(0))
	f.Add([]byte{0, 0, 1, 0, 0, 0, 9, 8}, uint16(4096), byte(16), byte(7))
	f.Add([]byte{1}, uint16(4097), byte(1), byte(2))
	f.Add([]byte{}, uint16(0), byte(3), byte(5))
	f.Fuzz(func(t *testing.T, script []byte, each uint16, units, how byte) {
		var disk []byte
		for _, c := range script[:min(len(script), 100)] {
			run := make([]byte, int(each))
			if c%2 == 1 {
				for i := range run {
					run[i] = c
				}
			}
			disk = append(disk, run...)
		}
		size := int64(len(disk))
		known, zeros, truncate, allocate := how&1 != 0, how&2 != 0, how&4 != 0, how&8 != 0
		m := &memory{t: t}
		var out diskimage.Output = m
		switch {
		case zeros && truncate:
			out = all{m}
		case zeros:
			out = zeroFilled{m}
		case truncate:
			out = truncates{m}
		}
		told := int64(-1)
		if known {
			told = size
		}
		s := raw.NewStream(bytes.NewReader(disk), told)
		w, err := raw.NewWriter(out, raw.WriterOptions{Size: told, AllocateZeros: allocate})
		require.NoError(t, err)
		block := (int(units)%512 + 1) * raw.Unit
		for off := int64(0); ; off += diskimage.BatchSize {
			b := w.NewBatch()
			b.Reset(off, 0)
			clear(b.Buf)
			end := error(nil)
			for at := 0; at < len(b.Buf) && end == nil; at += block {
				var blk diskimage.Block
				blk, end = s.NextBlock(b.Buf[at:min(at+block, len(b.Buf))])
				if end == nil {
					b.Len = int64(at) + blk.Len
					blk.Len = (blk.Len + raw.Unit - 1) / raw.Unit * raw.Unit // filled up, as convert does
					blk.Data = b.Buf[at:][:blk.Len]
					b.Blocks = append(b.Blocks, blk)
				}
			}
			require.NoError(t, w.Encode(b))
			require.NoError(t, w.Place(b))
			require.NoError(t, w.Store(t.Context(), b))
			if end != nil {
				require.True(t, errors.Is(end, io.EOF), "%v", end)
				break
			}
		}
		require.Equal(t, size, s.Size())
		require.NoError(t, w.SetSize(s.Size()))
		require.NoError(t, w.Finish(t.Context()))

		got := m.image(zeros && !allocate)
		require.True(t, bytes.Equal(disk, got), "%d bytes in, %d out", len(disk), len(got))
		d, err := raw.Open(diskimage.NewSource(bytes.NewReader(got), size), raw.Options{})
		require.NoError(t, err)
		back := make([]byte, size)
		_, err = io.ReadFull(io.NewSectionReader(d, 0, d.Size()), back)
		require.NoError(t, err)
		require.True(t, bytes.Equal(disk, back))
	})
}
