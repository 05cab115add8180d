package qcow2

import (
	"fmt"
	"math/bits"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/internal/pagecache"
)

// A state says what a table tells of a guest cluster or subcluster.
type state uint8

const (
	absent state = iota // nothing: the backing image's, or zeros
	zeros               // reads as zeros
	plain               // stored as it is
	packed              // compressed
)

// A mapping says where a run of guest bytes is.
type mapping struct {
	state   state
	n       int64 // guest bytes
	host    int64 // of the first byte; packed: of the stream; -1 if there is no place
	hostLen int64 // packed: bytes that the stream is in; 0 else
	cut     bool  // packed: the file ends before hostLen's last sector does
}

// A place says which table entry a guest offset led to.
type place struct {
	l1Index, l2Index int64
	l2Offset         int64 // of the L2 table
	guest            int64 // offset of the guest cluster
}

// lookup maps the guest bytes at off, limit of them at most: a run that is
// alike, as far as one page of the tables shows it. With an error the
// mapping's n is how many bytes it is about.
func (d *Disk) lookup(off, limit int64) (mapping, error) {
	l1Index := off >> d.spanBits
	l1, i, err := d.l1Page(l1Index)
	if err != nil {
		return mapping{n: d.spanLeft(off, limit)}, err
	}
	e := l1.entry(i)
	if e == 0 {
		n := int64(1)
		for end := int64(len(l1) / 8); i+n < end && l1.entry(i+n) == 0; n++ {
		}
		return mapping{state: absent, n: min(limit, (l1Index+n)<<d.spanBits-off), host: -1}, nil
	}
	l2Offset, err := d.l2Table(e, l1Index)
	if err != nil {
		return mapping{n: d.spanLeft(off, limit)}, err
	}
	pl := place{
		l1Index:  l1Index,
		l2Index:  off & (1<<d.spanBits - 1) >> d.clusterBits,
		l2Offset: l2Offset,
		guest:    off &^ (d.clusterSize - 1),
	}
	l2, i, err := d.l2Page(pl)
	if err != nil {
		return mapping{n: d.spanLeft(off, limit)}, err
	}
	var m mapping
	if d.h.extendedL2() {
		m, err = d.extendedRun(l2, i, pl, off, limit)
	} else {
		m, err = d.standardRun(l2, i, pl, off, limit)
	}
	if err != nil {
		return mapping{n: min(limit, pl.guest+d.clusterSize-off)}, err
	}
	m.n = min(m.n, limit)
	if m.state == plain {
		m.n, err = d.usable(m.host, m.n, pl)
	}
	return m, err
}

// spanLeft returns how many of limit bytes at off the same L2 table maps.
func (d *Disk) spanLeft(off, limit int64) int64 {
	span := int64(1) << d.spanBits
	return min(limit, span-off&(span-1))
}

// l1Page returns the page of the L1 table that holds an entry, and the entry's
// number in it.
func (d *Disk) l1Page(l1Index int64) (page, int64, error) {
	off := l1Index * 8 &^ (pageBytes - 1)
	key := pagecache.Key{Off: d.l1Offset + off, Len: int(min(pageBytes, d.l1Bytes-off))}
	i := l1Index & (pageBytes/8 - 1)
	if p := d.tables.get(key, ofL1); p != nil {
		return p, i, nil
	}
	p, err := d.tables.load(key, "l1 table")
	return p, i, err
}

// l2Page returns the page of the L2 table that holds an entry, and the entry's
// number in it.
func (d *Disk) l2Page(pl place) (page, int64, error) {
	n := int(min(d.clusterSize, pageBytes))
	key := pagecache.Key{Off: pl.l2Offset + pl.l2Index/d.perPage*int64(n), Len: n}
	i := pl.l2Index & (d.perPage - 1)
	if p := d.tables.get(key, ofL2); p != nil {
		return p, i, nil
	}
	p, err := d.tables.load(key, fmt.Sprintf("l2 table %d", pl.l1Index))
	return p, i, err
}

// l2Table returns the offset of the L2 table that the L1 entry e names.
func (d *Disk) l2Table(e uint64, l1Index int64) (int64, error) {
	bad := func(kind diskimage.ErrorKind, format string, args ...any) (int64, error) {
		return 0, fail(kind, d.l1Offset+l1Index*8, fmt.Sprintf("l1 table: entry %d", l1Index), format, args...)
	}
	off := int64(e & l1OffsetMask)
	switch {
	case e&l1ReservedMask != 0:
		return bad(diskimage.ErrCorrupt, "reserved bits set in %#x", e)
	case off == 0:
		return bad(diskimage.ErrCorrupt, "the COPIED flag is set in %#x, but there is no l2 table", e)
	case off&(d.clusterSize-1) != 0:
		return bad(diskimage.ErrCorrupt, "the l2 table's offset %#x is not the start of a cluster", off)
	case off+d.clusterSize > d.fileSize:
		return bad(diskimage.ErrTruncated, "the l2 table at %#x ends beyond the end of the file at %#x", off, d.fileSize)
	}
	if table, _ := d.table(off, d.clusterSize); table != "" {
		return bad(diskimage.ErrCorrupt, "the l2 table at %#x overlaps the %s", off, table)
	}
	return off, nil
}

// standardRun maps off by the entries of 8 bytes from entry i of page p on.
func (d *Disk) standardRun(p page, i int64, pl place, off, limit int64) (mapping, error) {
	e := p.entry(i)
	m, err := d.decodeEntry(e, pl)
	if err != nil {
		return m, err
	}
	within := off - pl.guest
	if m.state == packed {
		m.n = d.clusterSize - within
		return m, nil
	}
	// What follows is alike if it differs by the host offset's steps only.
	mask, step := ^uint64(flagCopied), uint64(0)
	if m.host >= 0 {
		step = uint64(d.clusterSize)
		m.host += within
	} else {
		mask = ^uint64(0) // COPIED of no cluster is an error, or with a data file one at 0
	}
	n := int64(1)
	most := min(d.perPage-i, (within+limit+d.clusterSize-1)>>d.clusterBits)
	for want := e&mask + step; n < most && p.entry(i+n)&mask == want; want += step {
		n++
	}
	m.n = n<<d.clusterBits - within
	return m, nil
}

// extendedRun is standardRun for entries of 16 bytes with subclusters.
func (d *Disk) extendedRun(p page, i int64, pl place, off, limit int64) (mapping, error) {
	bitmap := p.entry(2*i + 1)
	m, err := d.decodeExtended(p.entry(2*i), bitmap, pl)
	if err != nil {
		return m, err
	}
	within := off - pl.guest
	if m.state == packed {
		m.n = d.clusterSize - within
		return m, nil
	}
	subBits := d.clusterBits - 5
	sub := uint(within >> subBits)
	m.state = subclusterState(bitmap, sub)
	m.n = subclusterRun(bitmap, sub, m.state)<<subBits - within&(1<<subBits-1)
	if m.host >= 0 { // of an absent subcluster too: a place that is kept for it
		m.host += within
	}
	// A run that reaches its cluster's end goes on if the next cluster's first
	// subcluster is alike and, where there is one, at the next place.
	for i++; m.n < limit && (off+m.n)&(d.clusterSize-1) == 0 && i < d.perPage; i++ {
		pl.l2Index++
		pl.guest += d.clusterSize
		bitmap = p.entry(2*i + 1)
		next, err := d.decodeExtended(p.entry(2*i), bitmap, pl)
		if err != nil || next.state == packed || subclusterState(bitmap, 0) != m.state ||
			(m.host < 0) != (next.host < 0) || m.host >= 0 && next.host != m.host+m.n {
			break // an error is told when it is asked for
		}
		m.n += subclusterRun(bitmap, 0, m.state) << subBits
	}
	return m, nil
}

// subclusterState returns the state of subcluster i, of a cluster that is not
// compressed.
func subclusterState(bitmap uint64, i uint) state {
	switch {
	case bitmap>>(32+i)&1 != 0:
		return zeros
	case bitmap>>i&1 != 0:
		return plain
	}
	return absent
}

// subclusterRun returns how many subclusters from i on are in state s.
func subclusterRun(bitmap uint64, i uint, s state) int64 {
	alloc, zero := uint32(bitmap), uint32(bitmap>>32)
	var others uint32
	switch s {
	case zeros:
		others = ^zero
	case plain:
		others = ^alloc
	default:
		others = alloc | zero
	}
	if n := bits.TrailingZeros32(others >> i); n < 32 {
		return int64(n)
	}
	return int64(subclustersPerCluster - i)
}

// decodeEntry takes an L2 entry of 8 bytes apart. The mapping's host is that
// of the cluster's first byte, and its n is not set.
func (d *Disk) decodeEntry(e uint64, pl place) (mapping, error) {
	if e&flagCompressed != 0 {
		return d.decodeCompressed(e, pl)
	}
	if e&l2ReservedMask != 0 {
		return mapping{}, d.badEntry(diskimage.ErrCorrupt, pl, "reserved bits set in %#x", e)
	}
	m, err := d.decodeStandard(e, pl)
	if e&flagZero != 0 && err == nil {
		if d.h.version < 3 {
			return mapping{}, d.badEntry(diskimage.ErrCorrupt, pl, "the zero flag is set in %#x, which version 2 does not have", e)
		}
		m.state = zeros
	}
	return m, err
}

// decodeExtended takes an L2 entry of 16 bytes apart. The mapping's state is
// that of its allocated subclusters.
func (d *Disk) decodeExtended(e, bitmap uint64, pl place) (mapping, error) {
	alloc, zero := uint32(bitmap), uint32(bitmap>>32)
	if e&flagCompressed != 0 {
		if bitmap != 0 {
			return mapping{}, d.badEntry(diskimage.ErrCorrupt, pl, "a compressed cluster with subclusters (%#x)", bitmap)
		}
		return d.decodeCompressed(e, pl)
	}
	if e&l2ReservedMaskExtended != 0 {
		return mapping{}, d.badEntry(diskimage.ErrCorrupt, pl, "reserved bits set in %#x", e)
	}
	if alloc&zero != 0 {
		return mapping{}, d.badEntry(diskimage.ErrCorrupt, pl, "subcluster %d is both allocated and zero", bits.TrailingZeros32(alloc&zero))
	}
	m, err := d.decodeStandard(e, pl)
	if err == nil && m.host < 0 && alloc != 0 {
		return mapping{}, d.badEntry(diskimage.ErrCorrupt, pl, "subcluster %d is allocated in a cluster that is not", bits.TrailingZeros32(alloc))
	}
	return m, err
}

// decodeStandard takes a standard cluster descriptor apart.
func (d *Disk) decodeStandard(e uint64, pl place) (mapping, error) {
	host := int64(e & l2OffsetMask)
	// With a data file host and guest offset are the same, and the COPIED flag
	// is what tells a cluster at offset 0 from none.
	if host == 0 && !(d.h.hasDataFile() && e&flagCopied != 0) {
		if e&flagCopied != 0 {
			return mapping{}, d.badEntry(diskimage.ErrCorrupt, pl, "the COPIED flag is set in %#x, but there is no cluster", e)
		}
		return mapping{state: absent, host: -1}, nil
	}
	if host&(d.clusterSize-1) != 0 {
		return mapping{}, d.badEntry(diskimage.ErrCorrupt, pl, "the host offset %#x is not the start of a cluster", host)
	}
	if d.h.hasDataFile() && host != pl.guest {
		return mapping{}, d.badEntry(diskimage.ErrCorrupt, pl, "the offset %#x in the data file is not the guest offset %#x", host, pl.guest)
	}
	return mapping{state: plain, host: host}, nil
}

// decodeCompressed takes a compressed cluster descriptor apart.
func (d *Disk) decodeCompressed(e uint64, pl place) (mapping, error) {
	if d.h.hasDataFile() {
		return mapping{}, d.badEntry(diskimage.ErrCorrupt, pl, "a compressed cluster in an image with a data file")
	}
	if e&flagCopied != 0 {
		return mapping{}, d.badEntry(diskimage.ErrCorrupt, pl, "the COPIED flag is set in %#x, of a compressed cluster", e)
	}
	shift := compressedShift(d.clusterBits)
	e &^= flagCompressed
	host := int64(e & (1<<shift - 1))
	if host>>56 != 0 {
		return mapping{}, d.badEntry(diskimage.ErrCorrupt, pl, "the host offset %#x is above bit 55", host)
	}
	if host >= d.fileSize {
		return mapping{}, d.badEntry(diskimage.ErrTruncated, pl, "the compressed cluster at %#x starts beyond the end of the file at %#x", host, d.fileSize)
	}
	if table, _ := d.table(host, 1); table != "" {
		return mapping{}, d.badEntry(diskimage.ErrCorrupt, pl, "the compressed cluster at %#x starts in the %s", host, table)
	}
	// Its end is known to the sector only, and the last sector of the file may
	// be short.
	end := host&^(sectorSize-1) + int64(e>>shift+1)*sectorSize
	if end-sectorSize >= d.fileSize {
		return mapping{}, d.badEntry(diskimage.ErrTruncated, pl, "the compressed cluster at %#x goes on beyond the end of the file at %#x", host, d.fileSize)
	}
	return mapping{state: packed, host: host, hostLen: min(end, d.fileSize) - host, cut: end > d.fileSize}, nil
}

// usable returns how many of the n guest bytes that lie plain at host are in
// the file and in no table. It fails if there is not one.
//
// Guest bytes are all that must be there. The last cluster of a file may be
// short where the rest of it lies beyond the end of the disk: qemu-img makes
// such images with preallocation=metadata. Anything else missing was cut off.
func (d *Disk) usable(host, n int64, pl place) (int64, error) {
	if d.data == nil {
		return n, nil
	}
	left := d.dataSize - host
	if left <= 0 {
		of := "file"
		if d.h.hasDataFile() {
			of = "data file"
		}
		return min(n, d.clusterSize-host&(d.clusterSize-1)),
			d.badEntry(diskimage.ErrTruncated, pl, "the data at %#x lies beyond the end of the %s at %#x", host, of, d.dataSize)
	}
	n = min(n, left)
	if d.h.hasDataFile() {
		return n, nil
	}
	if table, at := d.table(host, n); table != "" {
		if at <= host {
			return min(n, d.clusterSize-host&(d.clusterSize-1)), d.badEntry(diskimage.ErrCorrupt, pl, "the data at %#x lies in the %s", host, table)
		}
		n = at - host
	}
	return n, nil
}

// table returns which of the tables that the header names overlaps the n bytes
// at host first, and where that table starts; "" if none does.
func (img *image) table(host, n int64) (name string, start int64) {
	end := host + n
	for i := range img.fixed {
		if t := &img.fixed[i]; t.off < end && host < t.end && (name == "" || t.off < start) {
			name, start = t.name, t.off
		}
	}
	return name, start
}

// A fixedTable is a table that the header names, with its place.
type fixedTable struct {
	name     string
	off, end int64
}

func (h *header) fixedTables() [3]fixedTable {
	l1, ref := int64(h.l1Offset), int64(h.refTableOffset)
	return [...]fixedTable{
		{"header", 0, h.clusterSize()},
		{"l1 table", l1, l1 + int64(h.l1Size)*8},
		{"refcount table", ref, ref + int64(h.refTableClusters)<<h.clusterBits},
	}
}

// badEntry returns the error for the L2 entry at pl.
func (d *Disk) badEntry(kind diskimage.ErrorKind, pl place, format string, args ...any) error {
	return fail(kind, pl.l2Offset+pl.l2Index*d.h.entrySize(), fmt.Sprintf("l2 table %d: entry %d", pl.l1Index, pl.l2Index),
		"guest offset %#x: "+format, append([]any{pl.guest}, args...)...)
}
