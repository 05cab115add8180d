package vmdk_test

import (
	"bytes"
	"context"
	"fmt"
	"log"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/vmdk"
)

// The first bytes of a file tell whether it may be a VMDK.
func ExampleProbe() {
	fmt.Println(vmdk.Probe([]byte("# Disk DescriptorFile\nversion=1\n")))
	fmt.Println(vmdk.Probe([]byte("KDMV\x01\x00\x00\x00")))
	fmt.Println(vmdk.Probe([]byte("QFI\xfb\x00\x00\x00\x03")))
	// Output:
	// true
	// true
	// false
}

// A shelf opens one file and refuses all others. Package convert has an opener
// of a folder's files.
type shelf struct{ name, content string }

func (s shelf) OpenSource(_ context.Context, ref diskimage.Reference) (diskimage.Source, error) {
	if ref.Name != s.name {
		return nil, diskimage.Refuse(vmdk.Name, ref, "only "+s.name+" may be opened")
	}
	return source([]byte(s.content)), nil
}

func (s shelf) OpenDisk(_ context.Context, ref diskimage.Reference) (diskimage.VirtualDisk, error) {
	return nil, diskimage.Refuse(vmdk.Name, ref, "")
}

func source(b []byte) diskimage.Source {
	return diskimage.NewSource(bytes.NewReader(b), int64(len(b)))
}

// A disk of two extents: the descriptor names the files, and what may be opened
// is for the caller to say.
func ExampleOpen() {
	const descriptor = `# Disk DescriptorFile
version=1
CID=4a1f0c2e
parentCID=ffffffff
createType="custom"
RW 1 FLAT "greeting.bin" 0
RW 2047 ZERO
`
	d, err := vmdk.Open(context.Background(), source([]byte(descriptor)), vmdk.Options{
		Opener: shelf{"greeting.bin", fmt.Sprintf("%-512s", "Hello, guest.")},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer d.Close()

	p := make([]byte, 13)
	if _, err := d.ReadAt(p, 0); err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s\n", p)
	for e, err := range diskimage.Extents(d, 0, d.Size()) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(e.Off, e.Len, e.Kind, d.FileName(e.File))
	}
	// Output:
	// Hello, guest.
	// 0 512 data greeting.bin
	// 512 1048064 zero
}
