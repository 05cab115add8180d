package qcow2

import (
	"encoding/binary"
	"slices"

	"github.com/diskimage-go/diskimage"
)

// refcounts reads the refcounts of an image: the two-level table of section
// "Host cluster management". It is not safe for concurrent use.
//
// A cluster whose block is missing, misplaced or outside the file has the
// refcount 0, and so have those of a table that lies outside the file: whoever
// reads guest data does not need refcounts.
type refcounts struct {
	src      diskimage.Source
	fileSize int64
	cluster  uint // binary logarithm of the cluster size
	order    uint // of the width
	table    []byte
	shared   map[int64]bool // offsets that several entries have; true: met already
	used     []bool         // per entry, only where shared is not empty: the first of its offset

	index int64 // of the block in buf, -1 for none
	block []byte
	buf   []byte
}

// newRefcounts reads the refcount table, as much of it as lies in the file.
func newRefcounts(src diskimage.Source, h *header) (*refcounts, error) {
	r := &refcounts{src: src, fileSize: src.Size(), cluster: uint(h.clusterBits), order: uint(h.refcountOrder), index: -1}
	n := int64(h.refTableClusters) << h.clusterBits // at most maxRefTableBytes
	off := int64(h.refTableOffset)
	n = max(0, min(n, r.fileSize-off)) &^ 7
	if off == 0 {
		n = 0
	}
	r.table = make([]byte, n)
	if err := readFull(src, r.table, off, "refcount table"); err != nil {
		return nil, err
	}
	r.findShared()
	return r, nil
}

// findShared finds the blocks that more than one entry points to. Such a table
// is corrupt; a block counts for the first of them only, so that a small file
// cannot pretend to have counts for a large one.
func (r *refcounts) findShared() {
	all := make([]int64, 0, len(r.table)/8)
	for i := range r.entries() {
		if off := r.offset(i); off != 0 {
			all = append(all, off)
		}
	}
	slices.Sort(all)
	for i := 1; i < len(all); i++ {
		if all[i] == all[i-1] {
			if r.shared == nil {
				r.shared = make(map[int64]bool)
			}
			r.shared[all[i]] = false
		}
	}
	if r.shared == nil {
		return
	}
	r.used = make([]bool, r.entries())
	for i := range r.used {
		off := r.offset(int64(i))
		met, shared := r.shared[off]
		r.used[i] = !met
		if shared {
			r.shared[off] = true
		}
	}
}

// entries returns the number of entries of the table.
func (r *refcounts) entries() int64 { return int64(len(r.table) / 8) }

// entry returns an entry of the table.
func (r *refcounts) entry(i int64) uint64 { return binary.BigEndian.Uint64(r.table[i*8:]) }

// offset returns where entry i says that its block lies; 0 for no block, or for
// an offset no file has.
func (r *refcounts) offset(i int64) int64 {
	if off := r.entry(i) & refTableOffsetMask; off>>63 == 0 {
		return int64(off)
	}
	return 0
}

// perBlockBits returns the binary logarithm of the number of refcounts in a block.
func (r *refcounts) perBlockBits() uint { return r.cluster + 3 - r.order }

// load returns block i: fewer bytes than a cluster where the file ends in it,
// none where there is no block that could be read.
func (r *refcounts) load(i int64) ([]byte, error) {
	if i == r.index {
		return r.block, nil
	}
	size := int64(1) << r.cluster
	off := r.offset(i)
	if off == 0 || off&(size-1) != 0 || off >= r.fileSize || r.used != nil && !r.used[i] || inHole(r.src, off, size) {
		return nil, nil
	}
	if r.buf == nil {
		r.buf = make([]byte, size)
	}
	r.index = -1
	b := r.buf[:min(size, r.fileSize-off)]
	if err := readFull(r.src, b, off, "refcount block"); err != nil {
		return nil, within(err, "refcount table: entry %d", i)
	}
	r.index, r.block = i, b
	return b, nil
}

// of returns the block that holds a cluster's refcount, as load does.
func (r *refcounts) of(cluster int64) ([]byte, error) {
	i := cluster >> r.perBlockBits()
	if i >= r.entries() {
		return nil, nil
	}
	return r.load(i)
}

// at returns the refcount of a cluster.
func (r *refcounts) at(cluster int64) (uint64, error) {
	b, err := r.of(cluster)
	if err != nil {
		return 0, err
	}
	return refcountAt(b, r.order, cluster&(1<<r.perBlockBits()-1)), nil
}

// max returns the largest refcount that the image's width can hold.
func (r *refcounts) max() uint64 { return 1<<(1<<r.order) - 1 }

// refcountAt returns refcount i of a block, 0 behind its end. Widths below a
// byte start at the least significant bit.
func refcountAt(b []byte, order uint, i int64) uint64 {
	if i >= int64(len(b))<<3>>order {
		return 0
	}
	switch order {
	case 3:
		return uint64(b[i])
	case 4:
		return uint64(binary.BigEndian.Uint16(b[i*2:]))
	case 5:
		return uint64(binary.BigEndian.Uint32(b[i*4:]))
	case 6:
		return binary.BigEndian.Uint64(b[i*8:])
	}
	bit := uint(i) << order
	return uint64(b[bit>>3]>>(bit&7)) & (1<<(1<<order) - 1)
}

// inHole reports whether the source says that [off, off+n) is not allocated in
// the file, and so all zeros. It saves reading the tables of images that are
// large and empty.
func inHole(src diskimage.Source, off, n int64) bool {
	m, ok := src.(diskimage.HoleMapper)
	if !ok || n < 1<<12 || off+n > src.Size() {
		return false
	}
	end, hole, err := m.NextRange(off)
	return err == nil && hole && end >= off+n
}
