package convert

import (
	"fmt"
	"hash/maphash"
	"io"

	"github.com/diskimage-go/diskimage"
)

// seals remember what writers write when all data is stored, and first of all:
// header, tables, descriptor. A verification reads that back byte for byte,
// since not every bit of it shows in the guest's disk or in a check. The seed is
// secret, see [contentHash].
type seals struct {
	seed    maphash.Seed
	closing bool // all data is stored
}

// A seal is one such write.
type seal struct {
	off, n int64
	sum    uint64
}

// keep adds a write to those of m, which is locked.
func (s *seals) keep(m *meter, p []byte, off int64) {
	if s != nil && (s.closing || off == 0) {
		m.sealed = append(m.sealed, seal{off, int64(len(p)), maphash.Bytes(s.seed, p)})
	}
}

// unbroken returns an error unless all that m remembers is as it was written.
func (s *seals) unbroken(m *meter) error {
	in := m.out.(io.ReaderAt)
	var p []byte
	for _, w := range m.sealed {
		if int64(cap(p)) < w.n {
			p = make([]byte, w.n)
		}
		p = p[:w.n]
		if n, err := in.ReadAt(p, w.off); int64(n) < w.n {
			return fmt.Errorf("convert: cannot read the output back: %d bytes at %#x: %w", w.n, w.off, err)
		}
		if maphash.Bytes(s.seed, p) != w.sum {
			return &diskimage.Error{Kind: diskimage.ErrCorrupt, Off: w.off, Msg: fmt.Sprintf("the %d bytes that were written there are not what is read back", w.n)}
		}
	}
	return nil
}
