package qcow2

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/internal/chain"
	"github.com/diskimage-go/diskimage/internal/guest"
	"github.com/diskimage-go/diskimage/internal/notes"
)

// DefaultCacheBytes is what [Options.CacheBytes] means by 0.
const DefaultCacheBytes = 16 << 20

// Options say how [Open] reads an image. The zero value is right for an image
// that stands alone.
type Options struct {
	// Name is what the image is called when it names other files, so that
	// their opener can resolve relative names. Default: not known.
	Name string

	// Opener opens the backing file and the external data file. Default: an
	// image that has one is refused.
	Opener diskimage.Opener

	// Depth is how many references lead to this image: what
	// [diskimage.Reference] gave its opener. Default 0.
	Depth int

	// SkipExternal opens neither backing file nor data file, which is enough
	// to look at an image; reads that need them fail with ErrExternal.
	// Default false.
	SkipExternal bool

	// Salvage reads what can be read of a damaged image: the corrupt bit is a
	// note, and where a table is damaged NextExtent tells of data at no known
	// place, with a note, for which ReadAt fails. Default false.
	Salvage bool

	// Snapshot is the id or name of the internal snapshot to show. Default:
	// the active disk.
	Snapshot string

	// Notes are what the caller already has to say of the image: the first of
	// the Disk's own. Default: none.
	Notes []diskimage.Note

	// CacheBytes bounds the memory for tables. Default [DefaultCacheBytes].
	CacheBytes int64
}

// A Disk is the guest disk of a QCOW2 image, or of one of its internal
// snapshots. All its methods but Close are safe for concurrent use.
//
// In the extents of a Disk, File is 0 for the image itself and 1 for its
// external data file. Extents with a Depth are the backing image's, and their
// File and Host are what that image says.
type Disk struct {
	*image
	l1Offset int64
	l1Bytes  int64
	size     int64
	snapshot bool // a view that OpenSnapshot made: it closes nothing
}

// An image is what the disks in one file share.
type image struct {
	src      diskimage.Source
	fileSize int64
	name     string
	h        *header
	salvage  bool

	clusterSize int64
	clusterBits uint
	spanBits    uint  // guest bytes of an L2 table, as a power of two
	perPage     int64 // L2 entries of a page
	fixed       [3]fixedTable

	data     diskimage.Source // holds the guest's clusters: src, or the data file; nil if that was not opened
	dataSize int64
	below    chain.Below // the backing image

	tables    *tableCache
	units     unitReader
	snapshots []Snapshot
	bitmaps   []Bitmap
	notes     notes.List
}

// Open opens a QCOW2 image of version 2 or 3 and shows its disk. It reads the
// header and the lists of snapshots and bitmaps; tables are read when they are
// needed. The context bounds the opening, not the disk's life.
//
// What the image names is opened by o.Opener only, and after everything that
// can be refused without it. If Open succeeds, closing the Disk closes src (if
// it is an io.Closer) and what was opened; if it fails, src stays open.
//
// Errors are of the kinds of [diskimage.ErrorKind] for what is wrong with the
// image, and wrap src's for what cannot be read.
func Open(ctx context.Context, src diskimage.Source, o Options) (*Disk, error) {
	if o.CacheBytes < 0 || o.Depth < 0 {
		return nil, fmt.Errorf("%s: negative option: CacheBytes %d, Depth %d", Name, o.CacheBytes, o.Depth)
	}
	if o.CacheBytes == 0 {
		o.CacheBytes = DefaultCacheBytes
	}
	h, err := readHeader(src)
	if err != nil {
		return nil, err
	}
	if err := h.admit(o.Salvage); err != nil {
		return nil, err
	}
	img := &image{
		src:         src,
		fileSize:    src.Size(),
		name:        o.Name,
		h:           h,
		salvage:     o.Salvage,
		clusterSize: h.clusterSize(),
		clusterBits: uint(h.clusterBits),
		spanBits:    uint(h.clusterBits) + h.l2Bits(),
		perPage:     min(h.clusterSize(), pageBytes) / h.entrySize(),
		fixed:       h.fixedTables(),
		data:        src,
		dataSize:    src.Size(),
		tables:      newTableCache(src, o.CacheBytes),
	}
	img.units.init(src, img.clusterSize, h.encoding())
	img.notes.Format = Name
	img.notes.Start(slices.Concat(o.Notes, h.notes))
	img.below = chain.Below{Format: Name, Ref: img.reference(diskimage.RoleBacking, o)}
	if err := img.readLists(); err != nil {
		return nil, err
	}
	img.noteTail()
	d := &Disk{image: img, l1Offset: int64(h.l1Offset), l1Bytes: int64(h.l1Size) * 8, size: int64(h.size)}
	if o.Snapshot != "" {
		if d, err = d.OpenSnapshot(o.Snapshot); err != nil {
			return nil, err
		}
		d.snapshot = false
	}
	if err := img.openReferences(ctx, o); err != nil {
		return nil, err
	}
	return d, nil
}

// admit refuses the images whose header is sound, but whose guest data cannot
// be told.
func (h *header) admit(salvage bool) error {
	if h.cryptMethod != cryptNone {
		method := "AES"
		if h.cryptMethod == cryptLUKS {
			method = "LUKS"
		}
		return fail(diskimage.ErrEncrypted, offCryptMethod, "header: crypt_method", "the guest data is encrypted (%s)", method)
	}
	if h.corrupt() {
		if !salvage {
			return fail(diskimage.ErrCorrupt, offIncompatible, "header: incompatible_features", "the image is marked corrupt; salvaging it is an option")
		}
		h.note("the image is marked corrupt")
	}
	if h.refTableClusters == 0 {
		return fail(diskimage.ErrCorrupt, offRefTableClusters, "header: refcount_table_clusters", "there is no refcount table")
	}
	return nil
}

// readLists reads the snapshot table and the bitmap directory. Damage to them
// does not touch the active disk and is noted; a limit holds.
func (img *image) readLists() (err error) {
	if img.snapshots, err = readSnapshots(img.src, img.h); err != nil {
		if errors.Is(err, diskimage.ErrLimit) {
			return err
		}
		img.notes.Add("%d of %d snapshots are listed: %v", len(img.snapshots), img.h.nbSnapshots, err)
	}
	if img.bitmaps, err = readBitmaps(img.src, img.h); err != nil {
		img.notes.Add("%d of %d bitmaps are listed: %v", len(img.bitmaps), img.h.bitmapsExt.nbBitmaps, err)
	}
	if img.h.hasBitmaps && img.h.autoclear&autoclearBitmaps == 0 {
		img.notes.Add("the bitmaps are inconsistent: a program that does not know them wrote to the image")
	}
	return nil
}

// OpenSnapshot shows the internal snapshot of that id, or else of that name.
// It shares everything with d and is good until d is closed; closing it does
// nothing.
func (d *Disk) OpenSnapshot(idOrName string) (*Disk, error) {
	i := findSnapshot(d.snapshots, idOrName)
	if i < 0 {
		return nil, fmt.Errorf("%s: there is no snapshot of the id or name %s", Name, diskimage.Quote(idOrName))
	}
	s := &d.snapshots[i]
	if err := s.validate(d.h, d.fileSize); err != nil {
		return nil, within(err, "snapshot %s", diskimage.Quote(s.Name))
	}
	return &Disk{image: d.image, l1Offset: int64(s.l1Offset), l1Bytes: int64(s.l1Size) * 8, size: s.DiskSize, snapshot: true}, nil
}

// Size returns the guest disk's size in bytes, which need not be a multiple of
// 512.
func (d *Disk) Size() int64 { return d.size }

// ReadAt reads guest bytes, as [diskimage.VirtualDisk] has it.
func (d *Disk) ReadAt(p []byte, off int64) (int, error) {
	return guest.ReadAt(Name, d.size, p, off, d.readRun)
}

// readRun fills p from off on, as far as one run reaches.
func (d *Disk) readRun(p []byte, off int64) (int, error) {
	m, err := d.lookup(off, int64(len(p)))
	if err != nil {
		return 0, err
	}
	p = p[:m.n]
	switch m.state {
	case plain:
		if d.data == nil {
			return 0, d.refuseSkippedData()
		}
		err = readFull(d.data, p, m.host, "data")
	case packed:
		err = d.units.read(p, off, m)
	case zeros:
		clear(p)
	default:
		err = d.below.Read(p, off)
	}
	return len(p), err
}

// Close closes the image file and what was opened for it.
func (d *Disk) Close() error {
	if d.snapshot {
		return nil
	}
	return errors.Join(d.below.Close(), d.closeData(), closeAny(d.src))
}

// SourceOf returns the file of an extent, as [diskimage.Sourcer] has it.
func (d *Disk) SourceOf(e diskimage.Extent) diskimage.Source {
	switch {
	case e.Depth > 0:
		return d.below.SourceOf(e)
	case e.File > 0:
		return d.data
	}
	return d.src
}

// Changed returns an error of kind [diskimage.ErrChanged] if a file that the
// disk reads is not what it was when it was opened, as far as that is known.
func (d *Disk) Changed() error {
	for _, v := range []any{d.src, d.data, d.below.Disk} {
		if c, ok := v.(diskimage.ChangeDetector); ok {
			if err := c.Changed(); err != nil {
				return err
			}
		}
	}
	return nil
}

// Attest asks the source, if it lies in a container with checksums, whether it
// is what those are of.
func (d *Disk) Attest(ctx context.Context) error {
	if a, ok := d.src.(diskimage.Attester); ok {
		return a.Attest(ctx)
	}
	return nil
}
