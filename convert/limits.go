package convert

import (
	"context"
	"fmt"
	"sync/atomic"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/vhd"
	"github.com/diskimage-go/diskimage/vmdk"
)

// checkVirtualSize returns an error of kind [diskimage.ErrLimit] for a guest
// disk that is larger than the limit, if there is one.
func checkVirtualSize(size, limit int64) error {
	if limit <= 0 || size <= limit {
		return nil
	}
	return overLimit("virtual size", fmt.Sprintf("%d bytes, the limit is %d", size, limit))
}

// checkSize holds an image's disk against MaxVirtualSize, without what the
// image names.
func (o OpenOptions) checkSize(ctx context.Context, src diskimage.Source, format Format, depth int) error {
	limit := o.MaxVirtualSize
	if limit < 0 {
		return fmt.Errorf("convert: a limit of %d bytes of guest disk", limit)
	}
	o.MaxVirtualSize, o.Opener, o.SkipExternal = 0, nil, true
	d, err := openAs(ctx, src, format, o, depth, nil)
	if err != nil {
		return err
	}
	return checkVirtualSize(d.Size(), limit) // d has opened nothing that must be closed
}

// tooLong is for a disk whose size is not known yet, but is beyond the limit.
func tooLong(limit int64) error {
	return overLimit("virtual size", fmt.Sprintf("more than the limit of %d bytes", limit))
}

func overLimit(what, msg string) error {
	return &diskimage.Error{Kind: diskimage.ErrLimit, Off: -1, Field: what, Msg: msg}
}

// checkOutputSize refuses, before anything is written, a target of guest bytes
// that will be longer than MaxOutputSize whatever the data is.
func (o *Options) checkOutputSize(guest int64) error {
	if o.MaxOutputSize > 0 && o.storesAll() && guest > o.MaxOutputSize {
		return overLimit("output size", fmt.Sprintf("%d bytes at least, the limit is %d", guest, o.MaxOutputSize))
	}
	return nil
}

// storesAll reports whether an image of the target's kind is at least as long
// as its guest disk.
func (o *Options) storesAll() bool {
	switch o.Format {
	case Raw:
		return true
	case VHD:
		return o.AllocateZeros || o.VHD.Type == vhd.Fixed || o.VHD.Type == 0 && o.VHD.Azure
	case VMDK:
		s := o.VMDK.Subformat
		return s == vmdk.MonolithicFlat || s == vmdk.TwoGbMaxExtentFlat || o.AllocateZeros && s != vmdk.StreamOptimized
	case QCOW2:
		return o.AllocateZeros && o.QCOW2.Compression == diskimage.Plain
	}
	return false
}

// An allowance is how long the files of an output may be together. Safe for
// concurrent use; nil is no limit.
type allowance struct {
	limit int64
	used  atomic.Int64
}

func newAllowance(limit int64) *allowance {
	if limit <= 0 {
		return nil
	}
	return &allowance{limit: limit}
}

// take is for a file that grows by n bytes.
func (a *allowance) take(n int64) error {
	if a == nil || a.used.Add(n) <= a.limit {
		return nil
	}
	return overLimit("output size", fmt.Sprintf("more than the limit of %d bytes", a.limit))
}

// limited returns a stream that does not say its size before its end, held
// against MaxVirtualSize.
func limited(s diskimage.Stream, o OpenOptions) diskimage.Stream {
	if o.MaxVirtualSize <= 0 {
		return s
	}
	return &limitedStream{s, o.MaxVirtualSize}
}

// A limitedStream fails where it gives more than the limit.
type limitedStream struct {
	diskimage.Stream
	limit int64
}

func (s *limitedStream) NextBlock(buf []byte) (diskimage.Block, error) {
	b, err := s.Stream.NextBlock(buf)
	if err == nil && b.Off+b.Len > s.limit {
		return diskimage.Block{}, tooLong(s.limit)
	}
	return b, err
}

func (s *limitedStream) Notes() []diskimage.Note { return diskimage.NotesOf(s.Stream) }
