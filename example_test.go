package diskimage_test

import (
	"errors"
	"fmt"
	"io"

	"github.com/diskimage-go/diskimage"
)

// memoryDisk is a guest disk in memory: its blocks of 4 KiB by number, and
// nothing where there is none. It is all that a package must offer for
// convert to read from it.
type memoryDisk struct {
	size   int64
	blocks map[int64][]byte
}

const memoryBlock = 4096

func (d memoryDisk) Size() int64  { return d.size }
func (d memoryDisk) Close() error { return nil }

func (d memoryDisk) ReadAt(p []byte, off int64) (n int, err error) {
	if off < 0 {
		return 0, errors.New("negative offset")
	}
	for n < len(p) && off < d.size {
		in := off % memoryBlock
		piece := p[n:min(int64(len(p)), int64(n)+memoryBlock-in, int64(n)+d.size-off)]
		if block, ok := d.blocks[off/memoryBlock]; ok {
			copy(piece, block[in:])
		} else {
			clear(piece)
		}
		n += len(piece)
		off += int64(len(piece))
	}
	if n < len(p) {
		err = io.EOF
	}
	return n, err
}

func (d memoryDisk) NextExtent(off int64) (diskimage.Extent, error) {
	switch {
	case off == d.size:
		return diskimage.Extent{}, io.EOF
	case off < 0 || off > d.size:
		return diskimage.Extent{}, errors.New("no such offset")
	}
	e := diskimage.Extent{Off: off, Kind: diskimage.Hole, Depth: 1, Host: -1}
	if _, ok := d.blocks[off/memoryBlock]; ok {
		e.Kind, e.Depth = diskimage.Data, 0
	}
	e.Len = min(memoryBlock-off%memoryBlock, d.size-off)
	return e, nil
}

// A disk shows which of its bytes are worth reading: Extents joins what
// NextExtent says in pieces.
func ExampleExtents() {
	disk := memoryDisk{size: 1 << 20, blocks: map[int64][]byte{
		0: make([]byte, memoryBlock),
		1: make([]byte, memoryBlock),
		9: make([]byte, memoryBlock),
	}}
	for e, err := range diskimage.Extents(disk, 0, disk.Size()) {
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Printf("%7d %7d %v\n", e.Off, e.Len, e.Kind)
	}
	// Output:
	//       0    8192 data
	//    8192   28672 hole
	//   36864    4096 data
	//   40960 1007616 hole
}

// Errors are told apart by their kind.
func ExampleError() {
	err := error(&diskimage.Error{
		Kind:   diskimage.ErrCorrupt,
		Format: "qcow2",
		Off:    0x50018,
		Field:  "l2 table 17: entry 3",
		Msg:    "reserved bits set",
	})
	fmt.Println(err)
	fmt.Println(errors.Is(err, diskimage.ErrCorrupt))
	// Output:
	// qcow2: l2 table 17: entry 3 at 0x50018: reserved bits set
	// true
}
