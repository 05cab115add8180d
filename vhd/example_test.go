package vhd_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/vhd"
)

// newFile is an output whose unwritten bytes read as zeros, as those of a new
// file do.
type newFile struct{ *os.File }

func (newFile) ZeroFilled() bool { return true }

// A dynamic disk of 1 GiB with something in its first sector.
func Example() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	f, err := os.Create(filepath.Join(dir, "disk.vhd"))
	if err != nil {
		log.Fatal(err)
	}
	defer f.Close()

	w, err := vhd.NewWriter(newFile{f}, vhd.WriterOptions{Size: 1 << 30})
	if err != nil {
		log.Fatal(err)
	}
	defer w.Abort()
	b := w.NewBatch()
	b.Reset(0, diskimage.BatchSize)
	n := copy(b.Buf, "boot sector")
	clear(b.Buf[n:4096])
	b.Blocks = append(b.Blocks, diskimage.Block{Len: 4096, Data: b.Buf[:4096]})
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
	d, err := vhd.Open(ctx, diskimage.NewSource(f, info.Size()), vhd.Options{})
	if err != nil {
		log.Fatal(err)
	}
	p := make([]byte, 11)
	if _, err := d.ReadAt(p, 0); err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s of %d bytes\n", p, d.Size())
	for e, err := range diskimage.Extents(d, 0, d.Size()) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(e.Kind, e.Len)
	}
	// Output:
	// boot sector of 1073741824 bytes
	// data 2097152
	// hole 1071644672
}
