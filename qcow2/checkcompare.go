package qcow2

import (
	"encoding/binary"
	"maps"
	"math"
	"slices"
)

// checkBlockCounts reports the refcount blocks that are something else too. It
// waits for the end of counting, when it is known what the window holds, and
// tells of each block what it was before later entries counted it again.
func (c *checker) checkBlockCounts() {
	for i := range c.refs.entries() {
		if cl, ok := c.soundBlock(i); ok {
			if t := c.tallies.at(cl); t != nil && t.refs() > 0 {
				*t--
			}
		}
	}
	for i := range c.refs.entries() {
		cl, ok := c.soundBlock(i)
		if !ok {
			continue
		}
		if t := c.tallies.at(cl); t != nil {
			if t.add(1, usedRefcounts); t.refs() != 1 {
				c.find(Finding{Kind: FindingCorruption, Off: cl << c.cluster, Cluster: cl, Refcount: 1, Reference: t.refs()},
					"ERROR refcount block %d refcount=%d", i, t.refs())
			}
		}
	}
}

// compare holds the references of every cluster in the window against its
// refcount. It leaves the refcounts in the counters' place, for checkCopied.
func (c *checker) compare() error {
	var (
		pages     = c.tallies.sorted()
		from, end = c.tallies.bounds()
		bits      = c.refs.perBlockBits()
	)
	for i := from >> bits; i < c.refs.entries(); i++ {
		first, last := max(from, i<<bits), min(end, (i+1)<<bits)
		if first >= end {
			return nil
		}
		if err := c.ctx.Err(); err != nil {
			return err
		}
		// Behind the end of the file only what is referenced matters.
		at, _ := slices.BinarySearch(pages, first>>tallyPageBits)
		if first >= c.clusters && (at == len(pages) || pages[at]<<tallyPageBits >= last) {
			continue
		}
		block, err := c.refs.load(i)
		if err != nil {
			c.find(Finding{Kind: FindingError, Off: c.refs.offset(i), Cluster: -1}, "ERROR %s", err)
		}
		c.compareRange(pages[at:], first, last, block, i<<bits)
	}
	if first := max(from, c.refs.entries()<<bits); first < end {
		at, _ := slices.BinarySearch(pages, first>>tallyPageBits)
		c.compareRange(pages[at:], first, end, nil, first)
	}
	return nil
}

// compareRange compares the clusters [from, end), of which pages holds the
// pages of counters and block the refcounts; base is its first cluster.
func (c *checker) compareRange(pages []int64, from, end int64, block []byte, base int64) {
	order := c.refs.order
	for cl := from; cl < end; {
		for len(pages) > 0 && pages[0] < cl>>tallyPageBits {
			pages = pages[1:]
		}
		if len(pages) == 0 || pages[0] > cl>>tallyPageBits { // nothing here is referenced
			next := end
			if len(pages) > 0 {
				next = min(end, pages[0]<<tallyPageBits)
			}
			c.leaks(cl, min(next, c.clusters), block, base)
			cl = next
			continue
		}
		page := c.tallies.pages[pages[0]]
		for last := min(end, (pages[0]+1)<<tallyPageBits); cl < last; cl++ {
			t := &page[cl&(tallyPageLen-1)]
			refcount := refcountAt(block, order, cl-base)
			if *t != 0 || refcount != 0 && cl < c.clusters {
				c.compareOne(cl, *t, refcount)
			}
			*t = tally(min(refcount, math.MaxUint32))
		}
	}
}

// leaks reports the clusters of [from, end) that have a refcount: nothing
// refers to them.
func (c *checker) leaks(from, end int64, block []byte, base int64) {
	perWord := int64(64) >> c.refs.order
	for cl := from; cl < end; {
		i := cl - base
		at := i / perWord * 8
		if at >= int64(len(block)) {
			return
		}
		if i%perWord == 0 && at+8 <= int64(len(block)) && binary.NativeEndian.Uint64(block[at:]) == 0 {
			cl += perWord
			continue
		}
		if refcount := refcountAt(block, c.refs.order, i); refcount != 0 {
			c.compareOne(cl, 0, refcount)
		}
		cl++
	}
}

// compareOne compares one cluster that is referenced or counted.
func (c *checker) compareOne(cl int64, t tally, refcount uint64) {
	c.last = max(c.last, cl+1)
	reference := t.refs()
	f := Finding{Kind: FindingCorruption, Off: cl << c.cluster, Cluster: cl, Refcount: refcount, Reference: reference}
	if most := min(c.refs.max(), maxTally-1); reference > most {
		// More references than a refcount can say: one corruption for each.
		c.res.Corruptions += int64(reference - most - 1)
		c.find(f, "ERROR: overflow cluster offset=%#x", f.Off)
		if refcount >= most {
			return
		}
		reference = most
	}
	switch {
	case refcount < reference:
		c.find(f, "ERROR cluster %d refcount=%d reference=%d", cl, refcount, reference)
		return
	case refcount > reference:
		f.Kind = FindingLeak
		c.find(f, "Leaked cluster %d refcount=%d reference=%d", cl, refcount, reference)
	}
	if t.overlap() {
		f.Kind = FindingCorruption
		c.find(f, "ERROR cluster %d holds %s, and is referenced %d times", cl, t.uses(), t.refs())
	}
}

// checkCopied checks the COPIED flags of the active tables: set exactly where
// the refcount is one, of L2 tables and of guest data that is not compressed.
// The counters hold refcounts by now.
func (c *checker) checkCopied() error {
	size := c.h.clusterSize()
	done := maps.Clone(c.shared)
	for i := range c.active.len() {
		e := c.active.entry(i)
		off := int64(e & l1OffsetMask)
		if off == 0 {
			continue
		}
		if k, ok := done[off]; ok {
			if k == 0 {
				continue
			}
			done[off] = 0
		}
		if t := c.tallies.at(c.number(off)); t != nil && (*t == 1) != (e&flagCopied != 0) {
			c.find(Finding{Kind: FindingCorruption, Off: off, Cluster: c.number(off), Refcount: uint64(*t)},
				"ERROR OFLAG_COPIED L2 cluster: l1_index=%d l1_entry=%x refcount=%d", i, e, *t)
		}
		if off&(size-1) != 0 || off >= c.fileSize {
			continue
		}
		if err := c.ctx.Err(); err != nil {
			return err
		}
		l2, err := c.walk.load(off)
		if err != nil {
			continue // countAll has reported it
		}
		c.checkCopiedEntries(l2)
	}
	return nil
}

func (c *checker) checkCopiedEntries(l2 []byte) {
	entry := int(c.h.entrySize())
	external := c.h.hasDataFile()
	for at := 0; at < len(l2); at += entry {
		e := binary.BigEndian.Uint64(l2[at:])
		off := int64(e & l2OffsetMask)
		copied := e&flagCopied != 0
		if e&flagCompressed != 0 || off == 0 {
			continue
		}
		refcount := tally(1) // every cluster of a data file is the image's alone
		if external {
			if c.later {
				return
			}
		} else if t := c.tallies.at(c.number(off)); t != nil {
			refcount = *t
		} else {
			continue
		}
		if (refcount == 1) != copied {
			c.find(Finding{Kind: FindingCorruption, Off: off, Cluster: c.number(off), Refcount: uint64(refcount)},
				"ERROR OFLAG_COPIED data cluster: l2_entry=%x refcount=%d", e, refcount)
		}
	}
}
