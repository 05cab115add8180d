package raw_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/raw"
)

// Any bytes that can be read at an offset are a raw disk.
func ExampleOpen() {
	image := strings.NewReader("a boot sector, and what follows it")
	disk, err := raw.Open(diskimage.NewSource(image, image.Size()), raw.Options{Offset: 2, Size: 11})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer disk.Close()

	guest, err := io.ReadAll(io.NewSectionReader(disk, 0, disk.Size()))
	fmt.Printf("%q %v\n", guest, err)
	for e, err := range diskimage.Extents(disk, 0, disk.Size()) {
		fmt.Println(e.Off, e.Len, e.Kind, "at", e.Host, err)
	}
	// Output:
	// "boot sector" <nil>
	// 0 11 data at 2 <nil>
}

// What comes through a pipe is read once, in blocks; its size is known at its
// end.
func ExampleNewStream() {
	s := raw.NewStream(strings.NewReader("some bytes of a disk"), -1)
	defer s.Close()
	buf := make([]byte, 8)
	for {
		b, err := s.NextBlock(buf)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Printf("%d: %q\n", b.Off, b.Data)
	}
	fmt.Println(s.Size(), "bytes")
	// Output:
	// 0: "some byt"
	// 8: "es of a "
	// 16: "disk"
	// 20 bytes
}

// A writer takes batches of blocks, each through three steps. (Package convert
// does this on all cores.)
func ExampleNewWriter() {
	ctx := context.Background()
	var out memoryFile
	w, err := raw.NewWriter(&out, raw.WriterOptions{Size: 10_000})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer w.Abort()

	b := w.NewBatch()
	b.Reset(0, 10_000)
	copy(b.Buf, "the first unit; all the others are zeros")
	b.Blocks = append(b.Blocks, diskimage.Block{Off: 0, Len: raw.Unit, Data: b.Buf[:raw.Unit]})
	err = errors.Join(w.Encode(b), w.Place(b), w.Store(ctx, b), w.Finish(ctx))
	fmt.Println(len(out.p), string(bytes.TrimRight(out.p, "\x00")), err)
	// Output:
	// 10000 the first unit; all the others are zeros <nil>
}

// A memoryFile is an output in memory. It does not say that unwritten bytes
// are zeros, so all are written.
type memoryFile struct{ p []byte }

func (m *memoryFile) WriteAt(p []byte, off int64) (int, error) {
	if need := int(off) + len(p); need > len(m.p) {
		m.p = append(m.p, make([]byte, need-len(m.p))...)
	}
	return copy(m.p[off:], p), nil
}
