package convert

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/qcow2"
	"github.com/diskimage-go/diskimage/raw"
)

// blockHash is its definition (see internal/blockhash, whose tests have values
// of the reference implementation).
func blockHash(disk []byte) []byte {
	var sums []byte
	for block := range slices.Chunk(disk, 64<<10) {
		sum := sha256.Sum256(block)
		sums = append(sums, sum[:]...)
	}
	sum := sha256.Sum256(binary.LittleEndian.AppendUint64(sums, uint64(len(disk))))
	return sum[:]
}

// TestBlockHash: it is that of the content, whatever the source, the target and
// the number of workers.
func TestBlockHash(t *testing.T) {
	for _, size := range []int64{0, 512, 5<<20 + 1000} {
		d := patchworkDisk(7, size)
		want := blockHash(d.content)
		for _, workers := range []int{1, 8} {
			for _, o := range []Options{{}, {Format: QCOW2, Verify: true, Digest: true}, {Format: QCOW2, QCOW2: qcow2.WriterOptions{Compression: diskimage.Deflate}}} {
				o.BlockHash, o.Workers = true, workers
				r, err := ToFile(t.Context(), filepath.Join(t.TempDir(), "target"), d, o)
				require.NoError(t, err)
				require.Equal(t, want, r.BlockHash)
				for _, known := range []int64{-1, size} {
					r, err = StreamToFile(t.Context(), filepath.Join(t.TempDir(), "target"), raw.NewStream(bytes.NewReader(d.content), known), o)
					require.NoError(t, err)
					require.Equal(t, want, r.BlockHash)
				}
			}
		}
	}
	_, err := ToFile(t.Context(), filepath.Join(t.TempDir(), "target"), patchworkDisk(7, 512), Options{OnlyTop: true, BlockHash: true})
	require.Error(t, err)
}
