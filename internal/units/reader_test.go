package units

import (
	"bytes"
	"errors"
	"runtime"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestReader: a unit of which parts are read is decoded once as long as it is
// among the last few; one that is read whole or cannot be decoded is not kept.
func TestReader(t *testing.T) {
	var r Reader
	r.Init(1024)
	decoded := 0
	read := func(n, within int64, k Key) []byte {
		p := make([]byte, n)
		require.NoError(t, r.Read(p, within, k, func(b *Buffer, dst []byte) error {
			require.NotNil(t, b.Decoder)
			require.Len(t, dst, 1024)
			decoded++
			for i := range dst {
				dst[i] = byte(int(k.Guest) + i)
			}
			return nil
		}))
		for i := range p {
			require.Equal(t, byte(int(k.Guest+within)+i), p[i])
		}
		return p
	}
	a := Key{Guest: 7, Host: 100, HostLen: 50}
	read(1024, 0, a)
	read(1024, 0, a)
	require.Equal(t, 2, decoded)
	for within := range int64(1024) {
		read(1, within, a)
	}
	require.Equal(t, 3, decoded)
	for _, other := range []Key{{8, 100, 50}, {7, 101, 50}, {7, 100, 51}} {
		read(10, 1014, other)
	}
	require.Equal(t, 6, decoded)
	read(10, 0, a) // the last of four
	require.Equal(t, 6, decoded)
	read(10, 0, Key{Guest: 9})
	read(10, 0, a)
	require.Equal(t, 8, decoded)

	bad := errors.New("bad")
	for range 2 {
		calls := 0
		require.Equal(t, bad, r.Read(make([]byte, 5), 3, Key{Guest: 10}, func(_ *Buffer, dst []byte) error {
			calls++
			clear(dst)
			return bad
		}))
		require.Equal(t, 1, calls)
	}
	read(10, 0, a)
	require.Equal(t, 8, decoded)
}

// TestBuffers: no more of them are kept than there are processors, however many
// read at once, and reading with one that is kept allocates nothing.
func TestBuffers(t *testing.T) {
	var r Reader
	r.Init(64)
	var all, inside sync.WaitGroup
	inside.Add(100)
	for i := range 100 {
		all.Go(func() {
			p := make([]byte, 10)
			r.Read(p, 5, Key{Guest: int64(i)}, func(_ *Buffer, dst []byte) error {
				inside.Done()
				inside.Wait()
				copy(dst, bytes.Repeat([]byte{byte(i)}, len(dst)))
				return nil
			})
			if p[0] != byte(i) || p[9] != byte(i) {
				t.Errorf("unit %d: %x", i, p)
			}
		})
	}
	all.Wait()
	require.Len(t, r.buffers, min(100, runtime.GOMAXPROCS(0)))

	p, i := make([]byte, 10), int64(1000)
	require.Zero(t, testing.AllocsPerRun(100, func() {
		i++
		r.Read(p, 5, Key{Guest: i}, func(_ *Buffer, dst []byte) error {
			dst[5] = byte(i)
			return nil
		})
	}))
}
