package convert

import (
	"context"
	"fmt"
	"math"

	"golang.org/x/sync/errgroup"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/qcow2"
	"github.com/diskimage-go/diskimage/vhd"
	"github.com/diskimage-go/diskimage/vmdk"
)

// verify opens what was written as a stranger would, checks its structure and
// compares its content with what the source gave. The source is not read
// again.
func (r *run) verify(ctx context.Context, out *written, unit int64) error {
	r.phase, r.done = Verifying, 0
	img := out.source()
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
	found, err := r.contentOf(ctx, d, unit)
	if err != nil {
		return fmt.Errorf("convert: cannot read the output back: %w", err)
	}
	if at, differs := r.content.differs(found); differs {
		return fmt.Errorf("convert: the output differs from the source within the %d guest bytes at %d", at.Len, at.Off)
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

// contentOf reads the data of d on all workers.
func (r *run) contentOf(ctx context.Context, d diskimage.VirtualDisk, unit int64) (*contentHash, error) {
	content := r.content.like()
	o := Options{OnlyTop: r.o.OnlyTop}
	src := &diskFeed{disk: d, size: d.Size(), unit: unit, mover: &mover{unit: unit}, o: &o, whole: true}
	batches := make(chan *job, r.o.Workers+1) // room for all there are: no send waits
	back := make(chan *job, cap(batches))
	for range cap(back) {
		back <- &job{Batch: &diskimage.Batch{Buf: make([]byte, diskimage.BatchSize)}}
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer close(batches)
		for {
			select {
			case <-ctx.Done():
				return context.Cause(ctx)
			case j := <-back:
				if ok, err := src.plan(j); err != nil || !ok {
					return err
				}
				batches <- j
			}
		}
	})
	for range r.o.Workers {
		g.Go(func() error {
			own := newWorker()
			for j := range batches {
				if err := src.fill(ctx, j, own); err != nil {
					return err
				}
				content.add(j.Batch, unit)
				r.progress(j)
				back <- j
			}
			return nil
		})
	}
	return content, g.Wait()
}
