package qcow2

import (
	"encoding/binary"
	"math/bits"
	"slices"

	"github.com/diskimage-go/diskimage"
)

// A mapWalk reads the L1 and L2 tables of an image for those that check them:
// front to back, each L2 table once.
type mapWalk struct {
	src      diskimage.Source
	h        *header
	fileSize int64
	buf      []byte
}

func newMapWalk(src diskimage.Source, h *header) *mapWalk {
	return &mapWalk{src: src, h: h, fileSize: src.Size()}
}

// readL1 reads an L1 table that lies inside the file; none of it if it is all
// zeros and the source knows that.
func (w *mapWalk) readL1(off int64, entries uint32) (l1Table, error) {
	if entries == 0 || inHole(w.src, off, int64(entries)*8) {
		return nil, nil
	}
	l1 := make(l1Table, int64(entries)*8) // at most maxL1Bytes
	return l1, readFull(w.src, l1, off, "l1 table")
}

// load reads the part of an L2 table that lies inside the file; none of it if
// it is all zeros and the source knows that. The memory is used again.
func (w *mapWalk) load(off int64) ([]byte, error) {
	size := w.h.clusterSize()
	if inHole(w.src, off, size) {
		return nil, nil
	}
	if w.buf == nil {
		w.buf = make([]byte, size)
	}
	b := w.buf[:max(0, min(size, w.fileSize-off))]
	return b[:len(b)&^int(w.h.entrySize()-1)], readFull(w.src, b, off, "l2 table")
}

// visible returns how many bytes of the data cluster at a guest offset the
// guest of a disk of that size can see: not the subclusters that are not
// allocated, and not what lies behind the disk's end. Of what lies in the VM
// state area, whose length is not in the map, that is one byte.
func visible(h *header, size, guest int64, bitmap uint64) int64 {
	n := h.clusterSize()
	if h.extendedL2() {
		n = n / subclustersPerCluster * int64(bits.Len32(uint32(bitmap)))
	}
	if left := size - guest; left > 0 {
		return min(n, left)
	}
	return min(n, 1)
}

// compressedRange returns the host bytes that a compressed entry claims: from
// its offset to the end of its last sector.
func compressedRange(e uint64, clusterBits uint) (off, n int64) {
	shift := compressedShift(clusterBits)
	off = int64(e & (1<<shift - 1))
	sectors := int64(e&(flagCompressed-1)>>shift) + 1
	return off, sectors*sectorSize - off&(sectorSize-1)
}

// An l1Table is an L1 table as it lies in the file.
type l1Table []byte

func (t l1Table) len() int64           { return int64(len(t) / 8) }
func (t l1Table) entry(i int64) uint64 { return binary.BigEndian.Uint64(t[i*8:]) }

// shared returns the L2 tables that several entries point to, and how many.
// Walking such a table once, for all of them, is what keeps the time of a
// check within the size of the file: L1 tables have up to four million
// entries, and L2 tables up to 262,144.
func (t l1Table) shared() map[int64]uint32 {
	sorted := true
	var last int64
	for i := range t.len() {
		off := int64(t.entry(i) & l1OffsetMask)
		if off == 0 {
			continue
		}
		if off <= last {
			sorted = false
			break
		}
		last = off
	}
	if sorted {
		return nil
	}
	all := make([]int64, 0, t.len())
	for i := range t.len() {
		if off := int64(t.entry(i) & l1OffsetMask); off != 0 {
			all = append(all, off)
		}
	}
	slices.Sort(all)
	var shared map[int64]uint32
	for len(all) > 0 {
		n := 1
		for n < len(all) && all[n] == all[0] {
			n++
		}
		if n > 1 {
			if shared == nil {
				shared = make(map[int64]uint32)
			}
			shared[all[0]] = uint32(n)
		}
		all = all[n:]
	}
	return shared
}
