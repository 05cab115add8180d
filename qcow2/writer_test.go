package qcow2

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/internal/peer"
	"github.com/diskimage-go/diskimage/internal/zero"
)

// TestWriterAgainstPeer writes every kind of image and has the peer check it
// and compare its content.
func TestWriterAgainstPeer(t *testing.T) {
	peer.Find(t, "qemu-img")
	sizes := map[int64][]int64{ // guest bytes by cluster size
		512:      {0, 1, 511, 512, 513, 100_000, 3 << 20},
		4096:     {4095, 4097, 9<<20 + 512},
		64 << 10: {1, 65535, 65537, 9<<20 + 1000},
		2 << 20:  {1, 2<<20 - 1, 2<<20 + 1, 9<<20 + 512},
	}
	for cluster, list := range sizes {
		for _, o := range []WriterOptions{
			{Version: 2}, {}, {RefcountBits: 1}, {RefcountBits: 2}, {RefcountBits: 64},
			{Version: 2, Compression: diskimage.Deflate}, {Compression: diskimage.Deflate},
			{Compression: diskimage.Deflate, Window: 32768, Level: 3, RefcountBits: 1},
			{Compression: diskimage.Deflate, RefcountBits: 2}, {Compression: diskimage.Deflate, RefcountBits: 4},
			{Compression: diskimage.Deflate, RefcountBits: 8}, {Compression: diskimage.Deflate, RefcountBits: 32},
			{Compression: diskimage.Zstd, LazyRefcounts: true}, {Compression: diskimage.Zstd, Level: 1, RefcountBits: 64},
			{Compression: diskimage.Deflate, AllocateZeros: true}, {AllocateZeros: true},
		} {
			o.ClusterSize = cluster
			t.Run(fmt.Sprintf("c%d_v%d_r%d_%v_l%d_z%v", cluster, o.Version, o.RefcountBits, o.Compression, o.Level, o.AllocateZeros), func(t *testing.T) {
				t.Parallel()
				for i, size := range list {
					last := i == len(list)-1
					for _, m := range []mix{mixed, allSoft, allHard, allZeros} {
						if m != mixed && (!last || testing.Short()) {
							continue
						}
						writeAndCheck(t, o, guestData(size, cluster, m, uint64(size)))
					}
				}
			})
		}
	}
}

// writeAndCheck writes a disk in one order and in another.
func writeAndCheck(t *testing.T, o WriterOptions, guest []byte) {
	t.Helper()
	o.Size = int64(len(guest))
	one := &recorder{prefix: o.ClusterSize, ordered: true}
	w, err := drive(one, o, guest, 1, 0)
	require.NoError(t, err)
	img := one.whole(t)
	require.Equal(t, len(guest)%512 != 0, len(w.Notes()) == 1)

	o.Size = -1
	many := &recorder{prefix: o.ClusterSize}
	_, err = drive(many, o, guest, 5, 42)
	require.NoError(t, err)
	require.True(t, bytes.Equal(img, many.whole(t)), "the bytes depend on the order")

	allocated := int64(0)
	for off := int64(0); off < int64(len(guest)); off += o.ClusterSize {
		if o.AllocateZeros || !zero.Is(guest[off:min(off+o.ClusterSize, int64(len(guest)))]) {
			allocated += o.ClusterSize
		}
	}
	most, err := MaxSize(int64(len(guest)), allocated, o)
	require.NoError(t, err)
	require.LessOrEqual(t, int64(len(img)), most)
	if o.Compression == diskimage.Plain {
		require.Equal(t, most, int64(len(img)))
	}
	checkWithPeer(t, img, guest)
}
