package qcow2_test

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/internal/disktest"
	"github.com/diskimage-go/diskimage/internal/imagetest"
	"github.com/diskimage-go/diskimage/qcow2"
)

// TestCutAnywhere cuts images at every sector, and a little before and behind.
// What is missing is found by CheckMap, before anything is written, if it is
// more than a part of the last stream's last sectors: where in them a stream
// ends only decoding tells.
func TestCutAnywhere(t *testing.T) {
	disktest.Alone(t)
	const clusterBits = 12
	noise := packedNoise(8)
	for i := range noise {
		noise[i].Data = bytes.Repeat(noise[i].Data, 8)[:3000+i]
	}
	for name, q := range map[string]imagetest.QCOW2{
		"plain at the end":      {Clusters: append(noise, imagetest.Cluster{}, imagetest.Cluster{Kind: imagetest.Plain, Data: bytes.Repeat([]byte{1}, 1<<clusterBits)})},
		"compressed at the end": {Clusters: append(append(one(imagetest.Plain), imagetest.Cluster{Kind: imagetest.ZerosReserved}), noise...)},
		"zstd at the end":       {Clusters: noise, Zstd: true, RefcountOrder: 6},
		"disk ends in between":  {Clusters: append(noise[:1:1], one(imagetest.Plain)...), Size: 2<<clusterBits - 1000},
	} {
		t.Run(name, func(t *testing.T) {
			q.ClusterBits = clusterBits
			m := q.Build()
			last := int64(len(q.Clusters) - 1)
			end, stream := m.Host(last)+m.ClusterSize, int64(0)
			if q.Clusters[last].Kind == imagetest.Packed {
				const offset = 1<<(70-clusterBits) - 1
				host := int64(m.Get64(m.L2Entry(last)) & offset)
				end = host + int64(len(imagetest.Compress(append(bytes.Clone(q.Clusters[last].Data), make([]byte, 1<<clusterBits-len(q.Clusters[last].Data))...), q.Zstd)))
				stream = (end - 1) &^ 511 // its last sector
			} else if q.Size != 0 {
				end -= 1000
			}
			for sector := int64(0); sector*512 <= int64(len(m.Bytes)); sector++ {
				for _, n := range []int64{sector*512 - 1, sector * 512, sector*512 + 1, sector*512 + 77} {
					if n < 0 || n > int64(len(m.Bytes)) {
						continue
					}
					got, err := guestOf(t, m.Bytes[:n], nil)
					if n >= end {
						require.NoError(t, err, "cut at %d of %d", n, end)
						require.Equal(t, m.Guest, got)
						continue
					}
					require.Error(t, err, "cut at %d of %d", n, end)
					if n < 4 {
						require.ErrorIs(t, err, diskimage.ErrFormat)
						continue
					}
					require.ErrorIs(t, err, diskimage.ErrTruncated, "cut at %d of %d", n, end)
					d, err := qcow2.Open(t.Context(), imagetest.Source(m.Bytes[:n]), qcow2.Options{})
					if err == nil && (stream == 0 || n <= stream) {
						require.ErrorIs(t, d.CheckMap(), diskimage.ErrTruncated, "cut at %d of %d", n, end)
					}
				}
			}
		})
	}
}
