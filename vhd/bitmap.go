package vhd

import (
	"math/bits"
	"sync/atomic"
)

// A bitmap is a block's sector bitmap: a bit for each sector, the first sector's
// the most significant of the first byte; set where the sector is this disk's.
type bitmap struct {
	block   int64
	sectors int64
	bits    []byte // nil: all are set
}

// run returns what the sector is, and how many from it on are alike.
func (b *bitmap) run(sector int64) (set bool, n int64) {
	if b.bits == nil {
		return true, b.sectors - sector
	}
	set = b.bits[sector/8]<<(sector%8)&0x80 != 0
	var flip byte
	if set {
		flip = 0xff
	}
	at := sector
	for at < b.sectors {
		// Of the byte, the bits from at on, as ones where the run ends.
		if differ := (b.bits[at/8] ^ flip) << (at % 8); differ != 0 {
			at += int64(bits.LeadingZeros8(differ))
			break
		}
		at = at&^7 + 8
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
	b := &bitmap{block: block, sectors: sectors, bits: make([]byte, (sectors+7)/8)}
	if err := readFull(d.src, b.bits, start, "sector bitmap"); err != nil {
		return nil, err
	}
	if set, n := b.run(0); set && n == sectors {
		b.bits = nil
	}
	place.Store(b)
	return b, nil
}
