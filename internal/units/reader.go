// Package units reads what is compressed unit by unit: clusters, grains.
package units

import (
	"runtime"
	"slices"
	"sync"

	"github.com/diskimage-go/diskimage/internal/codec"
)

// kept is how many decoded units are kept, so that small reads in order do not
// decode each unit over and over.
const kept = 4

// A Key tells a unit from all others of its image: a guest offset alone does
// not where there are snapshots, nor a host offset in a damaged image.
type Key struct{ Guest, Host, HostLen int64 }

// A Buffer is what one call at a time needs.
type Buffer struct {
	Decoder *codec.Decoder
	Stored  []byte // memory for what is read from the file

	plain []byte
}

// A Reader gives bytes of units, all of one size. It is safe for concurrent
// use. Its buffers go with it: those in a sync.Pool would outlive it by a round
// of the collector, which for who opens many images adds up without end.
type Reader struct {
	size int64

	mu      sync.Mutex
	buffers []*Buffer // at most one for each processor
	decoded [kept]decoded
	next    int // the one to give way
}

type decoded struct {
	Key
	plain []byte // nil: none
}

// Init sets the size of a unit in bytes. It must be called first.
func (r *Reader) Init(size int64) { r.size = size }

// Read fills p with bytes of the unit k, from the one at within on. decode
// fills dst, which is as long as a unit, with all of it.
func (r *Reader) Read(p []byte, within int64, k Key, decode func(b *Buffer, dst []byte) error) error {
	whole := int64(len(p)) == r.size
	b, done := r.get(p, within, k, whole)
	if done {
		return nil
	}
	dst := p
	if !whole {
		b.plain = slices.Grow(b.plain[:0], int(r.size))[:r.size]
		dst = b.plain
	}
	err := decode(b, dst)
	if err == nil && !whole {
		copy(p, dst[within:])
	}
	r.put(b, k, err == nil && !whole)
	return err
}

// get fills p if the unit is kept, and returns a buffer if it is not.
func (r *Reader) get(p []byte, within int64, k Key, whole bool) (b *Buffer, done bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !whole {
		for i := range r.decoded {
			if d := &r.decoded[i]; d.plain != nil && d.Key == k {
				copy(p, d.plain[within:])
				return nil, true
			}
		}
	}
	if n := len(r.buffers); n > 0 {
		b, r.buffers = r.buffers[n-1], r.buffers[:n-1]
		return b, false
	}
	return &Buffer{Decoder: codec.NewDecoder()}, false
}

// put takes a buffer back, and keeps what it holds of k if that is to be kept:
// it gets the memory of what gives way.
func (r *Reader) put(b *Buffer, k Key, keep bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if keep {
		d := &r.decoded[r.next]
		r.next = (r.next + 1) % kept
		d.Key = k
		d.plain, b.plain = b.plain, d.plain
	}
	if len(r.buffers) < runtime.GOMAXPROCS(0) {
		r.buffers = append(r.buffers, b)
	}
}
