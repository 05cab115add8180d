package httpsource

import "sync"

const (
	// blockSize is how much is asked for where little is read without a hint:
	// a table that is read in pages costs few GETs.
	blockSize = 64 << 10

	// mostBlocks is how many of them are kept: 8 MiB.
	mostBlocks = 128
)

// blocks are the aligned blocks that were used last. They are safe for
// concurrent use, and whoever wants a block that another one is fetching
// waits for it.
type blocks struct {
	mu   sync.Mutex
	at   map[int64]*block
	tick int64
}

type block struct {
	ready chan struct{} // closed when data or err is there
	data  []byte
	err   error
	used  int64 // the tick of its last use
}

// get returns the block at off, an aligned offset, which load fetches if it is
// not there. Errors are not kept.
func (b *blocks) get(off int64, load func() ([]byte, error)) ([]byte, error) {
	b.mu.Lock()
	b.tick++
	if k := b.at[off]; k != nil {
		k.used = b.tick
		b.mu.Unlock()
		<-k.ready
		return k.data, k.err
	}
	k := &block{ready: make(chan struct{}), used: b.tick}
	if b.at == nil {
		b.at = make(map[int64]*block)
	}
	b.at[off] = k
	b.mu.Unlock()

	k.data, k.err = load()
	close(k.ready)
	b.mu.Lock()
	defer b.mu.Unlock()
	if k.err != nil {
		delete(b.at, off)
	}
	for len(b.at) > mostBlocks && b.dropOldest() {
	}
	return k.data, k.err
}

// dropOldest drops the block that was used least recently of those that are
// there, and reports whether there was one.
func (b *blocks) dropOldest() bool {
	oldest := int64(-1)
	for off, k := range b.at {
		select {
		case <-k.ready:
			if oldest < 0 || k.used < b.at[oldest].used {
				oldest = off
			}
		default:
		}
	}
	delete(b.at, oldest)
	return oldest >= 0
}
