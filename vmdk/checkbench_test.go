package vmdk_test

import (
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage/internal/disktest"
	"github.com/diskimage-go/diskimage/internal/imagetest"
	"github.com/diskimage-go/diskimage/vmdk"
)

// A longFile is a file of which only the head is not zeros.
type longFile struct {
	head []byte
	size int64
}

func (f longFile) Size() int64 { return f.size }

func (f longFile) ReadAt(p []byte, off int64) (int, error) {
	clear(p)
	if off < int64(len(f.head)) {
		copy(p, f.head[off:])
	}
	return len(p), nil
}

// fullExtent returns a sparse extent of that many GiB, all of it stored.
func fullExtent(gib int64) longFile {
	m := imagetest.VMDK{Sectors: gib << 21}.Build()
	first, grains := int64(len(m.Bytes))/512, gib<<30/m.GrainSize
	for i := range grains {
		sector := uint32(first + i*m.GrainSize/512)
		for _, tables := range [][]int64{m.GTs, m.RGTs} {
			binary.LittleEndian.PutUint32(m.Bytes[tables[i/512]+i%512*4:], sector)
		}
	}
	return longFile{m.Bytes, int64(len(m.Bytes)) + gib<<30}
}

// TestCheckLargeFile checks a file in two windows, in the memory of one.
func TestCheckLargeFile(t *testing.T) {
	if testing.Short() || disktest.Race {
		t.Skip("4 million grains")
	}
	src := fullExtent(260)
	r, err := vmdk.Check(t.Context(), src, vmdk.CheckOptions{})
	require.NoError(t, err)
	require.Equal(t, &vmdk.CheckResult{ImageEndOffset: src.size, TotalGrains: 260 << 14, AllocatedGrains: 260 << 14}, r)
}

// BenchmarkCheck checks 64 GiB of grains.
func BenchmarkCheck(b *testing.B) {
	src := fullExtent(64)
	b.SetBytes(src.size)
	b.ReportAllocs()
	for b.Loop() {
		_, err := vmdk.Check(b.Context(), src, vmdk.CheckOptions{})
		require.NoError(b, err)
	}
}
