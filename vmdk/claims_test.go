package vmdk

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestEachStretch holds that a file is looked through stretch by stretch, and
// that no sector is free twice or taken once too often.
func TestEachStretch(t *testing.T) {
	uses := []struct{ off, n int64 }{
		{0, 4 * sectorSize},
		{9 * sectorSize, 2 * sectorSize}, // over the first stretch's end
		{20 * sectorSize, 15 * sectorSize},
		{35*sectorSize + 1, 1},
		{38 * sectorSize, sectorSize},
	}
	walks := 0
	require.NoError(t, eachStretch(10, func(c *claims) error {
		walks++
		for _, u := range uses {
			if !c.claim(u.off, u.n) {
				t.Errorf("walk %d: %d is taken", walks, u.off)
			}
		}
		return nil
	}))
	require.Equal(t, 4, walks)

	for _, twice := range []struct{ off, n int64 }{{3 * sectorSize, 1}, {10 * sectorSize, sectorSize}, {5 * sectorSize, 5 * sectorSize}, {34 * sectorSize, 9 * sectorSize}, {38*sectorSize + 511, 1}} {
		taken := errors.New("taken")
		err := eachStretch(10, func(c *claims) error {
			for _, u := range append(uses, twice) {
				if !c.claim(u.off, u.n) {
					return taken
				}
			}
			return nil
		})
		require.ErrorIs(t, err, taken, "%+v", twice)
	}
}
