package qcow2_test

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage/internal/disktest"
	"github.com/diskimage-go/diskimage/internal/imagetest"
	"github.com/diskimage-go/diskimage/internal/peer"
	"github.com/diskimage-go/diskimage/qcow2"
)

// TestDamageLikePeer changes bits of the header and of tables. Where both read
// the image they must read the same, and what qemu-img refuses is refused
// here; the other way round is the point of being strict.
func TestDamageLikePeer(t *testing.T) {
	rnd := rand.New(rand.NewPCG(99, 3))
	var small []imagetest.QCOW2
	for _, q := range imagetest.Shapes() {
		if q.ClusterBits <= 16 {
			q.Clusters = q.Clusters[:min(len(q.Clusters), 1<<20>>q.ClusterBits)]
			small = append(small, q)
		}
	}
	name, raw := filepath.Join(t.TempDir(), "a.qcow2"), filepath.Join(t.TempDir(), "raw")
	both := 0
	for n := range 60 {
		m := small[n%len(small)].Build()
		for range 1 + rnd.IntN(3) {
			tables := append([]int64{0, m.L1}, m.L2...)
			table, span := tables[rnd.IntN(len(tables))], m.ClusterSize
			if table == 0 {
				span = 112 // the header's fields
			}
			off := table + rnd.Int64N(span/8)*8
			if rnd.IntN(3) == 0 {
				m.Put64(off, m.Get64(table+rnd.Int64N(span/8)*8))
			} else {
				m.Put64(off, m.Get64(off)^1<<rnd.IntN(64))
			}
		}
		require.NoError(t, os.WriteFile(name, m.Bytes, 0o600))
		_, code := peer.Try(t, "qemu-img", "convert", "-f", "qcow2", "-O", "raw", name, raw)
		d, err := qcow2.Open(t.Context(), imagetest.Source(m.Bytes), qcow2.Options{})
		if err != nil || d.Size() > 64<<20 || disktest.TryWalk(d) != nil {
			continue
		}
		got := make([]byte, d.Size())
		if _, err := d.ReadAt(got, 0); err != nil {
			continue
		}
		require.Zero(t, code, "image %d is read here and refused there", n)
		want, err := os.ReadFile(raw)
		require.NoError(t, err)
		require.True(t, bytes.Equal(want, got[:len(got)&^511]), "image %d", n)
		both++
	}
	require.Positive(t, both)
}
