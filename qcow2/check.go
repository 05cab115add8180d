package qcow2

import (
	"context"
	"fmt"

	"github.com/diskimage-go/diskimage"
)

// CheckOptions says how [Check] goes about it. The zero value is right.
type CheckOptions struct {
	// Report is called with each finding, in the same order every time, from
	// the goroutine that called Check. Default: findings are only counted.
	Report func(Finding)

	pages int // of counters in memory; default tallyPages
}

// A FindingKind says how bad a [Finding] is.
type FindingKind uint8

const (
	FindingLeak       FindingKind = iota // space is lost, data is not
	FindingCorruption                    // data is damaged, or would be by the next write
	FindingError                         // something could not be read, so that it was not checked
)

func (k FindingKind) String() string {
	switch k {
	case FindingLeak:
		return "leak"
	case FindingCorruption:
		return "corruption"
	case FindingError:
		return "error"
	}
	return fmt.Sprintf("FindingKind(%d)", uint8(k))
}

// A Finding is one thing that is wrong with an image.
type Finding struct {
	Kind      FindingKind
	Off       int64  // host offset of the cluster, table or entry at fault, -1 where there is none
	Cluster   int64  // host cluster that Refcount and Reference are about, -1 where there is none
	Refcount  uint64 // what the image counts
	Reference uint64 // how often the cluster is referenced
	Text      string // one line; in qemu-img's words where it has some
}

// A CheckResult is what a check found, in the numbers of qemu-img check.
type CheckResult struct {
	ImageEndOffset     int64 // end of the last host cluster in use
	TotalClusters      int64 // guest clusters of the disk
	AllocatedClusters  int64 // guest clusters with a place in the image (or in its data file)
	FragmentedClusters int64 // of those, the ones that do not follow the one before
	CompressedClusters int64 // of those, the compressed ones; all of them count as fragmented
	Leaks              int64 // host clusters with a refcount above their references
	Corruptions        int64
	CheckErrors        int64 // things that could not be checked
}

// Check checks the metadata of the QCOW2 image in src: that every host cluster
// is referenced as often as it is counted, that nothing lies inside metadata
// or outside the file, and that every table keeps to the rules. It opens
// neither a backing file nor a data file, needs no key, reads no guest data
// and changes nothing.
//
// What is wrong with the image is reported and counted, and is no error. An
// error means that there is no result: src is no QCOW2 image, or one with a
// header that forbids to open it, or ctx was cancelled.
//
// What the format leaves to the reader is judged as qemu-img check judges it,
// except that these are corruptions too: metadata used twice although its
// refcount says so, a cluster used plain and compressed, a zero flag in version
// 2, the zero flag in extended L2 entries, the COPIED flag of nothing, data and
// tables that the end of the file cuts, guest data at another offset of the data
// file, invalid bitmaps, and the corrupt bit where nothing else is wrong. L2
// tables and refcount blocks that do not start at a cluster, and L1 and bitmap
// tables that overlap others, are reported and not read.
//
// Memory: 64 MiB for counters at most, the refcount table and one L1 table. An
// image in which more than 16 Mi host clusters are in use is walked several
// times.
//
// Source: "The QCOW2 image format", sections "Host cluster management",
// "Cluster mapping", "Snapshots" and "Bitmaps".
func Check(ctx context.Context, src diskimage.Source, o CheckOptions) (*CheckResult, error) {
	h, err := readHeader(src)
	if err != nil {
		return nil, err
	}
	if h.refTableClusters == 0 {
		return nil, fail(diskimage.ErrCorrupt, offRefTableClusters, "header: refcount_table_clusters", "there is no refcount table")
	}
	refs, err := newRefcounts(src, h)
	if err != nil {
		return nil, err
	}
	walk := newMapWalk(src, h)
	active, err := walk.readL1(int64(h.l1Offset), h.l1Size)
	if err != nil {
		return nil, err
	}
	c := &checker{
		ctx: ctx, h: h, walk: walk, refs: refs, tallies: newTallies(o.pages, src.Size()>>h.clusterBits),
		fileSize: src.Size(), cluster: uint(h.clusterBits), active: active, shared: active.shared(), report: o.Report,
	}
	c.clusters = c.number(c.fileSize + h.clusterSize() - 1)
	c.res.TotalClusters = int64(h.size >> h.clusterBits)
	if h.size&uint64(h.clusterSize()-1) != 0 {
		c.res.TotalClusters++
	}
	if err := c.run(); err != nil {
		return nil, err
	}
	c.later = false
	if h.corrupt() && c.res.Corruptions == 0 {
		c.corrupt(0, "ERROR the image is marked corrupt, although nothing else was found")
	}
	c.res.ImageEndOffset = c.last << c.cluster
	return &c.res, nil
}

// A checker is one check under way.
type checker struct {
	ctx      context.Context
	h        *header
	walk     *mapWalk
	refs     *refcounts
	tallies  *tallies
	fileSize int64
	cluster  uint  // binary logarithm of the cluster size
	clusters int64 // host clusters of the file
	active   l1Table
	shared   map[int64]uint32 // of active
	report   func(Finding)

	res   CheckResult
	last  int64 // end of the last host cluster in use, in clusters
	later bool  // this is not the first window: what does not depend on it was reported
}

// run counts and compares, one window after the other.
func (c *checker) run() error {
	for {
		if more, err := c.tallies.next(); err != nil || !more {
			return err
		}
		if err := c.countAll(); err != nil {
			return err
		}
		c.checkBlockCounts()
		if err := c.compare(); err != nil {
			return err
		}
		if err := c.checkCopied(); err != nil {
			return err
		}
		c.later = true
	}
}

// number returns the number of the cluster that a host offset lies in.
func (c *checker) number(off int64) int64 { return off >> c.cluster }

// find counts a finding, and reports it with its text.
func (c *checker) find(f Finding, format string, args ...any) {
	switch f.Kind {
	case FindingLeak:
		c.res.Leaks++
	case FindingCorruption:
		c.res.Corruptions++
	case FindingError:
		c.res.CheckErrors++
	}
	if c.report != nil {
		f.Text = fmt.Sprintf(format, args...)
		c.report(f)
	}
}

// corrupt reports structural damage, in the first window only.
func (c *checker) corrupt(off int64, format string, args ...any) {
	if !c.later {
		c.find(Finding{Kind: FindingCorruption, Off: off, Cluster: -1}, format, args...)
	}
}

// failed reports what could not be read, in the first window only.
func (c *checker) failed(off int64, err error) {
	if !c.later {
		c.find(Finding{Kind: FindingError, Off: off, Cluster: -1}, "ERROR %s", err)
	}
}
