// Command stream writes a disk image as a QCOW2 to standard output, which may
// be a pipe: an example of the library's use.
//
//	go run ./examples/stream disk.raw | ssh host 'cat > disk.qcow2'
package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"

	"github.com/diskimage-go/diskimage/convert"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: stream IMAGE > TARGET")
		os.Exit(2)
	}
	if err := stream(context.Background(), os.Stdout, os.Args[1]); err != nil {
		fmt.Fprintf(os.Stderr, "stream: %s: %v\n", os.Args[1], err)
		os.Exit(1)
	}
}

// stream reads the source twice: a QCOW2 begins with what is known last.
func stream(ctx context.Context, w io.Writer, name string) error {
	disk, err := convert.OpenFile(ctx, name, convert.OpenOptions{})
	if err != nil {
		return err
	}
	defer disk.Close()
	b := bufio.NewWriterSize(w, 1<<20)
	if _, err := convert.ToWriter(ctx, b, disk, convert.Options{Format: convert.QCOW2}); err != nil {
		return err
	}
	return b.Flush()
}
