package qcow2

import (
	"encoding/binary"
	"io"
	"sync"
	"sync/atomic"
)

// pageBytes is the most that is read of a table at once: a whole L2 table at
// the default cluster size.
const pageBytes = 64 << 10

// A page is a part of an L1 or L2 table as it lies in the file: big-endian
// numbers. It is never written to once it is in the cache.
type page []byte

func (p page) entry(i int64) uint64 { return binary.BigEndian.Uint64(p[i*8:]) }

// A pageKey says where a page lies. The length is part of it: in a hostile
// image a page may start where a shorter one does.
type pageKey struct {
	off int64
	n   int
}

// A tableCache holds the pages used last, up to a number of bytes. It is safe
// for concurrent use, and nobody waits for another's read: two who miss the
// same page read it twice.
type tableCache struct {
	src  io.ReaderAt
	most int64

	// recent are the pages of the L1 table and of the L2 tables that were asked
	// for last: walking along a disk takes no lock.
	recent [2]atomic.Pointer[cachedPage]

	mu    sync.Mutex
	pages map[pageKey]*cachedPage
	used  int64
	head  cachedPage // of a ring: head.next was used last, head.prev is dropped first
}

// Which of the recent pages.
const (
	ofL1 = iota
	ofL2
)

type cachedPage struct {
	pageKey
	data       page
	prev, next *cachedPage
}

func newTableCache(src io.ReaderAt, most int64) *tableCache {
	c := &tableCache{src: src, most: most, pages: make(map[pageKey]*cachedPage)}
	c.head.prev, c.head.next = &c.head, &c.head
	return c
}

// get returns the page if it is there, and nil else.
func (c *tableCache) get(key pageKey, of int) page {
	if e := c.recent[of].Load(); e != nil && e.pageKey == key {
		return e.data
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.pages[key]
	if e == nil {
		return nil
	}
	c.recent[of].Store(e)
	c.touch(e)
	return e.data
}

// load reads the page and keeps it. field names it in errors.
func (c *tableCache) load(key pageKey, field string) (page, error) {
	data := make(page, key.n)
	if err := readFull(c.src, data, key.off, field); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pages[key] == nil {
		e := &cachedPage{pageKey: key, data: data}
		e.prev, e.next = e, e
		c.pages[key] = e
		c.used += int64(key.n)
		c.touch(e)
		for c.used > c.most && c.head.prev != e { // the newest stays, however large
			c.drop(c.head.prev)
		}
	}
	return data, nil
}

// touch moves e, which may be a ring of its own, to the front.
func (c *tableCache) touch(e *cachedPage) {
	if c.head.next == e {
		return
	}
	e.prev.next, e.next.prev = e.next, e.prev
	e.prev, e.next = &c.head, c.head.next
	e.prev.next, e.next.prev = e, e
}

func (c *tableCache) drop(e *cachedPage) {
	e.prev.next, e.next.prev = e.next, e.prev
	delete(c.pages, e.pageKey)
	c.used -= int64(e.n)
}
