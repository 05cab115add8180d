package vmdk_test

import (
	"context"
	"fmt"
	"io"
	"log"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/vmdk"
)

// A pipe is an Output that is written front to back.
type pipe struct {
	w  io.Writer
	at int64
}

func (p *pipe) WriteAt(b []byte, off int64) (int, error) {
	if off != p.at {
		return 0, fmt.Errorf("a write at %d, not at %d", off, p.at)
	}
	n, err := p.w.Write(b)
	p.at += int64(n)
	return n, err
}

// A disk of 1 GiB with one sentence on it goes to a pipe in one pass, if it is
// streamOptimized. Package convert does the same with all cores; this is what
// it calls.
func ExampleNewWriter() {
	ctx := context.Background()
	out := &pipe{w: io.Discard}
	w, err := vmdk.NewWriter(out, vmdk.WriterOptions{Size: 1 << 30, Subformat: vmdk.StreamOptimized, Adapter: vmdk.LSILogic})
	if err != nil {
		log.Fatal(err)
	}
	defer w.Abort()
	b := w.NewBatch()
	b.Reset(512<<20, diskimage.BatchSize)
	copy(b.Buf, "Nothing is lost in silence.")
	b.Blocks = append(b.Blocks, diskimage.Block{Off: b.Off, Len: w.Unit(), Data: b.Buf[:w.Unit()]})
	for _, step := range []func() error{
		func() error { return w.Encode(b) },
		func() error { return w.Place(b) },
		func() error { return w.Store(ctx, b) },
		func() error { return w.Finish(ctx) },
	} {
		if err := step(); err != nil {
			log.Fatal(err)
		}
	}
	fmt.Println(out.at, "bytes")
	// Output: 71168 bytes
}
