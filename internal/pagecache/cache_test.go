package pagecache_test

import (
	"errors"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage/internal/pagecache"
)

func fill(b byte) func([]byte) error {
	return func(p []byte) error {
		for i := range p {
			p[i] = b
		}
		return nil
	}
}

func TestCacheDropsWhatWasUsedLongestAgo(t *testing.T) {
	c := pagecache.New(30)
	for i := range 3 {
		_, err := c.Load(pagecache.Key{Off: int64(i), Len: 10}, fill(byte(i)))
		require.NoError(t, err)
	}
	require.NotNil(t, c.Get(pagecache.Key{Off: 0, Len: 10})) // so that 1 is the oldest
	_, err := c.Load(pagecache.Key{Off: 3, Len: 10}, fill(3))
	require.NoError(t, err)
	require.Nil(t, c.Get(pagecache.Key{Off: 1, Len: 10}))
	for _, off := range []int64{0, 2, 3} {
		p := c.Get(pagecache.Key{Off: off, Len: 10})
		require.NotNil(t, p, "%d", off)
		require.Equal(t, byte(off), p.Data[9])
	}
	require.EqualValues(t, 30, c.Bytes())
}

func TestCacheKeepsOnePageHoweverLarge(t *testing.T) {
	c := pagecache.New(30)
	_, err := c.Load(pagecache.Key{Len: 10}, fill(0))
	require.NoError(t, err)
	large := pagecache.Key{Len: 100}
	_, err = c.Load(large, fill(1))
	require.NoError(t, err)
	require.NotNil(t, c.Get(large))
	require.Nil(t, c.Get(pagecache.Key{Len: 10}))
	require.EqualValues(t, 100, c.Bytes())
}

func TestCacheTellsPagesApart(t *testing.T) {
	c := pagecache.New(1000)
	key := pagecache.Key{File: 1, Off: 512, Len: 10}
	_, err := c.Load(key, fill(7))
	require.NoError(t, err)
	require.Nil(t, c.Get(pagecache.Key{File: 2, Off: 512, Len: 10}))
	require.Nil(t, c.Get(pagecache.Key{File: 1, Off: 512, Len: 20}))
	p, err := c.Load(key, fill(7)) // as two do who missed it at once
	require.NoError(t, err)
	require.Len(t, p.Data, 10)
	require.EqualValues(t, 10, c.Bytes())
}

func TestCacheKeepsNoFailure(t *testing.T) {
	c := pagecache.New(1000)
	bad := errors.New("bad")
	_, err := c.Load(pagecache.Key{Len: 10}, func([]byte) error { return bad })
	require.Equal(t, bad, err)
	require.Nil(t, c.Get(pagecache.Key{Len: 10}))
	require.Zero(t, c.Bytes())
}

func TestCacheConcurrently(t *testing.T) {
	c := pagecache.New(100)
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 1000 {
				key := pagecache.Key{Off: int64((i * (g + 1)) % 20), Len: 10}
				p := c.Get(key)
				if p == nil {
					p, _ = c.Load(key, fill(byte(key.Off)))
				}
				if p.Data[0] != byte(key.Off) {
					t.Errorf("page %d holds %d", key.Off, p.Data[0])
				}
			}
		})
	}
	wg.Wait()
	require.EqualValues(t, 100, c.Bytes())
	counted, held, pages, listed := c.Account()
	require.Equal(t, counted, held)
	require.Equal(t, pages, listed)
}
