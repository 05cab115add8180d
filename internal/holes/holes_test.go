package holes

import (
	"bytes"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage"
)

// striped is a source with holes of 10 bytes between data of 10.
type striped struct {
	diskimage.Source
	asked int
	err   error
	stuck bool
}

func (s *striped) NextRange(off int64) (int64, bool, error) {
	s.asked++
	if s.stuck {
		return off, false, nil
	}
	return off/10*10 + 10, off/10%2 == 1, s.err
}

func TestMap(t *testing.T) {
	plain := diskimage.NewSource(bytes.NewReader(make([]byte, 100)), 100)
	end, hole, err := Of("raw", plain).Run(5, 100)
	require.NoError(t, err)
	require.Equal(t, int64(100), end)
	require.False(t, hole)

	s := &striped{Source: plain}
	m := Of("raw", s)
	for off := int64(0); off < 100; off++ {
		end, hole, err := m.Run(off, 95)
		require.NoError(t, err)
		require.Equal(t, min(off/10*10+10, 95), end)
		require.Equal(t, off/10%2 == 1, hole)
	}
	require.Equal(t, 10, s.asked, "once for each run")

	s.stuck = true
	_, _, err = m.Run(0, 100)
	require.ErrorIs(t, err, diskimage.ErrCorrupt)
	s.stuck, s.err = false, errors.New("no map")
	_, _, err = m.Run(0, 100)
	require.ErrorIs(t, err, s.err)
}
