package raw_test

import (
	"fmt"
	"io"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/internal/atomicfile"
	"github.com/diskimage-go/diskimage/raw"
)

// BenchmarkWriter writes 256 MiB to a file that is not synced, by two workers.
// The share is of 4 KiB units that hold data: in runs of 1 MiB, or scattered.
func BenchmarkWriter(b *testing.B) {
	const size = 256 << 20
	batch := make([]byte, diskimage.BatchSize)
	for _, bench := range []struct {
		name string
		fill func([]byte)
	}{
		{"100%", func(p []byte) { copy(p, pattern(len(p))) }},
		{"50%", func(p []byte) { copy(p[1<<20:], pattern(1<<20)) }},
		{"scattered", func(p []byte) {
			for off := 0; off < len(p); off += 2 * raw.Unit {
				p[off] = 1
			}
		}},
		{"0%", func([]byte) {}},
	} {
		clear(batch)
		bench.fill(batch)
		b.Run(bench.name, func(b *testing.B) {
			name := filepath.Join(b.TempDir(), "disk")
			b.SetBytes(size)
			b.ReportAllocs()
			for b.Loop() {
				f, err := atomicfile.Create(name, atomicfile.Options{Unsynced: true})
				must(b, err)
				w, err := raw.NewWriter(f, raw.WriterOptions{Size: size})
				must(b, err)
				var wg sync.WaitGroup
				var place sync.Mutex
				var next atomic.Int64
				for range 2 {
					wg.Go(func() {
						bt := w.NewBatch()
						copy(bt.Buf, batch)
						for {
							// Place wants ascending order: take a number and place under one lock.
							place.Lock()
							off := next.Add(diskimage.BatchSize) - diskimage.BatchSize
							if off >= size {
								place.Unlock()
								return
							}
							bt.Reset(off, diskimage.BatchSize)
							bt.Blocks = append(bt.Blocks, diskimage.Block{Off: off, Len: diskimage.BatchSize, Data: bt.Buf})
							must(b, w.Encode(bt))
							must(b, w.Place(bt))
							place.Unlock()
							must(b, w.Store(b.Context(), bt))
						}
					})
				}
				wg.Wait()
				must(b, w.Finish(b.Context()))
				must(b, f.Abort())
			}
		})
	}
}

func must(b *testing.B, err error) {
	if err != nil {
		b.Error(err)
	}
}

// BenchmarkExtents walks the map of a file of 64 MiB with 256 holes.
func BenchmarkExtents(b *testing.B) {
	name := filepath.Join(b.TempDir(), "disk")
	sparse(b, name, 64<<20)
	d := openFile(b, name)
	for b.Loop() {
		n := 0
		for _, err := range diskimage.Extents(d, 0, d.Size()) {
			must(b, err)
			n++
		}
		if n != 512 {
			b.Fatal(fmt.Sprint(n, " extents"))
		}
	}
}

// BenchmarkReadAt reads a file in the page cache, 2 MiB at a time.
func BenchmarkReadAt(b *testing.B) {
	name := filepath.Join(b.TempDir(), "disk")
	sparse(b, name, 64<<20)
	d := openFile(b, name)
	p := make([]byte, 2<<20)
	b.SetBytes(d.Size())
	for b.Loop() {
		for off := int64(0); off < d.Size(); off += int64(len(p)) {
			if _, err := d.ReadAt(p, off); err != nil && err != io.EOF {
				b.Fatal(err)
			}
		}
	}
}
