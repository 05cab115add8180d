package qcow2

import (
	"fmt"

	"github.com/diskimage-go/diskimage"
)

// sharers returns how many entries may point into one host cluster.
//
// Two entries may share a cluster if its refcount covers them. But a small
// file in which they all do could demand any amount of work of its readers. So
// no more may share a cluster than an honest image could have there: as many
// compressed clusters as there are smallest streams in a host cluster (deflate
// yields 1,032 bytes for one at most; zstd needs 6 bytes for a frame and 4 for
// every 128 KiB), doubled for the ones that start in the cluster before. No
// image that a writer makes comes near, and a disk's data stays below the
// file's size times this number, however tables are shared.
func sharers(h *header) uint64 {
	size := h.clusterSize()
	smallest := size/1032 + 1
	if h.encoding() == diskimage.Zstd {
		const block = 128 << 10
		smallest = 6 + (size+block-1)/block*4
	}
	return uint64(2 * (size/smallest + 1))
}

// tooMany says what is wrong with a cluster that more share than may.
func (m *mapCheck) tooMany(cl int64, t tally) (diskimage.ErrorKind, string, error) {
	refcount, err := m.refs.at(cl)
	if err != nil {
		return "", "", err
	}
	if m.tooFew(refcount, t) {
		return diskimage.ErrCorrupt, m.sharedText(cl, t.refs(), refcount), nil
	}
	return diskimage.ErrLimit, fmt.Sprintf("%d entries share the host cluster at %#x: %d at most are followed", t.refs(), cl<<m.clusterBits, m.sharers), nil
}

// tooFew reports whether a refcount does not cover what uses the cluster.
func (m *mapCheck) tooFew(refcount uint64, t tally) bool {
	// Several compressed clusters in one host cluster are no sharing. That
	// they are counted right is not known where counts are not kept.
	if t&usedMask == usedCompressed && !m.kept {
		return false
	}
	return refcount < t.refs()
}

func (m *mapCheck) sharedText(cl int64, refs, refcount uint64) string {
	if refs == 1 {
		return fmt.Sprintf("the host cluster at %#x is in use, but its refcount is %d", cl<<m.clusterBits, refcount)
	}
	return fmt.Sprintf("the host cluster at %#x is used %d times, its refcount is %d", cl<<m.clusterBits, refs, refcount)
}

// checkCounts holds the clusters that the disk uses against their refcounts.
func (m *mapCheck) checkCounts() error {
	per := int64(1) << m.refs.perBlockBits()
	for _, no := range m.tallies.sorted() {
		page := m.tallies.pages[no][:]
		for cl := no << tallyPageBits; len(page) > 0; {
			first := cl & (per - 1) // in its block
			n := min(per-first, int64(len(page)))
			block, err := m.refs.of(cl)
			if err != nil {
				return err
			}
			if err := m.compareCounts(cl, page[:n], block, first); err != nil {
				return err
			}
			page, cl = page[n:], cl+n
		}
	}
	return nil
}

// compareCounts is checkCounts for the clusters from cl on. Their refcounts are
// those of block from the first on.
func (m *mapCheck) compareCounts(cl int64, page []tally, block []byte, first int64) error {
	const (
		once = usedData | 1
		used = usedData | usedCompressed | usedTable
	)
	order := m.refs.order
	for i, t := range page {
		if t&used == 0 || !m.kept && t.refs() < 2 {
			continue
		}
		refcount := refcountAt(block, order, first+int64(i))
		cl := cl + int64(i)
		switch {
		case t == once && refcount > 0:
		case m.tooFew(refcount, t):
			return m.blame(cl, m.sharedText(cl, t.refs(), refcount))
		case t.overlap():
			return m.blame(cl, fmt.Sprintf("the host cluster at %#x holds %s", cl<<m.clusterBits, t.uses()))
		case m.kept && refcount == 1 && t&usedUncopied != 0:
			return m.blame(cl, fmt.Sprintf("the COPIED flag is clear, but the refcount of the host cluster at %#x is 1", cl<<m.clusterBits))
		}
	}
	return nil
}

// blame returns the error for a host cluster, at the second entry of the disk
// that uses it if there is one.
func (m *mapCheck) blame(cl int64, text string) error {
	var found error
	seen := 0
	stop := fmt.Errorf("%s: found", Name)
	done := func(times uint32) error {
		if seen += int(times); seen < 2 {
			return nil
		}
		return stop
	}
	err := m.eachTable(func(index, off int64, times uint32) error {
		if off>>m.clusterBits != cl {
			return nil
		}
		found = fail(diskimage.ErrCorrupt, m.l1Offset+index*8, fmt.Sprintf("l1 table: entry %d", index), "%s", text)
		return done(times)
	})
	if err == nil {
		err = m.eachEntry(func(u *hostUse) error {
			if cl < u.host>>m.clusterBits || cl > (u.host+u.n-1)>>m.clusterBits {
				return nil
			}
			found = m.badEntry(diskimage.ErrCorrupt, u.place, "%s", text)
			return done(u.times)
		})
	}
	if err != nil && err != stop || found == nil {
		return err
	}
	return found
}
