package convert_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/convert"
	"github.com/diskimage-go/diskimage/raw"
	"github.com/diskimage-go/diskimage/vmdk"
)

// A disk goes into a pipe, in one pass, as the streamOptimized VMDK that an OVA
// holds and clouds import; at the other end it is read as it comes.
func ExampleToWriter_streamOptimized() {
	ctx := context.Background()
	content := append(make([]byte, 3<<20), "the last sector"...)
	disk, err := raw.Open(diskimage.NewSource(bytes.NewReader(content), int64(len(content))), raw.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer disk.Close()

	r, w := io.Pipe()
	go func() {
		_, err := convert.ToWriter(ctx, w, disk, convert.Options{Format: convert.VMDK, VMDK: vmdk.WriterOptions{
			Subformat: vmdk.StreamOptimized,
			Adapter:   vmdk.LSILogic,
			HWVersion: 13,
		}})
		w.CloseWithError(err)
	}()

	stream, err := vmdk.NewStream(r, vmdk.StreamOptions{})
	if err != nil {
		log.Fatal(err)
	}
	defer stream.Close()
	report, err := convert.StreamToOutput(ctx, discard{}, stream, convert.Options{Format: convert.QCOW2})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(report.Size, "bytes, of which data:", report.Data)
	// Output: 3146240 bytes, of which data: 512
}

// discard is an Output that keeps nothing.
type discard struct{}

func (discard) WriteAt(p []byte, _ int64) (int, error) { return len(p), nil }
