package vhd

import (
	"encoding/binary"
	"math"
	"math/bits"
	"sync/atomic"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/internal/zero"
)

// A bitmap is a block's sector bitmap: a bit for each sector, the first sector's
// the most significant of the first byte; set where the sector is this disk's.
type bitmap struct {
	block   int64
	sectors int64
	bits    []byte // whole words of eight; nil: all are set
}

// run returns what the sector is, and how many from it on are alike.
func (b *bitmap) run(sector int64) (set bool, n int64) {
	if b.bits == nil {
		return true, b.sectors - sector
	}
	word := func(at int64) uint64 { return binary.BigEndian.Uint64(b.bits[at/64*8:]) << (at % 64) }
	var flip uint64
	if set = int64(word(sector)) < 0; set {
		flip = math.MaxUint64
	}
	at := sector
	for at < b.sectors {
		// Of the word, the bits from at on, as ones where the run ends.
		if differ := word(at) ^ flip<<(at%64); differ != 0 {
			at += int64(bits.LeadingZeros64(differ))
			break
		}
		at = at&^63 + 64
	}
	return set, min(at, b.sectors) - sector
}

// A bitmapCache holds the bitmaps used last, each block's in one place, so that
// neither a walk nor small reads in order read one twice. It is safe for
// concurrent use.
type bitmapCache [16]atomic.Pointer[bitmap]

// get returns the bitmap of a block, which starts at the host offset start.
func (c *bitmapCache) get(d *Disk, block, start int64) (*bitmap, error) {
	place := &c[block%int64(len(c))]
	if b := place.Load(); b != nil && b.block == block {
		return b, nil
	}
	sectors := d.blockSize / sectorSize
	b := &bitmap{block: block, sectors: sectors, bits: make([]byte, (sectors+63)/64*8)}
	if err := readFull(d.src, b.bits[:(sectors+7)/8], start, "sector bitmap"); err != nil {
		return nil, err
	}
	switch set, n := b.run(0); {
	case n < sectors:
		if d.f.setsAllBits() {
			d.notes.Add("sector bitmaps say that parts of blocks were never written, which is unusual for a dynamic disk made by %s: they read as zeros, whatever other programs may see there",
				diskimage.Quote(string(d.f.creator[:])))
		}
	case set:
		b.bits = nil
	default:
		if err := d.checkUnwritten(block, start); err != nil {
			return nil, err
		}
	}
	place.Store(b)
	return b, nil
}

// setsAllBits reports whether all bits are to be expected in the disk's bitmaps:
// in a dynamic disk of any program but VirtualBox ("vbox") and XenServer ("tap"
// and "CTXS"), which set those of the sectors that were written.
func (f *footers) setsAllBits() bool {
	switch string(f.creator[:]) {
	case "vbox", "tap\x00", "CTXS":
		return false
	}
	return f.diskType == Dynamic
}

// checkUnwritten refuses a block that has a place and data there, and no sector
// that was ever written by its bitmap. A block gets its place when it is first
// written to, so either bitmap or place is wrong: a place that is off by a
// sector or two may lie in the gap before the block, where it overlaps nothing,
// and the gap's zeros are taken for the bitmap.
func (d *Disk) checkUnwritten(block, start int64) error {
	n, err := d.dataSectors(start+d.bitmapBytes, d.blockSize)
	if err != nil || n == 0 {
		return err
	}
	err = fail(diskimage.ErrCorrupt, start, "sector bitmap", "block %d, guest offset %#x: no sector was ever written by it, and %d hold data", block, block*d.blockSize, n)
	if d.salvage {
		d.notes.Add("%v", err)
		return nil
	}
	return err
}

// dataSectors returns how many of the sectors in n bytes of the file are not
// zeros.
func (d *Disk) dataSectors(host, n int64) (sectors int64, err error) {
	buf := make([]byte, min(n, 1<<20))
	for n > 0 {
		p := buf[:min(n, int64(len(buf)))]
		if err := readFull(d.src, p, host, "data"); err != nil {
			return 0, err
		}
		host, n = host+int64(len(p)), n-int64(len(p))
		for ; len(p) > 0; p = p[sectorSize:] {
			if !zero.Is(p[:sectorSize]) {
				sectors++
			}
		}
	}
	return sectors, nil
}
