package qcow2

import (
	"encoding/binary"
	"math"

	"github.com/diskimage-go/diskimage"
)

// maxCryptoBytes is the most that an encryption header may say it takes: far
// more than the two MiB of eight LUKS key slots.
const maxCryptoBytes = 1 << 30

// countBitmaps counts the bitmap directory, and the table and clusters of each
// bitmap. Where the autoclear bit is not set the bitmaps are not valid, and
// their clusters are nobody's.
func (c *checker) countBitmaps() error {
	if !c.h.hasBitmaps || c.h.autoclear&autoclearBitmaps == 0 {
		return nil
	}
	bitmaps, err := readBitmaps(c.walk.src, c.h)
	if err != nil {
		c.corrupt(c.h.bitmapsOff, "ERROR %s", err)
	}
	if c.h.validateBitmaps() == nil {
		c.count(int64(c.h.bitmapsExt.dirOffset), int64(c.h.bitmapsExt.dirSize), 1, usedMeta)
	}
	var spans []span
	for _, b := range bitmaps {
		if c.h.placed(b) {
			spans = append(spans, span{int64(b.tableOffset), int64(b.tableEntries) * 8})
		}
	}
	apart := make(map[span]int)
	for _, s := range disjoint(spans, math.MaxInt64) {
		apart[s] = 1
	}
	for _, b := range bitmaps {
		if err := c.countBitmap(b, apart); err != nil {
			return err
		}
	}
	return nil
}

// countBitmap counts the table and clusters of a bitmap, if its table is one of
// those that are apart from each other; each of those once.
func (c *checker) countBitmap(b Bitmap, apart map[span]int) error {
	off, n := b.tableOffset, int64(b.tableEntries)*8
	if !c.h.placed(b) {
		c.corrupt(b.off, "ERROR bitmap %s: table of %d entries at %#x: %d entries at the start of a cluster are right",
			diskimage.Quote(b.Name), b.tableEntries, off, c.h.bitmapEntries(b))
		return nil
	}
	if apart[span{int64(off), n}]--; apart[span{int64(off), n}] < 0 {
		c.corrupt(int64(off), "ERROR bitmap %s: its table overlaps another's", diskimage.Quote(b.Name))
		return nil
	}
	if !c.count(int64(off), n, 1, usedMeta) {
		return nil
	}
	buf := make([]byte, min(n, 1<<20))
	for at := int64(0); at < n; at += int64(len(buf)) {
		if err := c.ctx.Err(); err != nil {
			return err
		}
		buf = buf[:min(int64(len(buf)), n-at)]
		if inHole(c.walk.src, int64(off)+at, int64(len(buf))) {
			continue
		}
		if err := readFull(c.walk.src, buf, int64(off)+at, "bitmap table"); err != nil {
			if int64(off)+n > c.fileSize {
				c.corrupt(int64(off), "ERROR bitmap %s: %s", diskimage.Quote(b.Name), err)
			} else {
				c.failed(int64(off), err)
			}
			return nil
		}
		for i := 0; i < len(buf); i += 8 {
			c.countBitmapEntry(b, binary.BigEndian.Uint64(buf[i:]))
		}
	}
	return nil
}

func (c *checker) countBitmapEntry(b Bitmap, e uint64) {
	data := int64(e & bitmapTableOffsetMask)
	if e&bitmapTableReservedMask != 0 || data != 0 && e&bitmapTableAllOnes != 0 || data&(c.h.clusterSize()-1) != 0 {
		c.corrupt(data, "ERROR bitmap %s: table entry %x is invalid", diskimage.Quote(b.Name), e)
		return
	}
	if data != 0 {
		c.count(data, c.h.clusterSize(), 1, usedMeta)
	}
}
