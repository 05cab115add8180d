package vhd

import (
	"context"
	"errors"
	"fmt"

	"github.com/diskimage-go/diskimage"
)

// CheckOptions says how [Check] goes about it. The zero value is right for an
// image that stands alone.
type CheckOptions struct {
	// Report is called with each finding, in the same order every time, from
	// the goroutine that called Check. Default: findings are only counted.
	Report func(Finding)

	// Name and Opener are as in [Options]. With an opener the parents are
	// opened and their maps are checked too. Default: the image alone is
	// checked.
	Name   string
	Opener diskimage.Opener
}

// A FindingKind says how bad a [Finding] is.
type FindingKind uint8

const (
	FindingLeak       FindingKind = iota // space is lost, data is not
	FindingCorruption                    // data is damaged, or read differently by different programs
	FindingError                         // something could not be read, so that it was not checked
)

func (k FindingKind) String() string {
	switch k {
	case FindingLeak:
		return "leak"
	case FindingCorruption:
		return "corruption"
	case FindingError:
		return "error"
	}
	return fmt.Sprintf("FindingKind(%d)", uint8(k))
}

// A Finding is one thing that is wrong with an image.
type Finding struct {
	Kind FindingKind
	Off  int64  // host offset of the object at fault, -1 where there is none
	Text string // one line
}

// A CheckResult is what a check found.
type CheckResult struct {
	ImageEndOffset int64 // end of the last block, or of a fixed disk's data
	Blocks         int64 // that the disk has; 0 of a fixed disk
	Allocated      int64 // of those, the ones with a place in the file
	Fragmented     int64 // of those, the ones that do not follow the one before
	Corruptions    int64
	Leaks          int64 // runs of the file, a block long or more, that nothing names
	CheckErrors    int64
}

// Check checks the VHD image in src: its footer and the footer's copy, the
// checksums, the block allocation table against the file, blocks that overlap
// or are used twice, and sector bitmaps: one that hides all of a block's data,
// and in a dynamic disk any data, which programs that honour bitmaps do not show
// and others do. Sectors below set bits are not read.
//
// What is wrong with the image is reported and counted, and is no error. An
// error means that there is no result: src is no VHD image, or one whose footer
// and dynamic disk header do not allow to read it, or ctx was cancelled.
//
// Memory: as [Disk.CheckMap].
func Check(ctx context.Context, src diskimage.Source, o CheckOptions) (*CheckResult, error) {
	d, err := Open(ctx, unclosed{src}, Options{Name: o.Name, Opener: o.Opener, SkipExternal: o.Opener == nil})
	if err != nil {
		return nil, err
	}
	defer d.parent.Close()
	c := &checker{Disk: d, ctx: ctx, report: o.Report}
	if d.f.otherDamaged {
		c.find(FindingCorruption, d.f.off, "ERROR the footer or its copy is damaged")
	}
	if d.f.differ {
		c.find(FindingCorruption, d.f.off, "ERROR the footer and its copy differ")
	}
	c.res.ImageEndOffset = d.size
	if d.h != nil {
		if err := c.run(); err != nil {
			return nil, err
		}
	}
	if err := d.parent.CheckMap(); err != nil {
		c.find(FindingCorruption, -1, "ERROR %v", err)
	}
	return &c.res, nil
}

// unclosed is a source that stays open: it is the caller's.
type unclosed struct{ diskimage.Source }

// A checker is one check under way.
type checker struct {
	*Disk
	ctx    context.Context
	report func(Finding)
	res    CheckResult
}

func (c *checker) find(kind FindingKind, off int64, format string, args ...any) {
	switch kind {
	case FindingLeak:
		c.res.Leaks++
	case FindingCorruption:
		c.res.Corruptions++
	case FindingError:
		c.res.CheckErrors++
	}
	if c.report != nil {
		c.report(Finding{kind, off, fmt.Sprintf(format, args...)})
	}
}

// failed reports an error of this package's as what it is of: what cannot be
// read was not checked, all else is damage.
func (c *checker) failed(err error) error {
	var e *diskimage.Error
	if errors.As(err, &e) {
		c.find(FindingCorruption, e.Off, "ERROR %v", err)
	} else {
		c.find(FindingError, -1, "ERROR %v", err)
	}
	return nil
}

// run checks the table and the bitmaps of a dynamic or differencing disk.
func (c *checker) run() error {
	c.res.Blocks = int64(len(c.table))
	blocks, err := c.sortedBlocks(c.failed)
	if err != nil {
		return err
	}
	if err := c.eachOverlap(blocks, c.failed); err != nil {
		return err
	}
	for _, entry := range c.table {
		if entry != unusedEntry {
			c.res.Allocated++
		}
	}
	length := c.bitmapBytes + c.blockSize
	at := c.h.tableEnd()
	for _, m := range c.metadata() {
		at = max(at, m.end)
	}
	c.res.ImageEndOffset = at
	for i, b := range blocks {
		if gap := b.start() - at; gap >= length {
			c.find(FindingLeak, at, "Leaked %d bytes at %#x: nothing names them", gap, at)
		}
		if i > 0 && blocks[i-1].block() > b.block() {
			c.res.Fragmented++
		}
		at = max(at, b.start()+length)
		if err := c.ctx.Err(); err != nil {
			return context.Cause(c.ctx)
		}
		c.checkBitmap(b)
	}
	if gap := c.f.end - at; gap >= length {
		c.find(FindingLeak, at, "Leaked %d bytes at %#x: nothing names them", gap, at)
	}
	c.res.ImageEndOffset = at
	return nil
}

// checkBitmap looks at what a dynamic disk's block has below the clear bits of
// its bitmap. In a differencing disk anything may be there, as long as there is
// a bit that is set: whoever reads one has to go by the bitmap.
func (c *checker) checkBitmap(b placed) {
	bits, err := c.bitmaps.get(c.Disk, b.block(), b.start())
	if err != nil {
		c.failed(err)
		return
	}
	if c.f.diskType == Differencing {
		return
	}
	var hidden int64
	for sector := int64(0); sector < bits.sectors; {
		set, n := bits.run(sector)
		if !set {
			found, err := c.dataSectors(b.start()+c.bitmapBytes+sector*sectorSize, n*sectorSize)
			if err != nil {
				c.failed(err)
				return
			}
			hidden += found
		}
		sector += n
	}
	if hidden > 0 {
		c.find(FindingCorruption, b.start(), "ERROR block %d: %d sectors hold data that the sector bitmap at %#x hides", b.block(), hidden, b.start())
	}
}
