// Package imagetest builds small images in memory for tests: sound ones of any
// shape, and ones with a named defect.
package imagetest

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"fmt"
	"math/bits"

	"github.com/klauspost/compress/zstd"

	"github.com/diskimage-go/diskimage"
)

// A ClusterKind says how a QCOW2 guest cluster is stored.
type ClusterKind uint8

const (
	Absent        ClusterKind = iota // not at all
	Plain                            // as it is
	Packed                           // compressed
	Zeros                            // a flag says that it is zeros
	ZerosReserved                    // the same, and a host cluster is kept for it
	Subclusters                      // with extended L2 entries: as Alloc and Zero say
)

// A Cluster is one guest cluster of a [QCOW2].
type Cluster struct {
	Kind        ClusterKind
	Data        []byte // Plain, Packed, Subclusters: zeros are added to a whole cluster
	Stream      []byte // Packed: stored in place of compressed Data, which is then only what Guest says
	Alloc, Zero uint32 // Subclusters: the two halves of the bitmap
}

// An Extension is a header extension.
type Extension struct {
	Type uint32
	Data []byte
}

// A QCOW2 says what image to build. The zero value is an empty disk.
type QCOW2 struct {
	Version       int   // 2 or 3; default 3
	ClusterBits   uint  // default 16
	RefcountOrder int   // default 4, 16 bits; -1 for 1 bit
	Size          int64 // of the disk; default: that of Clusters
	Zstd          bool  // compress with zstd; default deflate
	ExtendedL2    bool
	Clusters      []Cluster
	Extensions    []Extension
	Backing       string
	Incompatible  uint64 // feature bits beyond those that the above needs
	Compatible    uint64
	Autoclear     uint64
}

// Types of header extensions, and the flags of table entries.
const (
	ExtBackingFormat = 0xe2792aca
	ExtFeatureNames  = 0x6803f857
	ExtBitmaps       = 0x23852875
	ExtDataFile      = 0x44415441

	Copied     = 1 << 63
	Compressed = 1 << 62
	ZeroFlag   = 1 << 0

	offsetMask = 0x00fffffffffffe00
)

// Byte offsets of the fields of a QCOW2 header.
const (
	Version          = 4
	BackingOffset    = 8
	BackingSize      = 16
	ClusterBits      = 20
	Size             = 24
	CryptMethod      = 32
	L1Size           = 36
	L1Offset         = 40
	RefTableOffset   = 48
	RefTableClusters = 56
	NbSnapshots      = 60
	SnapshotsOffset  = 64
	Incompatible     = 72
	Compatible       = 80
	Autoclear        = 88
	RefcountOrder    = 96
	HeaderLength     = 100
	CompressionType  = 104
)

// An Image is a QCOW2 image that was built. Its bytes may be changed at will.
type Image struct {
	Bytes []byte
	Guest []byte // what the disk reads as, without a backing image; nil if that is over 64 MiB

	ClusterSize int64
	L1, L1Len   int64   // offset of the L1 table and its number of entries
	L2          []int64 // offsets of the L2 tables by L1 index; 0: none
	RefTable    int64
	RefBlocks   []int64

	entrySize int64
	order     uint
}

// Build builds the image: header, refcount table and blocks, L1, L2 tables,
// then data in guest order, compressed clusters packed to the byte.
func (q QCOW2) Build() *Image {
	q = q.withDefaults()
	m := &Image{ClusterSize: 1 << q.ClusterBits, entrySize: 8, order: uint(q.RefcountOrder)}
	if q.ExtendedL2 {
		m.entrySize = 16
	}
	cs := m.ClusterSize
	perTable := cs / m.entrySize
	m.L1Len = ceil(q.Size, cs*perTable)

	entries, data := q.pack(m)
	m.L2 = make([]int64, m.L1Len)
	for i, e := range entries {
		if e != (entry{}) {
			m.L2[int64(i)/perTable] = 1
		}
	}
	var tables int64
	for _, used := range m.L2 {
		tables += used
	}

	// The refcount structures count themselves.
	others := 1 + max(1, ceil(m.L1Len*8, cs)) + tables + int64(len(data))/cs
	perBlock := cs * 8 >> m.order
	blocks, refClusters := int64(1), int64(1)
	for others+blocks+refClusters > blocks*perBlock {
		blocks++
		refClusters = ceil(blocks*8, cs)
	}

	m.RefTable = cs
	next := cs + refClusters*cs
	for range blocks {
		m.RefBlocks = append(m.RefBlocks, next)
		next += cs
	}
	m.L1 = next
	next += max(1, ceil(m.L1Len*8, cs)) * cs
	for i, used := range m.L2 {
		if used != 0 {
			m.L2[i] = next
			next += cs
		}
	}
	base := next
	m.Bytes = append(make([]byte, base), data...)

	m.putHeader(q, refClusters)
	for i, off := range m.RefBlocks {
		m.Put64(m.RefTable+int64(i)*8, uint64(off))
	}
	for i, off := range m.L2 {
		if off != 0 {
			m.SetL1(int64(i), uint64(off)|Copied)
		}
	}
	for c := range base / cs {
		m.SetRefcount(c, 1)
	}
	m.putEntries(q, entries, base)
	m.Guest = q.guest(cs)
	return m
}

func (q QCOW2) withDefaults() QCOW2 {
	if q.Version == 0 {
		q.Version = 3
	}
	if q.ClusterBits == 0 {
		q.ClusterBits = 16
	}
	switch q.RefcountOrder {
	case 0:
		q.RefcountOrder = 4
	case -1:
		q.RefcountOrder = 0
	}
	if q.Size == 0 {
		q.Size = int64(len(q.Clusters)) << q.ClusterBits
	}
	if q.Zstd {
		q.Incompatible |= 1 << 3
	}
	if q.ExtendedL2 {
		q.Incompatible |= 1 << 4
	}
	return q
}

// An entry is an L2 entry to be, whose host offset counts from the data's start.
type entry struct {
	kind   ClusterKind
	host   int64
	length int64 // of a stream
}

// pack lays the clusters' data out.
func (q QCOW2) pack(m *Image) (entries []entry, data []byte) {
	cs := int(m.ClusterSize)
	end := 0    // of the streams in data's last cluster
	shared := 0 // by how many streams that cluster is
	for _, c := range q.Clusters {
		e := entry{kind: c.Kind}
		switch c.Kind {
		case Plain, ZerosReserved, Subclusters:
			if c.Kind == Subclusters && c.Alloc == 0 {
				break
			}
			e.host = int64(len(data))
			data = append(data, padded(c.Data, cs)...)
			end = len(data)
		case Packed:
			stream := c.Stream
			if stream == nil {
				stream = Compress(padded(c.Data, cs), q.Zstd)
			}
			if shared++; end%cs == 0 || shared > 1<<min(m.order, 4) { // fewer than can be counted
				end, shared = len(data), 1
			}
			if end%cs+len(stream) > cs {
				shared = 1 // of the next cluster
			}
			e.host, e.length = int64(end), int64(len(stream))
			data = append(data[:end], stream...)
			end = len(data)
			data = append(data, make([]byte, -len(data)&(cs-1))...)
		}
		entries = append(entries, e)
	}
	return entries, data
}

func (m *Image) putHeader(q QCOW2, refClusters int64) {
	b := m.Bytes
	copy(b, "QFI\xfb")
	m.Put32(Version, uint32(q.Version))
	m.Put32(ClusterBits, uint32(q.ClusterBits))
	m.Put64(Size, uint64(q.Size))
	m.Put32(L1Size, uint32(m.L1Len))
	m.Put64(L1Offset, uint64(m.L1))
	m.Put64(RefTableOffset, uint64(m.RefTable))
	m.Put32(RefTableClusters, uint32(refClusters))
	off := int64(72)
	if q.Version > 2 {
		m.Put64(Incompatible, q.Incompatible)
		m.Put64(Compatible, q.Compatible)
		m.Put64(Autoclear, q.Autoclear)
		m.Put32(RefcountOrder, uint32(m.order))
		m.Put32(HeaderLength, 112)
		if q.Zstd {
			b[CompressionType] = 1
		}
		off = 112
	}
	for _, e := range q.Extensions {
		m.Put32(off, e.Type)
		m.Put32(off+4, uint32(len(e.Data)))
		copy(b[off+8:m.ClusterSize], e.Data)
		off += 8 + int64(len(e.Data)+7)&^7
	}
	if q.Backing != "" {
		off += 8 // the end marker
		m.Put64(BackingOffset, uint64(off))
		m.Put32(BackingSize, uint32(len(q.Backing)))
		copy(b[off:], q.Backing)
	}
}

func (m *Image) putEntries(q QCOW2, entries []entry, base int64) {
	for i, e := range entries {
		i, c := int64(i), q.Clusters[i]
		host := uint64(base + e.host)
		switch e.kind {
		case Plain:
			m.SetL2(i, host|Copied)
			if q.ExtendedL2 {
				m.SetL2Bitmap(i, 0xffffffff)
			}
		case ZerosReserved:
			m.SetL2(i, host|Copied|ZeroFlag)
		case Zeros:
			if q.ExtendedL2 {
				m.SetL2Bitmap(i, 0xffffffff<<32)
			} else {
				m.SetL2(i, ZeroFlag)
			}
		case Subclusters:
			m.SetL2Bitmap(i, uint64(c.Zero)<<32|uint64(c.Alloc))
			if c.Alloc == 0 {
				continue
			}
			m.SetL2(i, host|Copied)
		case Packed:
			m.SetL2(i, m.CompressedEntry(int64(host), e.length))
			end := (int64(host) + e.length - 1) | 511
			for n := int64(host) / m.ClusterSize; n <= end/m.ClusterSize; n++ {
				m.SetRefcount(n, m.Refcount(n)+1)
			}
			continue
		default:
			continue
		}
		if e.kind != Zeros {
			m.SetRefcount(int64(host)/m.ClusterSize, 1)
		}
	}
}

// guest returns what the disk reads as.
func (q QCOW2) guest(cs int64) []byte {
	if q.Size > 64<<20 {
		return nil
	}
	b := make([]byte, max(q.Size, int64(len(q.Clusters))*cs))
	for i, c := range q.Clusters {
		at := b[int64(i)*cs:][:cs]
		switch c.Kind {
		case Plain, Packed:
			copy(at, c.Data)
		case Subclusters:
			sub := cs / 32
			for s := range int64(32) {
				if c.Alloc>>s&1 != 0 {
					copy(at[s*sub:(s+1)*sub], padded(c.Data, int(cs))[s*sub:])
				}
			}
		}
	}
	return b[:q.Size]
}

// CompressedEntry returns the L2 entry for a stream of n bytes at host.
func (m *Image) CompressedEntry(host, n int64) uint64 {
	sectors := (host+n-1)>>9 - host>>9
	return Compressed | uint64(sectors)<<m.sectorShift() | uint64(host)
}

// stream returns the host bytes that a compressed entry claims.
func (m *Image) stream(e uint64) (off, n int64) {
	off = int64(e & (1<<m.sectorShift() - 1))
	return off, int64(e&(Compressed-1)>>m.sectorShift()+1)*512 - off%512
}

// sectorShift returns where the number of sectors lies in a compressed entry.
func (m *Image) sectorShift() int { return 70 - bits.TrailingZeros64(uint64(m.ClusterSize)) }

// Put32 and Put64 write a big-endian number.
func (m *Image) Put32(off int64, v uint32) { binary.BigEndian.PutUint32(m.Bytes[off:], v) }
func (m *Image) Put64(off int64, v uint64) { binary.BigEndian.PutUint64(m.Bytes[off:], v) }

// Get64 reads a big-endian number.
func (m *Image) Get64(off int64) uint64 { return binary.BigEndian.Uint64(m.Bytes[off:]) }

// SetL1 sets entry i of the L1 table.
func (m *Image) SetL1(i int64, v uint64) { m.Put64(m.L1+i*8, v) }

// L2Entry returns where the L2 entry of guest cluster i lies.
func (m *Image) L2Entry(i int64) int64 {
	per := m.ClusterSize / m.entrySize
	off := m.L2[i/per]
	if off == 0 {
		panic(fmt.Sprintf("imagetest: guest cluster %d has no l2 table", i))
	}
	return off + i%per*m.entrySize
}

// SetL2 sets the L2 entry of guest cluster i, SetL2Bitmap its second half.
func (m *Image) SetL2(i int64, v uint64)       { m.Put64(m.L2Entry(i), v) }
func (m *Image) SetL2Bitmap(i int64, v uint64) { m.Put64(m.L2Entry(i)+8, v) }

// Host returns the host offset in the L2 entry of guest cluster i, which is
// not compressed.
func (m *Image) Host(i int64) int64 { return int64(m.Get64(m.L2Entry(i)) & offsetMask) }

// refcount returns where the refcount of a host cluster lies: the byte, and
// for widths below 8 the bit.
func (m *Image) refcount(cluster int64) (off int64, bit uint) {
	per := m.ClusterSize * 8 >> m.order
	at := cluster % per << m.order
	return m.RefBlocks[cluster/per] + at/8, uint(at % 8)
}

// SetRefcount sets the refcount of a host cluster.
func (m *Image) SetRefcount(cluster int64, v uint64) {
	off, bit := m.refcount(cluster)
	if m.order < 3 {
		mask := byte(1<<(1<<m.order)-1) << bit
		m.Bytes[off] = m.Bytes[off]&^mask | byte(v)<<bit&mask
		return
	}
	for n := int64(1) << m.order / 8; n > 0; n-- {
		m.Bytes[off+n-1] = byte(v)
		v >>= 8
	}
}

// Refcount returns the refcount of a host cluster.
func (m *Image) Refcount(cluster int64) (v uint64) {
	off, bit := m.refcount(cluster)
	if m.order < 3 {
		return uint64(m.Bytes[off]>>bit) & (1<<(1<<m.order) - 1)
	}
	for i := range int64(1) << m.order / 8 {
		v = v<<8 | uint64(m.Bytes[off+i])
	}
	return v
}

// Append adds p at the file's end, in clusters of its own that are counted
// once, and returns where.
func (m *Image) Append(p []byte) int64 {
	off := int64(len(m.Bytes)+int(m.ClusterSize)-1) &^ (m.ClusterSize - 1)
	m.Bytes = append(m.Bytes, make([]byte, off-int64(len(m.Bytes)))...)
	m.Bytes = append(m.Bytes, padded(p, len(p)+(-len(p)&int(m.ClusterSize-1)))...)
	for c := off / m.ClusterSize; c < int64(len(m.Bytes))/m.ClusterSize; c++ {
		m.SetRefcount(c, 1)
	}
	return off
}

// Compress returns the bare stream of p: deflate with a window of 32 KiB, or
// one zstd frame.
func Compress(p []byte, useZstd bool) []byte {
	if useZstd {
		w, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
		must(err)
		defer w.Close()
		return w.EncodeAll(p, nil)
	}
	var b bytes.Buffer
	w, err := flate.NewWriter(&b, 6)
	must(err)
	_, err = w.Write(p)
	must(err)
	must(w.Close())
	return b.Bytes()
}

// Source returns b as an image file.
func Source(b []byte) diskimage.Source {
	return diskimage.NewSource(bytes.NewReader(b), int64(len(b)))
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func ceil(a, b int64) int64 { return (a + b - 1) / b }

func padded(p []byte, n int) []byte {
	return append(bytes.Clone(p), make([]byte, max(0, n-len(p)))...)
}
