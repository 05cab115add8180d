// Package blockhash computes the digest of a disk that costs what its data
// costs, and that many can work on: that of libblkhash and its command blksum
// with their default options (https://gitlab.com/nirs/blkhash; Soffer and
// Waisbard, An Efficient Hash Function Construction for Sparse Data, SECRYPT
// 2024).
//
// It is the SHA-256 of the SHA-256 of each block of 64 KiB, the last one as
// short as it is, followed by the disk's length as 64 bits, little-endian.
package blockhash

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"

	"github.com/diskimage-go/diskimage/internal/zero"
)

// BlockSize is the length of a block in bytes.
const BlockSize = 64 << 10

// A Hash takes a disk from its front to its end. [Hash.Append] may be called
// concurrently with everything.
type Hash struct {
	outer hash.Hash
	at    int64  // guest bytes
	zeros []byte // the hashes of some blocks of zeros
}

// New returns the Hash of a disk of which nothing is known yet.
func New() *Hash {
	sum := sha256.Sum256(make([]byte, BlockSize))
	h := &Hash{outer: sha256.New()}
	for range 128 {
		h.zeros = append(h.zeros, sum[:]...)
	}
	return h
}

// Append appends the hashes of p's blocks to dst. Blocks of zeros cost no
// hashing.
func (h *Hash) Append(dst, p []byte) []byte {
	for len(p) > 0 {
		b := p[:min(len(p), BlockSize)]
		p = p[len(b):]
		if len(b) == BlockSize && zero.Is(b) {
			dst = append(dst, h.zeros[:sha256.Size]...)
			continue
		}
		sum := sha256.Sum256(b)
		dst = append(dst, sum[:]...)
	}
	return dst
}

// At returns how many bytes it was given: a multiple of BlockSize, but for a
// disk's end.
func (h *Hash) At() int64 { return h.at }

// Add takes the next n bytes, whose blocks have these hashes.
func (h *Hash) Add(sums []byte, n int64) {
	if h.at%BlockSize != 0 || int64(len(sums)) != (n+BlockSize-1)/BlockSize*sha256.Size {
		panic(fmt.Sprintf("blockhash: %d bytes of hashes for %d bytes at %d", len(sums), n, h.at))
	}
	h.outer.Write(sums)
	h.at += n
}

// Zeros takes zeros up to the offset end.
func (h *Hash) Zeros(end int64) {
	for h.at < end {
		n := min((end-h.at)/BlockSize, int64(len(h.zeros)/sha256.Size))
		if n == 0 {
			h.Add(h.Append(nil, make([]byte, end-h.at)), end-h.at)
			return
		}
		h.Add(h.zeros[:n*sha256.Size], n*BlockSize)
	}
}

// Sum ends the disk and returns its digest.
func (h *Hash) Sum() []byte {
	h.outer.Write(binary.LittleEndian.AppendUint64(nil, uint64(h.at)))
	return h.outer.Sum(nil)
}
