package convert

import (
	"bytes"
	"context"
	"fmt"
	"math"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/qcow2"
	"github.com/diskimage-go/diskimage/vhd"
	"github.com/diskimage-go/diskimage/vmdk"
)

// verify reads back what the image was closed with, opens it as a stranger
// would, checks its structure and compares its content with what the source
// gave. The source is not read again.
func (r *run) verify(ctx context.Context, out *written, unit int64) error {
	r.phase, r.done = Verifying, 0
	if err := out.unbroken(); err != nil {
		return err
	}
	img, err := out.source()
	if err != nil {
		return err
	}
	if err := checkStructure(ctx, img, out, r.o.Format); err != nil {
		return fmt.Errorf("convert: the output failed its check: %w", err)
	}
	d, err := Open(ctx, img, OpenOptions{Format: r.o.Format, RawAnyway: true, Opener: out})
	if err != nil {
		return fmt.Errorf("convert: cannot open the output: %w", err)
	}
	defer d.Close()
	if d.Size() != r.rep.Size {
		return fmt.Errorf("convert: the output shows a disk of %d bytes, not of %d", d.Size(), r.rep.Size)
	}
	found, digest, err := r.contentOf(ctx, d, unit)
	if err != nil {
		return fmt.Errorf("convert: cannot read the output back: %w", err)
	}
	if at, differs := r.content.differs(found); differs {
		return fmt.Errorf("convert: the output differs from the source within the %d guest bytes at %d", at.Len, at.Off)
	}
	if r.rep.OutputDigest = digest; !bytes.Equal(digest, r.rep.Digest) {
		return fmt.Errorf("convert: the output's digest is %x, the source's %x", digest, r.rep.Digest)
	}
	r.rep.Verified = true
	return nil
}

// nothingBelow stands for the image below an output: an endless hole, with the
// identifiers that the parent of a VMDK and of a VHD must have.
type nothingBelow struct {
	cid uint32
	id  [16]byte
}

func (b nothingBelow) UniqueID() [16]byte { return b.id }

func (nothingBelow) Size() int64  { return math.MaxInt64 }
func (nothingBelow) Close() error { return nil }

func (b nothingBelow) Info() vmdk.Info { return vmdk.Info{CID: b.cid} }

func (nothingBelow) ReadAt(p []byte, _ int64) (int, error) {
	clear(p)
	return len(p), nil
}

func (nothingBelow) NextExtent(off int64) (diskimage.Extent, error) {
	return diskimage.Extent{Off: off, Len: math.MaxInt64 - off, Kind: diskimage.Hole, Depth: 1, Host: -1}, nil
}

// checkStructure runs the format's own check; findings are errors.
func checkStructure(ctx context.Context, img diskimage.Source, opener diskimage.Opener, f Format) error {
	var findings int64
	switch f {
	case QCOW2:
		res, err := qcow2.Check(ctx, img, qcow2.CheckOptions{})
		if err != nil {
			return err
		}
		findings = res.Corruptions + res.Leaks + res.CheckErrors
	case VMDK:
		res, err := vmdk.Check(ctx, img, vmdk.CheckOptions{Opener: opener})
		if err != nil {
			return err
		}
		findings = res.Corruptions + res.Leaks + res.CheckErrors
	case VHD:
		res, err := vhd.Check(ctx, img, vhd.CheckOptions{})
		if err != nil {
			return err
		}
		findings = res.Corruptions + res.Leaks + res.CheckErrors
	}
	if findings > 0 {
		return &diskimage.Error{Kind: diskimage.ErrCorrupt, Format: f.String(), Off: -1, Msg: fmt.Sprintf("%d errors were found", findings)}
	}
	return nil
}

// contentOf reads the data of d with the same pipeline that converts, and
// returns its content and, if one is asked for, its digest: of as many bytes as
// the source has, behind which there are zeros.
func (r *run) contentOf(ctx context.Context, d diskimage.VirtualDisk, unit int64) (*contentHash, []byte, error) {
	found := &contentReader{content: r.content.like(), unit: unit}
	src := newDiskFeed(diskFeed{disk: d, size: d.Size(), unit: unit, mover: &mover{unit: unit}, o: &Options{OnlyTop: r.o.OnlyTop}, whole: true})
	var digest *guestDigest
	if r.o.Digest {
		digest = newGuestDigest(r.source)
	}
	if err := r.pipeline(ctx, src, found, digest); err != nil {
		return nil, nil, err
	}
	return found.content, digest.sum(), nil
}

// A contentReader is the end of a pipeline that only reads.
type contentReader struct {
	content *contentHash
	unit    int64
}

func (c *contentReader) Unit() int64 { return c.unit }

func (c *contentReader) NewBatch() *diskimage.Batch {
	return &diskimage.Batch{Buf: make([]byte, diskimage.BatchSize)}
}

func (c *contentReader) Encode(b *diskimage.Batch) error {
	c.content.add(b, c.unit)
	return nil
}

func (c *contentReader) Place(*diskimage.Batch) error                  { return nil }
func (c *contentReader) Store(context.Context, *diskimage.Batch) error { return nil }
func (c *contentReader) Finish(context.Context) error                  { return nil }
func (c *contentReader) Abort() error                                  { return nil }
