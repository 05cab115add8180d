package qcow2

import (
	"math"
	"math/bits"
	"slices"
	"strings"

	"github.com/diskimage-go/diskimage"
)

// A tally says how often one host cluster is referenced, and as what.
//
//	bit  0..25   references, saturating
//	bit 26..31   what the cluster was seen used as
type tally uint32

const (
	tallyBits = 26
	maxTally  = 1<<tallyBits - 1
)

const (
	usedData       tally = 1 << (tallyBits + iota) // guest data, stored plain
	usedCompressed                                 // compressed guest data
	usedTable                                      // an L2 table
	usedMeta                                       // the header and tables that only one may own
	usedRefcounts                                  // the refcount table and its blocks
	usedUncopied                                   // guest data that its entry says others have too

	usedMask = ^tally(maxTally)
)

const (
	tallyPageBits = 9
	tallyPageLen  = 1 << tallyPageBits
	tallyPages    = 32768 // 64 MiB: the clusters of 1 TiB at 64 KiB each
)

// maxWindows is how often the tables are walked at most. Host clusters in use
// that need more windows lie in more than 90 TiB of 64 KiB clusters, or are
// scattered over a file to make its readers work.
const maxWindows = 128

type tallyPage [tallyPageLen]tally

// tallies is a window over the counters of all host clusters. It begins at a
// given page of counters and reaches as far as its memory does: pages come
// into being when they are first used, and when there are too many of them the
// window's end moves down. Who needs all clusters starts the next window at
// this one's end and tallies again.
//
// So the number of windows depends on how many clusters are used, not on how
// far apart they lie: sparse and lying images cost no more than honest ones.
type tallies struct {
	first, end int64 // page numbers: the window is [first, end)
	most       int   // pages
	windows    int   // so far
	pages      map[int64]*tallyPage
	free       []*tallyPage

	// near finds the pages of a window of the usual kind, which are
	// neighbours, without looking into the map. Its length is a power of two.
	near []nearPage
}

type nearPage struct {
	no   int64
	page *tallyPage
}

// newTallies returns counters for a file of that many clusters, in at most that
// many pages, or tallyPages for 0.
func newTallies(pages int, clusters int64) *tallies {
	if pages <= 0 {
		pages = tallyPages
	}
	near := 1 << bits.Len64(uint64(min(clusters>>tallyPageBits, tallyPages-1)))
	return &tallies{most: pages, pages: make(map[int64]*tallyPage), near: make([]nearPage, near)}
}

// next empties the counters and starts a window where the one before ends, the
// first one at the first cluster. It reports false behind the last window.
func (c *tallies) next() (bool, error) {
	if c.windows > 0 && c.whole() {
		return false, nil
	}
	if c.windows++; c.windows > maxWindows && c.most == tallyPages {
		return false, fail(diskimage.ErrLimit, -1, "", "the host clusters in use are too many, or scattered too far, to be counted")
	}
	c.first, c.end = c.end, math.MaxInt64
	for no, p := range c.pages {
		c.free = append(c.free, p)
		delete(c.pages, no)
	}
	for i := range c.near {
		c.near[i] = nearPage{no: -1}
	}
	return true, nil
}

// at returns the counter of a cluster, or nil if that is outside the window.
func (c *tallies) at(cluster int64) *tally {
	no := cluster >> tallyPageBits
	if n := &c.near[no&int64(len(c.near)-1)]; n.no == no {
		return &n.page[cluster&(tallyPageLen-1)]
	}
	return c.find(no, cluster&(tallyPageLen-1))
}

func (c *tallies) find(no, i int64) *tally {
	if no < c.first || no >= c.end {
		return nil
	}
	p := c.pages[no]
	if p == nil {
		if len(c.pages) >= c.most {
			if c.shrink(no); no >= c.end {
				return nil
			}
		}
		if n := len(c.free); n > 0 {
			p, c.free = c.free[n-1], c.free[:n-1]
			clear(p[:])
		} else {
			p = new(tallyPage)
		}
		c.pages[no] = p
	}
	c.near[no&int64(len(c.near)-1)] = nearPage{no, p}
	return &p[i]
}

// shrink moves the window's end down, so that there is a page for the lowest
// ones of those in use and the new one. A quarter goes at once, or each new
// page would cost a sort.
func (c *tallies) shrink(no int64) {
	all := append(c.sorted(), no)
	slices.Sort(all)
	c.end = all[max(1, c.most*3/4)]
	for no, p := range c.pages {
		if no < c.end {
			continue
		}
		c.free = append(c.free, p)
		delete(c.pages, no)
		if n := &c.near[no&int64(len(c.near)-1)]; n.no == no {
			*n = nearPage{no: -1}
		}
	}
}

// sorted returns the numbers of the pages in use, ascending.
func (c *tallies) sorted() []int64 {
	all := make([]int64, 0, len(c.pages)+1)
	for no := range c.pages {
		all = append(all, no)
	}
	slices.Sort(all)
	return all
}

// whole reports whether the window reaches to the last cluster.
func (c *tallies) whole() bool { return c.end == math.MaxInt64 }

// bounds returns the window's first cluster and the first one after it.
func (c *tallies) bounds() (first, end int64) {
	if c.whole() {
		return c.first << tallyPageBits, math.MaxInt64
	}
	return c.first << tallyPageBits, c.end << tallyPageBits
}

// refs returns how often the cluster is referenced.
func (t tally) refs() uint64 { return uint64(t & maxTally) }

// add adds n references of a kind.
func (t *tally) add(n uint32, used tally) {
	*t = *t&usedMask | used | tally(min(uint64(*t&maxTally)+uint64(n), maxTally))
}

// overlap reports whether the cluster is used in ways that exclude each other:
// metadata belongs to one, except that snapshots share L2 tables, and guest
// data is plain or compressed.
func (t tally) overlap() bool {
	const data = usedData | usedCompressed
	switch {
	case t&(usedMeta|usedRefcounts) != 0:
		return t.refs() > 1
	case t&usedTable != 0:
		return t&data != 0
	}
	return t&data == data
}

// uses says in words what the cluster was seen used as.
func (t tally) uses() string {
	var all []string
	for _, u := range []struct {
		used tally
		name string
	}{
		{usedMeta, "a header or table"},
		{usedRefcounts, "a refcount block or the refcount table"},
		{usedTable, "an l2 table"},
		{usedData, "guest data"},
		{usedCompressed, "compressed guest data"},
	} {
		if t&u.used != 0 {
			all = append(all, u.name)
		}
	}
	return strings.Join(all, " and ")
}
