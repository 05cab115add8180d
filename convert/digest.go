package convert

import (
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"hash/maphash"
	"sync/atomic"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/internal/zero"
	"github.com/diskimage-go/diskimage/raw"
)

// counter is a sum that several goroutines add to.
type counter struct{ n atomic.Int64 }

func (c *counter) add(n int64) { c.n.Add(n) }
func (c *counter) get() int64  { return c.n.Load() }

// A guestDigest is the SHA-256 of a guest disk, fed with batches in order. Nil
// is none.
type guestDigest struct {
	h    hash.Hash
	size int64 // of the disk: what batches have behind it is left out
	at   int64
}

var zeros [64 << 10]byte // never written

func newGuestDigest(size int64) *guestDigest { return &guestDigest{h: sha256.New(), size: size} }

// skipTo hashes zeros up to the guest offset off.
func (d *guestDigest) skipTo(off int64) {
	for d.at < off {
		n := min(off-d.at, int64(len(zeros)))
		d.h.Write(zeros[:n])
		d.at += n
	}
}

// add hashes a batch whose Buf is whole.
func (d *guestDigest) add(b *diskimage.Batch) {
	if d == nil {
		return
	}
	n := min(b.Len, d.size-b.Off)
	if n <= 0 {
		return
	}
	d.skipTo(b.Off)
	d.h.Write(b.Buf[:n])
	d.at += n
}

// sum returns the digest, or nil if there is none.
func (d *guestDigest) sum() []byte {
	if d == nil {
		return nil
	}
	d.skipTo(d.size)
	return d.h.Sum(nil)
}

// The guest ranges of one hash of a contentHash: of a source whose batches are
// whole, and of one that may give a batch's range in parts, which are made of
// smaller units.
const (
	chunkSize     = 64 << 10
	partChunkSize = raw.Unit
)

// maxRegions bounds a contentHash: one sum per region.
const maxRegions = 1 << 16

// A contentHash tells two guest contents apart in bounded memory, whatever
// order their parts come in: per region the sum of the hashes of its chunks
// that are not zeros. The seed is secret and new for each, so that no image
// can be made to collide. Safe for concurrent use.
type contentHash struct {
	seed   maphash.Seed
	chunk  int64 // guest bytes, a power of two
	region int64 // guest bytes, a power of two
	said   bool  // zeros in blocks count: over a backing image they differ from nothing
	sums   []atomic.Uint64
}

// chunkOf returns the chunk for a source.
func chunkOf(stream diskimage.Stream) int64 {
	if _, ok := stream.(diskimage.Unsorted); ok {
		return partChunkSize
	}
	return chunkSize
}

// newContentHash is for disks of up to size bytes, -1 where that is not known.
// said is for one layer of them.
func newContentHash(size, chunk int64, said bool) *contentHash {
	if size < 0 {
		size = maxRegions << 30
	}
	c := &contentHash{seed: maphash.MakeSeed(), chunk: chunk, region: diskimage.BatchSize, said: said}
	for size/c.region >= maxRegions {
		c.region *= 2
	}
	c.sums = make([]atomic.Uint64, size/c.region+1)
	return c
}

// like returns an empty contentHash to be compared with c.
func (c *contentHash) like() *contentHash {
	return &contentHash{seed: c.seed, chunk: c.chunk, region: c.region, said: c.said, sums: make([]atomic.Uint64, len(c.sums))}
}

// add takes a batch whose Buf is whole.
func (c *contentHash) add(b *diskimage.Batch, unit int64) {
	var sum uint64
	for at := int64(0); at < b.Len; at += c.chunk {
		chunk := b.Buf[at : at+c.chunk]
		if !zero.Is(chunk) {
			sum += c.hash(0, b.Off+at, chunk)
		}
	}
	for _, blk := range b.Blocks {
		for off := blk.Off; c.said && off < blk.Off+blk.Len; off += unit {
			if blk.Kind == diskimage.Zero || zero.Is(b.Buf[off-b.Off:off-b.Off+unit]) {
				sum += c.hash(1, off, nil)
			}
		}
	}
	c.sums[min(b.Off/c.region, int64(len(c.sums)-1))].Add(sum)
}

// hash returns what is summed up of the guest bytes p at off, in two steps:
// over all of p in one call, which is several times as fast as by a
// [maphash.Hash].
func (c *contentHash) hash(mark byte, off int64, p []byte) uint64 {
	var b [17]byte
	b[0] = mark
	binary.LittleEndian.PutUint64(b[1:], uint64(off))
	binary.LittleEndian.PutUint64(b[9:], maphash.Bytes(c.seed, p))
	return maphash.Bytes(c.seed, b[:])
}

// differs returns the first region whose content differs from o's.
func (c *contentHash) differs(o *contentHash) (Range, bool) {
	for i := range c.sums {
		if c.sums[i].Load() != o.sums[i].Load() {
			return Range{int64(i) * c.region, c.region}, true
		}
	}
	return Range{}, false
}
