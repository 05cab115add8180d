package qcow2

import (
	"fmt"
	"slices"
	"sync"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/internal/codec"
)

// cachedUnits is how many decoded clusters are kept, so that small reads in
// order do not decode each cluster over and over.
const cachedUnits = 4

// A unitReader reads compressed clusters. It is safe for concurrent use.
type unitReader struct {
	src         diskimage.Source
	clusterSize int64
	encoding    diskimage.Encoding
	pool        sync.Pool // of *unit

	mu     sync.Mutex
	cached [cachedUnits]cachedUnit
	next   int // the one to give way
}

// A unit is what one reader at a time needs.
type unit struct {
	decoder *codec.Decoder
	stream  []byte
	plain   []byte
}

// A cachedUnit is a decoded cluster, known by where its stream is.
type cachedUnit struct {
	host, hostLen int64
	plain         []byte // nil: none
}

func (u *unitReader) init(src diskimage.Source, clusterSize int64, encoding diskimage.Encoding) {
	u.src, u.clusterSize, u.encoding = src, clusterSize, encoding
	u.pool.New = func() any { return &unit{decoder: codec.NewDecoder()} }
}

// read fills p with guest bytes of one compressed cluster: those at the guest
// offset off, which m maps.
func (u *unitReader) read(p []byte, off int64, m mapping) error {
	within := off & (u.clusterSize - 1)
	whole := int64(len(p)) == u.clusterSize
	if !whole && u.fromCache(p, within, m) {
		return nil
	}
	t := u.pool.Get().(*unit)
	defer u.pool.Put(t)
	stream, err := u.readStream(t.stream, m, off-within)
	if err != nil {
		return err
	}
	t.stream = stream[:0]
	dst := p
	if !whole {
		t.plain = slices.Grow(t.plain[:0], int(u.clusterSize))[:u.clusterSize]
		dst = t.plain
	}
	if _, err := t.decoder.Decode(dst, stream, u.encoding); err != nil {
		return u.undecodable(m, off-within, err)
	}
	if !whole {
		copy(p, dst[within:])
		t.plain = u.intoCache(t.plain, m)
	}
	return nil
}

// readStream reads what holds the stream of the guest cluster at guest, using
// buf's memory if it is large enough.
func (u *unitReader) readStream(buf []byte, m mapping, guest int64) ([]byte, error) {
	buf = slices.Grow(buf[:0], int(m.hostLen))[:m.hostLen] // at most 4 MiB, and inside the file
	if err := readFull(u.src, buf, m.host, "compressed cluster"); err != nil {
		return nil, within(err, "guest offset %#x", guest)
	}
	return buf, nil
}

// undecodable returns the error for a stream that is not one. If the file ends
// where it should go on it was cut off, as far as one can tell.
func (u *unitReader) undecodable(m mapping, guest int64, err error) error {
	kind := diskimage.ErrCorrupt
	if m.cut {
		kind = diskimage.ErrTruncated
	}
	return &diskimage.Error{Kind: kind, Format: Name, Off: m.host, Field: "compressed cluster",
		Msg: fmt.Sprintf("guest offset %#x: %d bytes do not hold the %d of a cluster", guest, m.hostLen, u.clusterSize), Err: err}
}

func (u *unitReader) fromCache(p []byte, within int64, m mapping) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	for i := range u.cached {
		if c := &u.cached[i]; c.plain != nil && c.host == m.host && c.hostLen == m.hostLen {
			copy(p, c.plain[within:])
			return true
		}
	}
	return false
}

// intoCache keeps plain, and returns the memory of the cluster that gives way.
func (u *unitReader) intoCache(plain []byte, m mapping) []byte {
	u.mu.Lock()
	defer u.mu.Unlock()
	c := &u.cached[u.next]
	u.next = (u.next + 1) % cachedUnits
	old := c.plain
	*c = cachedUnit{m.host, m.hostLen, plain}
	return old
}
