package qcow2_test

import (
	"context"
	"fmt"
	"log"
	"os"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/qcow2"
)

// Open shows an image's guest disk: an io.ReaderAt with a size and a map.
func ExampleOpen() {
	f, err := os.Open("../testdata/zlib.qcow2")
	if err != nil {
		log.Fatal(err)
	}
	stat, err := f.Stat()
	if err != nil {
		log.Fatal(err)
	}
	d, err := qcow2.Open(context.Background(), diskimage.NewSource(f, stat.Size()), qcow2.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer d.Close() // the file too

	info := d.Info()
	fmt.Printf("version %d, clusters of %d bytes, disk of %d bytes\n", info.Version, info.ClusterSize, d.Size())

	superblock := make([]byte, 1024) // of an ext4 file system
	if _, err := d.ReadAt(superblock, 1024); err != nil {
		log.Fatal(err)
	}
	fmt.Printf("magic %x\n", superblock[56:58])

	var data, zeros int64
	for e, err := range diskimage.Extents(d, 0, d.Size()) {
		if err != nil {
			log.Fatal(err)
		}
		if e.IsZero() {
			zeros += e.Len
		} else {
			data += e.Len
		}
	}
	fmt.Printf("data %d, zeros %d\n", data, zeros)
	// Output:
	// version 3, clusters of 65536 bytes, disk of 4194304 bytes
	// magic 53ef
	// data 196608, zeros 3997696
}
