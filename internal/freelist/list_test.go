package freelist

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestList(t *testing.T) {
	var l List[int]
	_, ok := l.Get()
	require.False(t, ok)
	l.Put(1, 2)
	for _, want := range []int{2, 1} {
		v, ok := l.Get()
		require.True(t, ok)
		require.Equal(t, want, v)
	}
	_, ok = l.Get()
	require.False(t, ok)
}
