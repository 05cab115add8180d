// Package pagecache keeps the pages of images' tables that were used last, up
// to a number of bytes.
package pagecache

import "sync"

// A Page is a part of a table as it lies in a file. It is never written to.
type Page struct {
	Key
	Data []byte

	prev, next *Page
}

// A Key says which page is meant. The length is part of it: in a hostile image
// a page may start where a shorter one does.
type Key struct {
	File int // which of the image's files, as the caller numbers them
	Off  int64
	Len  int
}

// A Cache holds pages. It is safe for concurrent use, and nobody waits for
// another's read: two who miss the same page read it twice.
type Cache struct {
	most int64

	mu    sync.Mutex
	pages map[Key]*Page
	used  int64
	head  Page // of a ring: head.next was used last, head.prev is dropped first
}

// New returns a cache for most bytes of pages, and one page at least.
func New(most int64) *Cache {
	c := &Cache{most: most, pages: make(map[Key]*Page)}
	c.head.prev, c.head.next = &c.head, &c.head
	return c
}

// Get returns the page if it is there, and nil else.
func (c *Cache) Get(key Key) *Page {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.pages[key]
	if p != nil {
		c.touch(p)
	}
	return p
}

// Load has read fill the page, and keeps it unless that fails.
func (c *Cache) Load(key Key, read func(p []byte) error) (*Page, error) {
	p := &Page{Key: key, Data: make([]byte, key.Len)}
	if err := read(p.Data); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pages[key] == nil {
		p.prev, p.next = p, p
		c.pages[key] = p
		c.used += int64(key.Len)
		c.touch(p)
		for c.used > c.most && c.head.prev != p { // the newest stays, however large
			c.drop(c.head.prev)
		}
	}
	return p, nil
}

// touch moves p, which may be a ring of its own, to the front.
func (c *Cache) touch(p *Page) {
	if c.head.next == p {
		return
	}
	p.prev.next, p.next.prev = p.next, p.prev
	p.prev, p.next = &c.head, c.head.next
	p.prev.next, p.next.prev = p, p
}

func (c *Cache) drop(p *Page) {
	p.prev.next, p.next.prev = p.next, p.prev
	delete(c.pages, p.Key)
	c.used -= int64(p.Len)
}

// Bytes returns how many bytes the pages in the cache hold.
func (c *Cache) Bytes() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.used
}
