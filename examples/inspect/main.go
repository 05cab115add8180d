// Command inspect opens a disk image of any format that the module reads and
// tells what is in it: an example of the library's use.
//
//	go run ./examples/inspect disk.qcow2
package main

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/convert"
	"github.com/diskimage-go/diskimage/qcow2"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: inspect IMAGE")
		os.Exit(2)
	}
	if err := inspect(context.Background(), os.Stdout, os.Args[1]); err != nil {
		fmt.Fprintf(os.Stderr, "inspect: %s: %v\n", os.Args[1], err)
		os.Exit(1)
	}
}

func inspect(ctx context.Context, w io.Writer, name string) error {
	// No Opener: an image that names other files is refused.
	disk, err := convert.OpenFile(ctx, name, convert.OpenOptions{})
	if err != nil {
		return err
	}
	defer disk.Close()
	fmt.Fprintf(w, "guest disk: %d bytes\n", disk.Size())

	// What only one format has, its own package tells.
	if d, ok := disk.(*qcow2.Disk); ok {
		info := d.Info()
		fmt.Fprintf(w, "qcow2: version %d, clusters of %d bytes, %d snapshots\n", info.Version, info.ClusterSize, len(info.Snapshots))
	}

	// The map says what is stored, without reading it.
	var stored, compressed, zeros int64
	for e, err := range diskimage.Extents(disk, 0, disk.Size()) {
		switch {
		case err != nil:
			return err
		case e.IsZero():
			zeros += e.Len
		case e.Stored == diskimage.Plain:
			stored += e.Len
		default:
			compressed += e.Len
		}
	}
	fmt.Fprintf(w, "data: %d bytes plain, %d compressed; zeros: %d\n", stored, compressed, zeros)

	// A disk is an io.ReaderAt.
	sector := make([]byte, min(512, disk.Size()))
	if _, err := disk.ReadAt(sector, 0); err != nil && err != io.EOF {
		return err
	}
	if len(sector) == 512 && sector[510] == 0x55 && sector[511] == 0xaa {
		fmt.Fprintln(w, "the first sector is a boot sector")
	}
	for _, note := range diskimage.NotesOf(disk) {
		fmt.Fprintln(w, "note:", note)
	}
	return nil
}
