package qcow2

import (
	"encoding/binary"
	"errors"
	"maps"
	"math"

	"github.com/diskimage-go/diskimage"
)

// countAll counts every reference that the image makes to its host clusters,
// as far as the window reaches, and reports what is wrong with the entries
// themselves.
func (c *checker) countAll() error {
	c.count(0, 1, 1, usedMeta) // the header
	c.count(int64(c.h.l1Offset), int64(c.h.l1Size)*8, 1, usedMeta)
	if err := c.countTables(c.active, maps.Clone(c.shared), 1, true); err != nil {
		return err
	}
	if err := c.countSnapshots(); err != nil {
		return err
	}
	c.countCrypto()
	if err := c.countBitmaps(); err != nil {
		return err
	}
	c.countRefcounts()
	return nil
}

// count counts times references to each cluster that the n host bytes at off
// touch. It reports, and does not count, what lies outside the file. A part of
// a cluster may: files end where the last byte was written.
func (c *checker) count(off, n int64, times uint32, used tally) bool {
	if n <= 0 {
		return true
	}
	if off > math.MaxInt64-n || off+n-c.fileSize >= c.h.clusterSize() {
		c.tallies.at(c.number(off)) // so that its refcount is known to checkCopied
		c.corrupt(off, "ERROR: counting reference for region exceeding the end of the file by one cluster or more: offset %#x size %#x", off, n)
		return false
	}
	for cl, last := c.number(off), c.number(off+n-1); cl <= last; cl++ {
		if t := c.tallies.at(cl); t != nil {
			t.add(times, used)
		}
	}
	return true
}

// countTables counts the L2 tables of an L1 table and what they point to.
// shared is the table's own, and used up; times is how often the L1 table itself
// counts.
func (c *checker) countTables(l1 l1Table, shared map[int64]uint32, times uint32, active bool) error {
	size := c.h.clusterSize()
	for i := range l1.len() {
		e := l1.entry(i)
		if e == 0 {
			continue
		}
		off := int64(e & l1OffsetMask)
		if e&l1ReservedMask != 0 {
			c.corrupt(off, "ERROR found L1 entry with reserved bits set: %x", e)
		}
		if off == 0 {
			if e&flagCopied != 0 {
				c.corrupt(-1, "ERROR found L1 entry with the COPIED flag and no L2 table: %x", e)
			}
			continue
		}
		n := times
		if k, ok := shared[off]; ok {
			if k == 0 { // counted with the first entry that points to it
				continue
			}
			shared[off] = 0
			if c.h.hasDataFile() {
				c.corrupt(off, "ERROR l2_offset=%x: Table is used %d times in an image with a data file", off, k)
			}
			n = uint32(min(uint64(times)*uint64(k), maxTally))
		}
		inside := c.count(off, size, n, usedTable)
		if off&(size-1) != 0 {
			c.corrupt(off, "ERROR l2_offset=%x: Table is not cluster aligned; L1 entry corrupted", off)
			continue
		}
		if !inside {
			continue
		}
		if off+size > c.fileSize {
			c.corrupt(off, "ERROR l2_offset=%x: Table is cut by the end of the file", off)
		}
		if err := c.ctx.Err(); err != nil {
			return err
		}
		l2, err := c.walk.load(off)
		if err != nil {
			c.failed(off, within(err, "l1 table: entry %d", i))
			continue
		}
		c.countEntries(l2, i, n, active)
	}
	return nil
}

// countEntries counts the host clusters of the L2 table that L1 entry index
// points to.
func (c *checker) countEntries(l2 []byte, index int64, times uint32, active bool) {
	var (
		size     = c.h.clusterSize()
		entry    = c.h.entrySize()
		extended = c.h.extendedL2()
		reserved = uint64(l2ReservedMask)
		next     int64 // where the next cluster lies if it is not fragmented
		bitmap   uint64
	)
	if extended {
		reserved = l2ReservedMaskExtended
	}
	for at := int64(0); at < int64(len(l2)); at += entry {
		e := binary.BigEndian.Uint64(l2[at:])
		if extended {
			bitmap = binary.BigEndian.Uint64(l2[at+8:])
		}
		if e|bitmap == 0 {
			continue
		}
		guest := (index<<c.h.l2Bits() + at/entry) << c.cluster
		if e&flagCompressed != 0 {
			if c.countCompressed(e, bitmap, at/entry, times) && active && !c.later {
				c.res.AllocatedClusters += int64(times)
				c.res.CompressedClusters += int64(times)
				c.res.FragmentedClusters += int64(times)
			}
			continue
		}
		if e&reserved != 0 {
			c.corrupt(-1, "ERROR found l2 entry with reserved bits set: %x", e)
		}
		off := int64(e & l2OffsetMask)
		if off == 0 && !(c.h.hasDataFile() && e&flagCopied != 0) {
			switch {
			case uint32(bitmap) != 0:
				c.corrupt(-1, "ERROR: Unallocated cluster has non-zero subcluster allocation map")
			case e&flagZero != 0 && c.h.version < 3:
				c.corrupt(-1, "ERROR found l2 entry with the zero flag, which version 2 does not have: %x", e)
			case e&flagCopied != 0:
				c.corrupt(-1, "ERROR found l2 entry with the COPIED flag and no cluster: %x", e)
			}
			continue
		}
		c.countData(e, bitmap, off, guest, times)
		if active && !c.later {
			c.res.AllocatedClusters += int64(times)
			if next != 0 && off != next {
				c.res.FragmentedClusters += int64(times)
			}
			next = off + size
		}
	}
}

// countCompressed counts a compressed cluster, and reports whether it is one.
func (c *checker) countCompressed(e, bitmap uint64, index int64, times uint32) bool {
	off, n := compressedRange(e, c.cluster)
	switch {
	case c.h.hasDataFile():
		c.corrupt(-1, "ERROR compressed cluster %d with data file, entry=%#x", index, e)
		return false
	case bitmap != 0:
		c.corrupt(-1, "ERROR compressed cluster %d with non-zero subcluster allocation bitmap, entry=%#x", index, e)
		return false
	}
	if e&flagCopied != 0 {
		c.corrupt(off, "ERROR: coffset=%#x: copied flag must never be set for compressed clusters", off)
	}
	// The rest of the last sector may lie behind the end of the file, its
	// beginning may not.
	if c.count(off, n, times, usedCompressed) && max(off, off+n-sectorSize) >= c.fileSize {
		c.corrupt(off, "ERROR: coffset=%#x: compressed cluster is cut by the end of the file", off)
	}
	return true
}

// countData counts a plain or preallocated cluster.
func (c *checker) countData(e, bitmap uint64, off, guest int64, times uint32) {
	size := c.h.clusterSize()
	zero := e&flagZero != 0 // all of it reads as zeros: the cluster is only preallocated
	if c.h.extendedL2() {
		zero = uint32(bitmap) == 0
		if uint32(bitmap)&uint32(bitmap>>32) != 0 {
			c.corrupt(off, "ERROR offset=%x: Allocated cluster has corrupted subcluster allocation bitmap", off)
		}
	} else if zero && c.h.version < 3 {
		c.corrupt(off, "ERROR found l2 entry with the zero flag, which version 2 does not have: %x", e)
	}
	if off&(size-1) != 0 {
		contents := "Data"
		if zero {
			contents = "Preallocated"
		}
		c.corrupt(off, "ERROR offset=%x: %s cluster is not properly aligned; L2 entry corrupted.", off, contents)
	}
	if c.h.hasDataFile() {
		if off != guest && off&(size-1) == 0 {
			c.corrupt(off, "ERROR offset=%x: Data cluster of guest offset %x is not at the same offset of the data file", off, guest)
		}
		return // refcounts are of the image's own clusters
	}
	if c.count(off, size, times, usedData) && !zero && off+visible(c.h, int64(c.h.size), guest, bitmap) > c.fileSize {
		c.corrupt(off, "ERROR offset=%x: Data cluster is cut by the end of the file", off)
	}
}

// countSnapshots counts the snapshot table and the tables of each snapshot.
func (c *checker) countSnapshots() error {
	if c.h.nbSnapshots == 0 {
		return nil
	}
	if _, err := readSnapshots(c.walk.src, c.h); errors.Is(err, diskimage.ErrLimit) {
		return err // as Open has it
	}
	// Read by the rules of version 2, which do without the extra data that
	// version 3 demands: such an entry is reported, and still counted.
	lax := *c.h
	lax.version = 2
	snapshots, err := readSnapshots(c.walk.src, &lax)
	start := int64(c.h.snapshotsOffset)
	n := int64(1)
	for i, s := range snapshots {
		if c.h.version >= 3 && s.extra < snapshotExtraV3 {
			c.corrupt(s.off, "ERROR snapshot table entry %d is incomplete", i)
		}
		n = s.off + s.len - start
	}
	if err != nil {
		c.corrupt(start, "ERROR %s", err)
		n = max(n, snapshotHeaderLen)
	}
	// Snapshots that name the same L1 table are corrupt; it is walked once.
	same := make(map[Snapshot]uint32)
	key := func(s Snapshot) Snapshot { return Snapshot{l1Offset: s.l1Offset, l1Size: s.l1Size} }
	for _, s := range snapshots {
		same[key(s)]++
	}
	// And so are tables that overlap, of which the first is walked.
	var spans []span
	for s := range same {
		if off, n := int64(s.l1Offset), int64(s.l1Size)*8; off >= 0 && n <= maxL1Bytes && off <= math.MaxInt64-maxL1Bytes {
			spans = append(spans, span{off, n})
		}
	}
	apart := make(map[span]bool)
	for _, s := range disjoint(spans, math.MaxInt64) {
		apart[s] = true
	}
	for _, s := range snapshots {
		times := same[key(s)]
		if times == 0 {
			continue
		}
		same[key(s)] = 0
		if err := c.countSnapshot(s, times, apart); err != nil {
			return err
		}
	}
	c.count(start, n, 1, usedMeta)
	return nil
}

// countSnapshot counts the tables of a snapshot, if its L1 table is one of those
// that are apart from each other.
func (c *checker) countSnapshot(s Snapshot, times uint32, apart map[span]bool) error {
	damaged := func(field string, value uint64, fact string) {
		c.corrupt(s.off, "ERROR snapshot %s (%s) %s=%#x: L1 table is %s; snapshot table entry corrupted", printable(s.ID), printable(s.Name), field, value, fact)
	}
	if s.l1Offset&uint64(c.h.clusterSize()-1) != 0 {
		damaged("l1_offset", s.l1Offset, "not cluster aligned")
		return nil
	}
	n := int64(s.l1Size) * 8
	if n > maxL1Bytes {
		damaged("l1_size", uint64(s.l1Size), "too large")
		return nil
	}
	if s.l1Offset > math.MaxInt64-maxL1Bytes {
		damaged("l1_offset", s.l1Offset, "above 2^63")
		return nil
	}
	off := int64(s.l1Offset)
	if !apart[span{off, n}] {
		damaged("l1_offset", s.l1Offset, "overlapping that of another snapshot")
		return nil
	}
	if !c.count(off, n, times, usedMeta) {
		return nil
	}
	if off+n > c.fileSize {
		damaged("l1_offset", s.l1Offset, "cut by the end of the file")
		return nil
	}
	l1, err := c.walk.readL1(off, s.l1Size)
	if err != nil {
		c.failed(off, within(err, "snapshot %s", diskimage.Quote(s.ID)))
		return nil
	}
	return c.countTables(l1, l1.shared(), times, false)
}

// printable returns a name from the image fit for a line, without quotes
// where it needs none.
func printable(s string) string {
	q := diskimage.Quote(s)
	if len(q) == len(s)+2 {
		return s
	}
	return q
}

// countCrypto counts the header of the LUKS encryption.
func (c *checker) countCrypto() {
	for _, x := range c.h.list {
		if x.Type != extCrypto {
			continue
		}
		if len(x.Data) < 16 {
			c.corrupt(x.Off, "ERROR encryption header extension of %d bytes is too short", len(x.Data))
			continue
		}
		off, n := binary.BigEndian.Uint64(x.Data), binary.BigEndian.Uint64(x.Data[8:])
		if off&uint64(c.h.clusterSize()-1) != 0 || off > math.MaxInt64 || n > maxCryptoBytes {
			c.corrupt(x.Off, "ERROR encryption header at %#x with %#x bytes: not where or as large as it may be", off, n)
			continue
		}
		c.count(int64(off), int64(n), 1, usedMeta)
	}
}

// countRefcounts counts the refcount table and its blocks.
func (c *checker) countRefcounts() {
	c.count(int64(c.h.refTableOffset), int64(c.h.refTableClusters)<<c.cluster, 1, usedRefcounts)
	for i := range c.refs.entries() {
		e := c.refs.entry(i)
		off := e & refTableOffsetMask
		switch {
		case e == 0:
		case e&^refTableOffsetMask != 0:
			c.corrupt(int64(c.h.refTableOffset)+i*8, "ERROR refcount table entry %d has reserved bits set", i)
		case off&uint64(c.h.clusterSize()-1) != 0:
			c.corrupt(int64(c.h.refTableOffset)+i*8, "ERROR refcount block %d is not cluster aligned; refcount table entry corrupted", i)
		case off >= uint64(c.fileSize):
			c.corrupt(int64(c.h.refTableOffset)+i*8, "ERROR refcount block %d is outside image", i)
		default:
			if t := c.tallies.at(c.number(int64(off))); t != nil {
				t.add(1, usedRefcounts)
			}
			if end := int64(off) + c.h.clusterSize(); end > c.fileSize {
				c.corrupt(int64(off), "ERROR refcount block %d is cut by the end of the file", i)
			}
		}
	}
}

// soundBlock returns the cluster of the refcount block of entry i, if that
// entry was counted.
func (c *checker) soundBlock(i int64) (int64, bool) {
	e := c.refs.entry(i)
	ok := e != 0 && e&^refTableOffsetMask == 0 && e&uint64(c.h.clusterSize()-1) == 0 && e < uint64(c.fileSize)
	return int64(e >> c.cluster), ok
}
