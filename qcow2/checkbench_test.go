package qcow2

import (
	"encoding/binary"
	"fmt"
	"io"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage"
)

// A sparseSource holds the front of a file, the rest of which is a hole.
type sparseSource struct {
	front []byte
	size  int64
}

func (s sparseSource) Size() int64 { return s.size }

func (s sparseSource) ReadAt(p []byte, off int64) (n int, err error) {
	if left := s.size - off; int64(len(p)) > left {
		p, err = p[:max(0, left)], io.EOF
	}
	n = copy(p, s.front[min(off, int64(len(s.front))):])
	clear(p[n:])
	return len(p), err
}

func (s sparseSource) NextRange(off int64) (end int64, hole bool, err error) {
	if n := int64(len(s.front)); off < n {
		return n, false, nil
	}
	return s.size, true, nil
}

// fullImage returns an image of that many full L2 tables, of clusters of 64
// KiB: header, refcount table, L1 table, refcount blocks, L2 tables, data.
func fullImage(tables int64) sparseSource {
	return placedImage(tables, func(i int64) int64 { return i })
}

// placedImage returns such an image in which place says where in the data a
// guest cluster lies, in clusters; -1: it is a hole.
func placedImage(tables int64, place func(int64) int64) sparseSource {
	const cluster, perTable, perBlock = 64 << 10, 8192, 32768
	data := tables * perTable
	blocks := (3 + tables + data + perBlock - 1) / perBlock
	blocks = (3 + tables + data + blocks + perBlock - 1) / perBlock
	firstL2 := 3 + blocks
	firstData := firstL2 + tables
	b := make([]byte, firstData*cluster)
	be := binary.BigEndian
	be.PutUint32(b, Magic)
	be.PutUint32(b[offVersion:], 3)
	be.PutUint32(b[offClusterBits:], 16)
	be.PutUint64(b[offSize:], uint64(data*cluster))
	be.PutUint32(b[offL1Size:], uint32(tables))
	be.PutUint64(b[offL1Offset:], 2*cluster)
	be.PutUint64(b[offRefTableOffset:], cluster)
	be.PutUint32(b[offRefTableClusters:], 1)
	be.PutUint32(b[offRefcountOrder:], 4)
	be.PutUint32(b[offHeaderLength:], headerLenMin)
	for i := range blocks {
		be.PutUint64(b[cluster+i*8:], uint64(3+i)*cluster)
	}
	for i := range tables {
		be.PutUint64(b[2*cluster+i*8:], flagCopied|uint64(firstL2+i)*cluster)
	}
	for i := range firstData {
		be.PutUint16(b[3*cluster+i*2:], 1)
	}
	for i := range data {
		if at := place(i); at >= 0 {
			be.PutUint64(b[firstL2*cluster+i*8:], flagCopied|uint64(firstData+at)*cluster)
			be.PutUint16(b[3*cluster+(firstData+at)*2:], 1)
		}
	}
	return sparseSource{b, (firstData + data) * cluster}
}

// BenchmarkCheckMap and BenchmarkCheck report bytes of L2 tables: 8 for an entry.
func BenchmarkCheckMap(b *testing.B) {
	src := fullImage(256)
	d, err := Open(b.Context(), src, Options{})
	require.NoError(b, err)
	b.SetBytes(256 << 16)
	b.ReportAllocs()
	for b.Loop() {
		require.NoError(b, d.CheckMap())
	}
}

func BenchmarkCheck(b *testing.B) {
	for _, tables := range []int64{256, 2048} { // 128 GiB, 1 TiB
		b.Run(fmt.Sprintf("%dG", tables/2), func(b *testing.B) {
			src := fullImage(tables)
			b.SetBytes(tables << 16)
			b.ReportAllocs()
			for b.Loop() {
				r, err := Check(b.Context(), src, CheckOptions{})
				require.NoError(b, err)
				require.Equal(b, CheckResult{ImageEndOffset: src.size, TotalClusters: tables * 8192, AllocatedClusters: tables * 8192}, *r)
			}
		})
	}
}

// BenchmarkScattered walks the map of a disk of 1 TiB, of which 10 million
// clusters are in use and no two are neighbours in the file.
func BenchmarkScattered(b *testing.B) {
	const tables = 2048
	src := placedImage(tables, func(i int64) int64 {
		if i%8 >= 5 {
			return -1
		}
		return i * 0x9e3779b1 % (tables * 8192) // odd and a power of two: each once
	})
	b.ReportAllocs()
	extents := 0
	for b.Loop() {
		d, err := Open(b.Context(), src, Options{})
		require.NoError(b, err)
		extents = 0
		for off := int64(0); off < d.Size(); extents++ {
			e, err := d.NextExtent(off)
			if err != nil {
				b.Fatal(err)
			}
			off = e.End()
		}
		require.Equal(b, tables*8192/8*6, extents)
	}
	b.ReportMetric(float64(b.N)*float64(extents)/b.Elapsed().Seconds()/1e6, "Mextents/s")
}

var _ diskimage.HoleMapper = sparseSource{}
var _ diskimage.MapChecker = (*Disk)(nil)
