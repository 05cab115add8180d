package vhd

import (
	"fmt"
	"slices"

	"github.com/diskimage-go/diskimage"
)

// CheckMap walks the block allocation table of the disk and of its parents,
// reads no guest data, and returns an error if a block lies outside the file's
// data (ErrTruncated where the file was cut, else ErrCorrupt), in metadata, or
// over another block. Sector bitmaps are not read: what can be wrong with them
// NextExtent and ReadAt find.
//
// Memory: 8 bytes for each block in use, 32 MiB at most.
func (d *Disk) CheckMap() error {
	if d.h != nil {
		blocks, err := d.sortedBlocks(func(err error) error { return err })
		if err != nil {
			return err
		}
		if err := d.eachOverlap(blocks, func(err error) error { return err }); err != nil {
			return err
		}
	}
	return d.parent.CheckMap()
}

// A placed is a block with a place in the file: its entry in the table above its
// number, 32 bits each, so that they sort by place.
type placed uint64

// start returns the block's host offset.
func (p placed) start() int64 { return int64(p>>32) * sectorSize }

// block returns the block's number.
func (p placed) block() int64 { return int64(uint32(p)) }

// sortedBlocks returns the blocks in use in the order in which they lie in the
// file. Those that lie where none can are left to bad, which may end it.
func (d *Disk) sortedBlocks(bad func(error) error) ([]placed, error) {
	n := 0
	for _, entry := range d.table {
		if entry != unusedEntry {
			n++
		}
	}
	blocks := make([]placed, 0, n)
	meta := d.metadata()
	for i, entry := range d.table {
		if entry == unusedEntry {
			continue
		}
		start, err := d.blockAt(int64(i), entry)
		if err == nil {
			err = d.apart(int64(i), start, meta)
		}
		if err != nil {
			if err := bad(err); err != nil {
				return nil, err
			}
			continue
		}
		blocks = append(blocks, placed(entry)<<32|placed(i))
	}
	slices.Sort(blocks)
	return blocks, nil
}

// apart returns an error if the block at start lies over metadata.
func (d *Disk) apart(block, start int64, meta []region) error {
	end := start + d.bitmapBytes + d.blockSize
	for _, m := range meta {
		if overlaps(start, end, m.off, m.end) {
			return d.badEntry(block, diskimage.ErrCorrupt, fmt.Sprintf("the block at %#x lies over %s at %#x", start, m.name, m.off))
		}
	}
	return nil
}

// eachOverlap tells of each block that lies over the one before it.
func (d *Disk) eachOverlap(blocks []placed, bad func(error) error) error {
	for i := 1; i < len(blocks); i++ {
		a, b := blocks[i-1], blocks[i]
		if b.start()-a.start() >= d.bitmapBytes+d.blockSize {
			continue
		}
		msg := fmt.Sprintf("the block at %#x overlaps that of entry %d at %#x", b.start(), a.block(), a.start())
		if a.start() == b.start() {
			msg = fmt.Sprintf("the block at %#x is that of entry %d, too", b.start(), a.block())
		}
		if err := bad(d.badEntry(b.block(), diskimage.ErrCorrupt, msg)); err != nil {
			return err
		}
	}
	return nil
}

// A region is a run of the file that holds metadata.
type region struct {
	name     string
	off, end int64
}

// metadata returns where the file has what is no block, but for the footer's
// copy, which lies before all else, and the footer.
func (d *Disk) metadata() []region {
	all := []region{
		{"the dynamic disk header", d.h.off, d.h.off + headerLen},
		{"the block allocation table", int64(d.h.tableOffset), d.h.tableEnd()},
	}
	if d.f.diskType != Differencing {
		return all
	}
	for i, l := range d.h.locators {
		// Of those that are damaged nothing is known, and openParent told of them.
		if l.platform != 0 && l.length > 0 && l.offset <= uint64(d.f.end) {
			all = append(all, region{fmt.Sprintf("parent locator %d", i), int64(l.offset), int64(l.offset) + int64(l.length)})
		}
	}
	return all
}
