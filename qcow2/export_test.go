package qcow2

// CacheUsed returns the bytes that a disk's cache of tables holds.
func CacheUsed(d *Disk) int64 { return d.tables.pages.Bytes() }
