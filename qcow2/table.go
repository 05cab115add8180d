package qcow2

import (
	"encoding/binary"
	"io"
	"sync/atomic"

	"github.com/diskimage-go/diskimage/internal/pagecache"
)

// pageBytes is the most that is read of a table at once: a whole L2 table at
// the default cluster size.
const pageBytes = 64 << 10

// A page is a part of an L1 or L2 table as it lies in the file: big-endian
// numbers. It is never written to once it is in the cache.
type page []byte

func (p page) entry(i int64) uint64 { return binary.BigEndian.Uint64(p[i*8:]) }

// A tableCache holds the pages used last, up to a number of bytes. It is safe
// for concurrent use.
type tableCache struct {
	src   io.ReaderAt
	pages *pagecache.Cache

	// recent are the pages of the L1 table and of the L2 tables that were asked
	// for last: walking along a disk takes no lock.
	recent [2]atomic.Pointer[pagecache.Page]
}

// Which of the recent pages.
const (
	ofL1 = iota
	ofL2
)

func newTableCache(src io.ReaderAt, most int64) *tableCache {
	return &tableCache{src: src, pages: pagecache.New(most)}
}

// get returns the page if it is there, and nil else.
func (c *tableCache) get(key pagecache.Key, of int) page {
	if p := c.recent[of].Load(); p != nil && p.Key == key {
		return p.Data
	}
	p := c.pages.Get(key)
	if p == nil {
		return nil
	}
	c.recent[of].Store(p)
	return p.Data
}

// load reads the page and keeps it. field names it in errors.
func (c *tableCache) load(key pagecache.Key, field string) (page, error) {
	p, err := c.pages.Load(key, func(b []byte) error { return readFull(c.src, b, key.Off, field) })
	if err != nil {
		return nil, err
	}
	return p.Data, nil
}
