package qcow2_test

import (
	"context"
	"fmt"
	"log"
	"os"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/qcow2"
)

// A disk of 1 GiB with one sentence on it. Package convert does the same with
// all cores; this is what it calls.
func ExampleNewWriter() {
	ctx := context.Background()
	f, err := os.CreateTemp("", "*.qcow2")
	if err != nil {
		log.Fatal(err)
	}
	defer os.Remove(f.Name())
	defer f.Close()

	w, err := qcow2.NewWriter(f, qcow2.WriterOptions{Size: 1 << 30, Compression: diskimage.Deflate})
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

	info, err := f.Stat()
	if err != nil {
		log.Fatal(err)
	}
	d, err := qcow2.Open(ctx, diskimage.NewSource(f, info.Size()), qcow2.Options{})
	if err != nil {
		log.Fatal(err)
	}
	text := make([]byte, 27)
	if _, err := d.ReadAt(text, 512<<20); err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%d bytes in %d: %s\n", d.Size(), info.Size(), text)
	// Output: 1073741824 bytes in 393216: Nothing is lost in silence.
}
