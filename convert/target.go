package convert

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/internal/atomicfile"
	"github.com/diskimage-go/diskimage/internal/hostfile"
	"github.com/diskimage-go/diskimage/qcow2"
	"github.com/diskimage-go/diskimage/raw"
	"github.com/diskimage-go/diskimage/vhd"
	"github.com/diskimage-go/diskimage/vmdk"
)

// ToFile converts src into the file name. Under that name there is, at any
// moment, what stood there before or the complete new image: the work is done
// under a temporary name in the same folder, synced unless o.Unsynced, and
// renamed. A block device (with o.Force) is written in place, without that
// promise.
//
// A target of several files, such as a monolithicFlat VMDK, is refused where one
// of them exists, unless o.Force is set. All files are complete before the first
// gets its name, and the one that names the others, name, is the last. If
// others are overwritten the old file of that name is removed first: a crash in
// that moment leaves none. While it is made each file is open twice.
//
// src is not closed. Cancelling ctx stops the conversion with its cause.
func ToFile(ctx context.Context, name string, src diskimage.VirtualDisk, o Options) (*Report, error) {
	return toFile(ctx, name, src, nil, o)
}

// StreamToFile is ToFile for a source that is read once, front to back.
func StreamToFile(ctx context.Context, name string, src diskimage.Stream, o Options) (*Report, error) {
	return toFile(ctx, name, nil, src, o)
}

func toFile(ctx context.Context, name string, disk diskimage.VirtualDisk, stream diskimage.Stream, o Options) (*Report, error) {
	r, err := newRun(disk, stream, o)
	if err != nil {
		return nil, err
	}
	if err := r.check(); err != nil {
		return nil, err
	}
	if r.o.VMDK.FileName == "" {
		r.o.VMDK.FileName = filepath.Base(name)
	}
	if r.o.several() {
		return r.toFiles(ctx, name)
	}
	f, err := atomicfile.Create(name, atomicfile.Options{Force: r.o.Force, Unsynced: r.o.Unsynced})
	if err != nil {
		return nil, err
	}
	defer f.Abort()
	if err := r.toOutput(ctx, f, !r.o.Unsynced, filepath.Base(name)); err != nil {
		return nil, err
	}
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	if err := f.Commit(); err != nil {
		return nil, err
	}
	if f.Resolved() {
		r.note("%s is a symbolic link: what it leads to, %s, was written", name, f.Target())
	}
	return r.report(), nil
}

// ToOutput converts src into out, which sees each byte once, in nearly
// ascending order ([Options.Ascending]: strictly), and the image's first bytes
// last. [Measure] tells beforehand how many these are and how long the image
// becomes at most, so that an upload in parts can be planned. out is synced if
// it can be. Verify needs an out that is an io.ReaderAt too.
//
// For a VMDK of several files out is the descriptor's, and o.VMDK.Creator makes
// the others.
func ToOutput(ctx context.Context, out diskimage.Output, src diskimage.VirtualDisk, o Options) (*Report, error) {
	return toOutput(ctx, out, src, nil, o)
}

// StreamToOutput is ToOutput for a source that is read once, front to back. A
// raw image of a stream whose units lie in another order than the disk's is
// written in theirs, unless Ascending is set: then such a stream is refused.
func StreamToOutput(ctx context.Context, out diskimage.Output, src diskimage.Stream, o Options) (*Report, error) {
	return toOutput(ctx, out, nil, src, o)
}

func toOutput(ctx context.Context, out diskimage.Output, disk diskimage.VirtualDisk, stream diskimage.Stream, o Options) (*Report, error) {
	r, err := newRun(disk, stream, o)
	if err != nil {
		return nil, err
	}
	if err := r.check(); err != nil {
		return nil, err
	}
	if err := r.toOutput(ctx, out, !r.o.Unsynced, ""); err != nil {
		return nil, err
	}
	return r.report(), nil
}

// toOutput converts, and verifies and hashes what was written if that is asked
// for. out is of this name.
func (r *run) toOutput(ctx context.Context, out diskimage.Output, synced bool, name string) error {
	all, unit, err := r.write(ctx, out, synced)
	if err != nil {
		return err
	}
	if r.o.Verify {
		if err := r.verify(ctx, all, unit); err != nil {
			return err
		}
	}
	return r.digestFiles(ctx, all, name)
}

// write converts, and returns what was written and the writer's unit.
func (r *run) write(ctx context.Context, out diskimage.Output, synced bool) (*written, int64, error) {
	if err := r.o.readBack(out); err != nil {
		return nil, 0, err
	}
	if r.o.Verify {
		r.content = newContentHash(r.targetSize(), chunkOf(r.stream), r.o.OnlyTop)
	}
	main := meter{out: out, sync: synced, allowed: newAllowance(r.o.MaxOutputSize)}
	if r.o.Verify {
		main.seals = &seals{seed: maphash.MakeSeed()}
	}
	all := &written{meter: &main, below: nothingBelow{cid: r.o.VMDK.ParentCID}}
	if p := r.o.VHD.Parent; p != nil {
		all.below.id = p.ID
	}
	o := r.o
	if o.VMDK.Creator != nil {
		all.files = map[string]*meter{}
		o.VMDK.Creator = &meteredCreator{o.VMDK.Creator, all, &r.o}
	}
	w, err := newWriter(all.asOutput(), r.targetSize(), o)
	if err != nil {
		return nil, 0, err
	}
	r.seals = main.seals
	if err := r.convert(ctx, w); err != nil {
		return nil, 0, err
	}
	r.written = all.bytes()
	return all, w.Unit(), nil
}

// readBack returns an error if out has to be read back and cannot be.
func (o *Options) readBack(out diskimage.Output) error {
	_, ok := out.(io.ReaderAt)
	switch {
	case ok:
		return nil
	case o.Verify:
		return errUnreadable
	case o.FileDigest:
		return errNoFileDigest
	}
	return nil
}

var errUnreadable = errors.New("convert: an output that cannot be read back cannot be verified")

// guestSize returns what became of a guest size in a format that may have to
// pad it.
func guestSize(w diskimage.Writer, size int64) int64 {
	switch w := w.(type) {
	case *vhd.Writer:
		return w.Size() // as its options have it
	case *qcow2.Writer, *vmdk.Writer:
		return roundUp(size, 512) // counted in sectors: QCOW2 by every reader but ours
	}
	return size
}

// newWriter makes the writer of the target's format.
func newWriter(out diskimage.Output, size int64, o Options) (diskimage.Writer, error) {
	switch o.Format {
	case Raw:
		w := o.Raw
		w.Size, w.AllocateZeros = size, w.AllocateZeros || o.AllocateZeros
		return raw.NewWriter(out, w)
	case QCOW2:
		w := o.QCOW2
		w.Size, w.AllocateZeros = size, w.AllocateZeros || o.AllocateZeros
		return qcow2.NewWriter(out, w)
	case VMDK:
		w := o.VMDK
		w.Size, w.AllocateZeros = size, w.AllocateZeros || o.AllocateZeros
		return vmdk.NewWriter(out, w)
	case VHD:
		w := o.VHD
		w.Size, w.AllocateZeros = size, w.AllocateZeros || o.AllocateZeros
		return vhd.NewWriter(out, w)
	}
	return nil, &diskimage.Error{Kind: diskimage.ErrUnsupported, Off: -1, Msg: fmt.Sprintf("%v cannot be written", o.Format)}
}

// A meter counts what is written to an Output, holds it against what is
// allowed, and hides that it can be synced unless that is wanted.
type meter struct {
	out     diskimage.Output
	sync    bool
	allowed *allowance
	seals   *seals // nil: nothing will be verified

	n   atomic.Int64 // bytes written
	mu  sync.Mutex
	end int64 // the image's length

	sealed []seal
}

// asOutput returns the meter with the Output's ability to be truncated.
func (m *meter) asOutput() diskimage.Output {
	if _, ok := m.out.(diskimage.Truncater); ok {
		return &truncatingMeter{m}
	}
	return m
}

func (m *meter) WriteAt(p []byte, off int64) (int, error) {
	if err := m.begin(p, off); err != nil {
		return 0, err
	}
	n, err := m.out.WriteAt(p, off)
	m.n.Add(int64(n))
	if err == nil && n < len(p) {
		err = io.ErrShortWrite
	}
	return n, err
}

// begin takes note of a write, unless it is not allowed.
func (m *meter) begin(p []byte, off int64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.seals.keep(m, p, off)
	return m.grow(off + int64(len(p)))
}

// grow is for an image that is at least so long.
func (m *meter) grow(end int64) error {
	if end <= m.end {
		return nil
	}
	more := end - m.end
	m.end = end
	return m.allowed.take(more)
}

func (m *meter) ZeroFilled() bool {
	z, ok := m.out.(diskimage.ZeroFiller)
	return ok && z.ZeroFilled()
}

func (m *meter) Sync() error {
	if s, ok := m.out.(diskimage.Syncer); ok && m.sync {
		return s.Sync()
	}
	return nil
}

// source returns what was written, with its holes where it is a file. Closing
// it does nothing: the output is the caller's.
func (m *meter) source() (diskimage.Source, error) {
	if f, ok := m.out.(*atomicfile.File); ok && !f.InPlace() {
		h, err := hostfile.New(f.OS())
		return unclosed{h}, err
	}
	return diskimage.NewSource(io.NewSectionReader(m.out.(io.ReaderAt), 0, m.end), m.end), nil
}

type unclosed struct{ *hostfile.File }

func (unclosed) Close() error { return nil }

type truncatingMeter struct{ *meter }

func (m *truncatingMeter) Truncate(size int64) error {
	m.mu.Lock()
	err := m.grow(size)
	m.end = size
	m.mu.Unlock()
	if err != nil {
		return err
	}
	return m.out.(diskimage.Truncater).Truncate(size)
}
