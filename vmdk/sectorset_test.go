package vmdk

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestSectorSet holds sets against the obvious thing.
func TestSectorSet(t *testing.T) {
	const sectors = 3*setPageLen + 100
	rnd := rand.New(rand.NewPCG(7, 7))
	for range 20 {
		sets := [2]*sectorSet{newSectorSet(), newSectorSet()}
		var plain [2][sectors]bool
		for range 60 {
			k := rnd.IntN(2)
			first := rnd.Int64N(sectors)
			n := min(1+rnd.Int64N(1<<rnd.IntN(12)), sectors-first)
			had := false
			for i := first; i < first+n; i++ {
				had = had || plain[k][i]
				plain[k][i] = true
			}
			require.Equal(t, had, sets[k].has(first, n))
			require.Equal(t, had, sets[k].add(first, n))
			require.True(t, sets[k].has(first+n-1, 1))
		}
		end := int64(0)
		for i, in := range plain[0] {
			require.Equal(t, in, sets[0].has(int64(i), 1))
			if in {
				end = int64(i) + 1
			}
		}
		require.Equal(t, end, sets[0].last())
		from, to := rnd.Int64N(sectors/2), sectors/2+rnd.Int64N(sectors/2)
		var want, got []int64
		for i := from; i < to; i++ {
			if !plain[0][i] && !plain[1][i] {
				want = append(want, i)
			}
		}
		runs := 0
		gaps(sets[0], sets[1], from, to, func(first, n int64) {
			runs++
			require.Positive(t, n)
			for i := range n {
				got = append(got, first+i)
			}
		})
		require.Equal(t, want, got)
		joined := 0
		for i, s := range want {
			if i == 0 || want[i-1] != s-1 {
				joined++
			}
		}
		require.Equal(t, joined, runs)
	}
}
