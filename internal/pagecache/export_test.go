package pagecache

// Account returns what the cache counts, and what its pages really hold.
func (c *Cache) Account() (counted, held int64, pages, listed int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for p := c.head.next; p != &c.head; p = p.next {
		held += int64(len(p.Data))
		listed++
	}
	return c.used, held, len(c.pages), listed
}
