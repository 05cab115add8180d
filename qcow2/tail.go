package qcow2

import "encoding/binary"

// noteTail notes a file whose end is in no cluster that is in use: something
// may have been appended to the image. It asks for two refcounts only, the
// first being there to see whether there are any to believe; where they cannot
// be told it is for a check to say.
func (img *image) noteTail() {
	if img.h.dirty() || !img.counted(0) || img.counted((img.fileSize-1)>>img.clusterBits) {
		return
	}
	img.notes.Add("the file goes on behind the last cluster in use: its end, at %#x, is not part of the image", img.fileSize)
}

// counted reports whether a host cluster's refcount is above 0, or cannot be
// told.
func (img *image) counted(cluster int64) bool {
	h := img.h
	blockBits := uint(h.clusterBits) + 3 - uint(h.refcountOrder) // refcounts of a block, as a power of two
	index := cluster >> blockBits
	if index >= int64(h.refTableClusters)<<(h.clusterBits-3) {
		return false
	}
	var entry [8]byte
	if readFull(img.src, entry[:], int64(h.refTableOffset)+index*8, "refcount table") != nil {
		return true
	}
	block := int64(binary.BigEndian.Uint64(entry[:]) & refTableOffsetMask)
	if block <= 0 {
		return false
	}
	bit := cluster & (1<<blockBits - 1) << h.refcountOrder
	count := entry[:max(1, h.refcountBits()/8)]
	if readFull(img.src, count, block+bit/8, "refcount block") != nil {
		return true
	}
	return refcountAt(count, uint(h.refcountOrder), bit%8>>h.refcountOrder) != 0
}
