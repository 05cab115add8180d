package imagetest

import (
	"bytes"
	"math/rand/v2"
)

// Shapes returns sound images of every shape: versions, cluster sizes,
// refcount widths, encodings, subclusters; each with clusters of every kind,
// two L2 tables at least and one that is missing. They are small: 4 MiB of
// guest data at most.
func Shapes() []QCOW2 {
	var all []QCOW2
	for _, q := range []QCOW2{
		{Version: 2, ClusterBits: 16, RefcountOrder: 4},
		{Version: 2, ClusterBits: 9, RefcountOrder: 4},
		{Version: 3, ClusterBits: 9, RefcountOrder: 4},
		{Version: 3, ClusterBits: 9, RefcountOrder: -1},
		{Version: 3, ClusterBits: 9, RefcountOrder: 6, Zstd: true},
		{Version: 3, ClusterBits: 12, RefcountOrder: 1},
		{Version: 3, ClusterBits: 12, RefcountOrder: 5, Zstd: true},
		{Version: 3, ClusterBits: 14, RefcountOrder: 2, ExtendedL2: true},
		{Version: 3, ClusterBits: 16, RefcountOrder: 3, ExtendedL2: true, Zstd: true},
		{Version: 3, ClusterBits: 16, RefcountOrder: -1},
		{Version: 3, ClusterBits: 16, RefcountOrder: 4},
		{Version: 3, ClusterBits: 16, RefcountOrder: 6, Zstd: true},
		{Version: 3, ClusterBits: 21, RefcountOrder: 4},
	} {
		rnd := rand.New(rand.NewPCG(uint64(q.ClusterBits), uint64(q.Version)))
		n := min(200, 4<<20>>q.ClusterBits)
		for range n {
			q.Clusters = append(q.Clusters, q.anyCluster(rnd))
		}
		if q.ClusterBits < 12 { // a hole of more than an L2 table, and something behind it
			for range 200 {
				q.Clusters = append(q.Clusters, Cluster{})
			}
			q.Clusters = append(q.Clusters, Cluster{Kind: Plain, Data: []byte("the end")})
		}
		all = append(all, q)
	}
	return all
}

// anyCluster returns a cluster of a kind that the image may have.
func (q QCOW2) anyCluster(rnd *rand.Rand) Cluster {
	noise := make([]byte, 1<<q.ClusterBits)
	for i := range noise {
		noise[i] = byte(rnd.Uint32())
	}
	switch rnd.IntN(6) {
	case 0:
		return Cluster{}
	case 1: // streams of any length, some straddling two clusters
		text := bytes.Repeat([]byte{byte(rnd.Uint32()), 'x'}, len(noise)/2)
		copy(text, noise[:rnd.IntN(len(noise)*2/3)])
		return Cluster{Kind: Packed, Data: text}
	case 2:
		if q.Version > 2 {
			return Cluster{Kind: Zeros}
		}
	case 3:
		if q.Version > 2 && !q.ExtendedL2 {
			return Cluster{Kind: ZerosReserved, Data: noise}
		}
		if q.ExtendedL2 {
			alloc := rnd.Uint32() & rnd.Uint32()
			return Cluster{Kind: Subclusters, Data: noise, Alloc: alloc, Zero: rnd.Uint32() &^ alloc}
		}
	}
	return Cluster{Kind: Plain, Data: noise}
}
