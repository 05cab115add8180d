package vhd

import (
	"fmt"
	"io"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/internal/imagetest"
)

// blocksOf returns an image of so many blocks of 4 KiB, every other of which has
// no place, or every bit of whose bitmaps differs from the one before.
func blocksOf(n int, bits []byte) []byte {
	v := imagetest.VHD{Size: int64(n) << 12, BlockSize: 4096}
	for i := range n {
		b := imagetest.VHDBlock{Data: make([]byte, 4096), Bits: bits}
		if bits == nil && i%2 == 1 {
			b = imagetest.VHDBlock{}
		}
		v.Blocks = append(v.Blocks, b)
	}
	return v.Build().Bytes
}

func BenchmarkNextExtent(b *testing.B) {
	for _, c := range []struct {
		name  string
		image []byte
	}{
		{"blocks", blocksOf(5000, nil)},
		{"sectors", blocksOf(2000, []byte{0xaa})},
		{"empty", write(b, WriterOptions{Size: MaxSize}, nil)},
	} {
		b.Run(c.name, func(b *testing.B) {
			d := open(b, c.image, Options{})
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
	const blocks = 50_000
	d := open(b, blocksOf(2*blocks, nil), Options{})
	for b.Loop() {
		require.NoError(b, d.CheckMap())
	}
	b.ReportMetric(blocks*float64(b.N)/b.Elapsed().Seconds()/1e6, "Mblocks/s")
}

func BenchmarkReadAt(b *testing.B) {
	guest := patchwork(8, 32<<20)
	for name, o := range map[string]WriterOptions{"dynamic": {}, "64k": {BlockSize: 64 << 10}, "fixed": {Type: Fixed}} {
		d := open(b, write(b, o, guest), Options{})
		for _, n := range []int{4 << 10, 2 << 20} {
			b.Run(fmt.Sprintf("%s/%dk", name, n>>10), func(b *testing.B) {
				b.ReportAllocs()
				b.SetBytes(int64(n))
				p := make([]byte, n)
				off := int64(0)
				for b.Loop() {
					if _, err := d.ReadAt(p, off); err != nil {
						b.Fatal(err)
					}
					off = (off + int64(n)) % d.Size()
				}
			})
		}
	}
}

// BenchmarkEncode is what the workers do with a batch, by share of data.
func BenchmarkEncode(b *testing.B) {
	for _, kind := range []DiskType{Dynamic, Fixed} {
		for _, share := range []int{0, 50, 100} {
			b.Run(fmt.Sprintf("%d/%d%%", kind, share), func(b *testing.B) {
				w, batch := batchOf(b, WriterOptions{Size: diskimage.BatchSize, Type: kind}, share)
				b.SetBytes(diskimage.BatchSize)
				b.ReportAllocs()
				for b.Loop() {
					if err := w.Encode(batch); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// BenchmarkPlace is the part that is done one batch at a time.
func BenchmarkPlace(b *testing.B) {
	for _, block := range []int64{4096, 64 << 10, 2 << 20} {
		b.Run(fmt.Sprintf("%dk", block>>10), func(b *testing.B) {
			w, batch := batchOf(b, WriterOptions{Size: diskimage.BatchSize, BlockSize: block}, 50)
			require.NoError(b, w.Encode(batch))
			b.SetBytes(diskimage.BatchSize)
			b.ReportAllocs()
			for b.Loop() {
				w.batches, w.cursor = 0, w.front
				if err := w.Place(batch); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// batchOf returns a batch with so many hundredths of its 64 KiB not zeros.
func batchOf(b *testing.B, o WriterOptions, share int) (*Writer, *diskimage.Batch) {
	w, err := NewWriter(nowhere{}, o)
	require.NoError(b, err)
	batch := w.NewBatch()
	batch.Reset(0, diskimage.BatchSize)
	clear(batch.Buf)
	for at := 0; at < len(batch.Buf); at += 64 << 10 {
		if (at>>16*share)%100 < share {
			for i := range batch.Buf[at : at+64<<10] {
				batch.Buf[at+i] = byte(i) | 1
			}
		}
	}
	batch.Blocks = append(batch.Blocks, diskimage.Block{Len: batch.Len, Data: batch.Buf})
	return w, batch
}
