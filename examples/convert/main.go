// Command convert makes a compressed QCOW2 of a disk image: an example of the
// library's use in thirty lines.
//
//	go run ./examples/convert disk.raw disk.qcow2
package main

import (
	"context"
	"log"
	"os"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/convert"
	"github.com/diskimage-go/diskimage/qcow2"
)

func main() {
	log.SetFlags(0)
	if len(os.Args) != 3 {
		log.Fatal("usage: convert SOURCE TARGET")
	}
	report, err := toQCOW2(context.Background(), os.Args[1], os.Args[2])
	if err != nil {
		log.Fatal("convert: ", err)
	}
	log.Printf("%d guest bytes, %d of them data, in %d bytes", report.Size, report.Data, report.Written)
}

func toQCOW2(ctx context.Context, source, target string) (*convert.Report, error) {
	disk, err := convert.OpenFile(ctx, source, convert.OpenOptions{})
	if err != nil {
		return nil, err
	}
	defer disk.Close()
	return convert.ToFile(ctx, target, disk, convert.Options{
		Format: convert.QCOW2,
		QCOW2:  qcow2.WriterOptions{Compression: diskimage.Deflate},
		Verify: true, // read back and compare before the target gets its name
	})
}
