package qcow2

// CacheUsed returns the bytes that a disk's cache of tables holds.
func CacheUsed(d *Disk) int64 {
	d.tables.mu.Lock()
	defer d.tables.mu.Unlock()
	var n int64
	for e := d.tables.head.next; e != &d.tables.head; e = e.next {
		n += int64(len(e.data))
	}
	if n != d.tables.used || len(d.tables.pages) == 0 {
		panic("the cache's account is wrong")
	}
	return n
}
