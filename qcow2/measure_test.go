package qcow2

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/internal/peer"
)

func TestMeasureAgreesWithPeer(t *testing.T) {
	peer.Find(t, "qemu-img")
	for _, size := range []int64{0, 1, 512, 1000, 65536, 1<<20 + 512, 1 << 30, 10 << 30, 100<<30 + 4096, 1 << 40} {
		for _, o := range []WriterOptions{
			{}, {ClusterSize: 512}, {ClusterSize: 4096, RefcountBits: 1}, {ClusterSize: 2 << 20, RefcountBits: 64},
			{Version: 2}, {ClusterSize: 512, RefcountBits: 64}, {Compression: diskimage.Deflate},
		} {
			full, err := o.withDefaults()
			require.NoError(t, err)
			required, fully, err := Measure(size, 0, o)
			if err != nil {
				require.ErrorIs(t, err, diskimage.ErrLimit)
				_, code := peer.Try(t, "qemu-img", "create", "-q", "-f", "qcow2", "-o",
					fmt.Sprintf("cluster_size=%d", full.ClusterSize), filepath.Join(t.TempDir(), "x"), fmt.Sprint(size))
				require.NotZero(t, code, "the peer makes an image of %d with %+v", size, o)
				continue
			}
			compat := map[int]string{2: "0.10", 3: "1.1"}[full.Version]
			out := peer.Run(t, "qemu-img", "measure", "--output=json", "-O", "qcow2", "--size", fmt.Sprint(size), "-o",
				fmt.Sprintf("cluster_size=%d,refcount_bits=%d,compat=%s", full.ClusterSize, full.RefcountBits, compat))
			var want struct {
				Required int64 `json:"required"`
				Fully    int64 `json:"fully-allocated"`
			}
			require.NoError(t, json.Unmarshal([]byte(out), &want))
			require.Equal(t, want.Required, required, "required, %d %+v", size, o)
			require.Equal(t, want.Fully, fully, "fully allocated, %d %+v", size, o)
		}
	}
}

func TestMeasureRefuses(t *testing.T) {
	_, _, err := Measure(-1, 0, WriterOptions{})
	require.Error(t, err)
	_, _, err = Measure(1<<40, 0, WriterOptions{ClusterSize: 512})
	require.ErrorIs(t, err, diskimage.ErrLimit)
	_, err = MaxSize(1<<62, 0, WriterOptions{})
	require.ErrorIs(t, err, diskimage.ErrLimit)
	_, err = Prefix(WriterOptions{ClusterSize: 1000})
	require.ErrorIs(t, err, diskimage.ErrUnsupported)
	n, err := Prefix(WriterOptions{})
	require.NoError(t, err)
	require.EqualValues(t, 65536, n)
}
