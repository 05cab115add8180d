package imagetest_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage/internal/imagetest"
	"github.com/diskimage-go/diskimage/internal/peer"
)

// TestBuiltImagesAreSound has qemu-img check and read what is built.
func TestBuiltImagesAreSound(t *testing.T) {
	for _, q := range imagetest.Shapes() {
		name := fmt.Sprintf("v%d-%d-refcount%d-zstd=%v-extended=%v", q.Version, q.ClusterBits, q.RefcountOrder, q.Zstd, q.ExtendedL2)
		t.Run(name, func(t *testing.T) {
			m := q.Build()
			file := filepath.Join(t.TempDir(), "a.qcow2")
			require.NoError(t, os.WriteFile(file, m.Bytes, 0o600))
			require.Contains(t, peer.Run(t, "qemu-img", "check", file), "No errors were found")
			raw := filepath.Join(t.TempDir(), "raw")
			peer.Run(t, "qemu-img", "convert", "-O", "raw", file, raw)
			got, err := os.ReadFile(raw)
			require.NoError(t, err)
			require.True(t, bytes.Equal(m.Guest, got))
		})
	}
}

func TestRefcounts(t *testing.T) {
	for order := range 7 {
		q := imagetest.QCOW2{ClusterBits: 9, RefcountOrder: order, Size: 1 << 20}
		if order == 0 {
			q.RefcountOrder = -1
		}
		m := q.Build()
		rnd := rand.New(rand.NewPCG(1, 1))
		want := make([]uint64, len(m.Bytes)/512)
		for i := range want {
			want[i] = rnd.Uint64() & (1<<(1<<order) - 1)
			m.SetRefcount(int64(i), want[i])
		}
		for i := range want {
			require.Equal(t, want[i], m.Refcount(int64(i)), "order %d, cluster %d", order, i)
		}
	}
}
