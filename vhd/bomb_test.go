package vhd

import (
	"encoding/binary"
	"io"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/internal/disktest"
	"github.com/diskimage-go/diskimage/internal/imagetest"
)

// A vast is a dynamic image that takes no memory: a front, blocks without data
// whose entries a function tells, and a footer at the end.
type vast struct {
	front []byte
	entry func(block int64) uint32
	size  int64
}

// newVast returns an image of so many blocks, of blockSize bytes, in a file that
// has room for n of them.
func newVast(blocks, blockSize, n int64, entry func(block int64) uint32) *vast {
	m := imagetest.VHD{Size: blockSize, BlockSize: blockSize, Blocks: make([]imagetest.VHDBlock, 1)}.Build()
	be := binary.BigEndian
	m.SetFooter(func(p []byte) { be.PutUint64(p[offCurrentSize:], uint64(blocks*blockSize)) })
	m.SetHeader(func(p []byte) { be.PutUint32(p[offMaxTableEntries:], uint32(blocks)) })
	v := &vast{front: m.Bytes[:m.Table], entry: entry}
	v.size = v.place(blocks, n, blockSize) + footerLen
	return v
}

// place returns the host offset of the i-th place for a block.
func (v *vast) place(blocks, i, blockSize int64) int64 {
	bitmap := (&header{blockSize: uint32(blockSize)}).bitmapBytes()
	return (int64(len(v.front))+blocks*4+sectorSize-1)&^(sectorSize-1) + i*(bitmap+blockSize)
}

func (v *vast) Size() int64 { return v.size }

func (v *vast) ReadAt(p []byte, off int64) (int, error) {
	clear(p)
	switch table := off - int64(len(v.front)); {
	case table < 0:
		copy(p, v.front[off:])
	case off == v.size-footerLen:
		copy(p, v.front[:footerLen])
	default:
		for i := 0; i+4 <= len(p); i += 4 {
			binary.BigEndian.PutUint32(p[i:], v.entry((table+int64(i))/4))
		}
	}
	if off+int64(len(p)) > v.size {
		return int(v.size - off), io.EOF
	}
	return len(p), nil
}

// TestBombs holds what the largest tables cost: less than 64 MiB and two seconds
// to open them and check the map; what is named twice is found as soon.
func TestBombs(t *testing.T) {
	if testing.Short() {
		t.Skip("tables of four million entries")
	}
	disktest.Alone(t)
	const most = maxTableEntries
	for name, c := range map[string]struct {
		blocks, blockSize, places int64
		at                        func(block int64) int64 // the place
		kind                      diskimage.ErrorKind
		text                      string
	}{
		"a million blocks in disorder":  {1 << 20, 512, 1 << 20, func(b int64) int64 { return b * 2654435761 % (1 << 20) }, "", ""},
		"all blocks, the last first":    {most, 512, most, func(b int64) int64 { return most - 1 - b }, "", ""},
		"one place for all blocks":      {most, 512, 1, func(int64) int64 { return 0 }, diskimage.ErrCorrupt, "the block at 0x1000600 is that of entry 0, too"},
		"2040 GiB, blocks of 512 KiB":   {MaxSize >> 19, 512 << 10, MaxSize >> 19, func(b int64) int64 { return MaxSize>>19 - 1 - b }, "", ""},
		"a block more than is read":     {most + 1, 512, 1, func(int64) int64 { return 0 }, diskimage.ErrLimit, "a table of 4194305 entries; 4194304 are read"},
		"as many as 32 bits can number": {MaxSize >> 9, 512, 1, func(int64) int64 { return 0 }, diskimage.ErrLimit, "dynamic disk header: block size at 0x220"},
	} {
		t.Run(name, func(t *testing.T) {
			var v *vast
			v = newVast(c.blocks, c.blockSize, c.places, func(block int64) uint32 {
				if block >= c.blocks {
					return unusedEntry
				}
				return uint32(v.place(c.blocks, c.at(block), c.blockSize) / sectorSize)
			})
			var err error
			took := time.Hour
			for try := 0; took >= 2*time.Second && try < 3; try++ { // others may have the machine too
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				start := time.Now()
				var d *Disk
				if d, err = Open(t.Context(), v, Options{}); err == nil {
					require.Len(t, d.table, int(c.blocks))
					err = d.CheckMap()
				}
				took = time.Since(start)
				runtime.ReadMemStats(&after)
				require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(64<<20))
			}
			require.Less(t, took, 2*time.Second)
			if c.kind == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorIs(t, err, c.kind)
			require.ErrorContains(t, err, c.text)
		})
	}
}
