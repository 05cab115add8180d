package qcow2

import (
	"encoding/binary"
	"fmt"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/internal/freelist"
)

// A refcountWriter counts host clusters in ascending order. It holds the blocks that
// are still open, encoded, and the table.
type refcountWriter struct {
	geometry
	max     uint64                 // what a count can be
	closed  int64                  // how many blocks are closed, and in the table
	open    [][]byte               // the blocks from there on
	table   []byte                 // an entry for each closed block
	buffers *freelist.List[[]byte] // for blocks
}

func newRefcountWriter(g geometry, buffers *freelist.List[[]byte]) refcountWriter {
	return refcountWriter{geometry: g, max: 1<<(1<<g.refcountOrder) - 1, buffers: buffers} // 2^64 - 1 of 64 bits
}

// add counts n clusters from the given one on once more. They lie in open
// blocks or after them.
func (r *refcountWriter) add(cluster, n int64) error {
	for end := cluster + n; cluster < end; {
		block, i, err := r.block(cluster)
		if err != nil {
			return err
		}
		for last := min(i+end-cluster, 1<<r.refBlockBits()); i < last; i++ {
			count := r.get(block, i)
			if count >= r.max {
				return fmt.Errorf(Name+": writer: the refcount of cluster %d would pass %d", cluster, r.max)
			}
			r.set(block, i, count+1)
			cluster++
		}
	}
	return nil
}

// count returns how often a cluster of an open block is used.
func (r *refcountWriter) count(cluster int64) uint64 {
	at := cluster>>r.refBlockBits() - r.closed
	if at >= int64(len(r.open)) {
		return 0
	}
	return r.get(r.open[at], cluster&(1<<r.refBlockBits()-1))
}

// block returns the block that counts a cluster, and the index in it.
func (r *refcountWriter) block(cluster int64) (block []byte, i int64, err error) {
	index := cluster >> r.refBlockBits()
	if index >= maxRefTableBytes/8 {
		return nil, 0, fail(diskimage.ErrLimit, -1, "refcount table",
			"an image of more than %d clusters of %d bytes needs more than %d bytes; use larger clusters or narrower refcounts",
			cluster, r.clusterSize(), maxRefTableBytes)
	}
	for index-r.closed >= int64(len(r.open)) {
		r.open = append(r.open, clusterOfZeros(r.buffers, r.clusterSize()))
	}
	return r.open[index-r.closed], cluster & (1<<r.refBlockBits() - 1), nil
}

// openFrom returns the host offset at which the first open block is passed.
func (r *refcountWriter) openFrom() int64 {
	return (r.closed + 1) << (r.refBlockBits() + r.clusterBits)
}

// close takes out the first open block, which goes to the given host offset.
func (r *refcountWriter) close(host int64) []byte {
	block := r.open[0]
	r.open[0] = nil
	r.open = r.open[1:]
	r.closed++
	r.table = binary.BigEndian.AppendUint64(r.table, uint64(host))
	return block
}

// get and set know the layout of a block: entries of less than a byte are
// packed from the least significant bit on, others big-endian.
func (r *refcountWriter) get(block []byte, i int64) uint64 {
	switch r.refcountOrder {
	case 3:
		return uint64(block[i])
	case 4:
		return uint64(binary.BigEndian.Uint16(block[i*2:]))
	case 5:
		return uint64(binary.BigEndian.Uint32(block[i*4:]))
	case 6:
		return binary.BigEndian.Uint64(block[i*8:])
	}
	at, shift := r.bits(i)
	return uint64(block[at]) >> shift & r.max
}

func (r *refcountWriter) set(block []byte, i int64, count uint64) {
	switch r.refcountOrder {
	case 3:
		block[i] = byte(count)
	case 4:
		binary.BigEndian.PutUint16(block[i*2:], uint16(count))
	case 5:
		binary.BigEndian.PutUint32(block[i*4:], uint32(count))
	case 6:
		binary.BigEndian.PutUint64(block[i*8:], count)
	default:
		at, shift := r.bits(i)
		block[at] = block[at]&^byte(r.max<<shift) | byte(count<<shift)
	}
}

// bits returns the byte and the bit in it where a narrow entry begins.
func (r *refcountWriter) bits(i int64) (at int64, shift uint) {
	bit := i << r.refcountOrder
	return bit / 8, uint(bit % 8)
}
