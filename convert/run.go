package convert

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/internal/blockhash"
)

// A run is one conversion of one source into one output.
type run struct {
	o      Options
	disk   diskimage.VirtualDisk // or
	stream diskimage.Stream

	rep    Report
	notes  []diskimage.Note // of the conversion itself
	start  time.Time
	inTurn bool // Store in guest order

	mu    sync.Mutex // for the progress
	phase Phase
	total int64
	done  int64

	content *contentHash    // of the source, if Verify
	blocks  *blockhash.Hash // of the source, if BlockHash, while it is converted
	seals   *seals          // of the output, if Verify
	source  int64           // guest bytes, once they are converted
	written int64           // bytes
	files   []WrittenFile   // if FileDigest
	far     int64           // units moved with a window beyond strictWindow
	lost    losses
}

func newRun(disk diskimage.VirtualDisk, stream diskimage.Stream, o Options) (*run, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	r := &run{o: o, disk: disk, stream: stream, start: time.Now(), phase: Converting, inTurn: o.Ascending}
	if err := r.checkTrust(); err != nil {
		return nil, err
	}
	return r, nil
}

// check looks at the source before anything is written: at its tables, where
// the format has some, and at how much there is to move.
func (r *run) check() error {
	r.total = -1
	if size := r.sourceSize(); size >= 0 {
		if err := checkVirtualSize(size, r.o.MaxVirtualSize); err != nil {
			return err
		}
	}
	if err := r.o.checkOutputSize(r.targetSize()); err != nil {
		return err
	}
	if r.disk == nil {
		return nil
	}
	if r.o.Size > 0 && r.o.Size < r.disk.Size() {
		return fmt.Errorf("convert: a target of %d bytes cannot hold a disk of %d", r.o.Size, r.disk.Size())
	}
	mc, ok := r.disk.(diskimage.MapChecker)
	if ok && !r.o.Salvage {
		if err := mc.CheckMap(); err != nil {
			return err
		}
	}
	if err := r.lookInside(); err != nil {
		return err
	}
	if ok && r.o.Progress == nil {
		return nil
	}
	r.total = 0
	for e, err := range diskimage.Extents(r.disk, 0, r.disk.Size()) {
		if err != nil {
			return err
		}
		if e.Kind == diskimage.Data && (!r.o.OnlyTop || e.Depth == 0) {
			r.total += e.Len
		}
	}
	return nil
}

// lookInside notes a guest disk that is itself an image, which whoever imports
// the target may refuse, or take for that image.
func (r *run) lookInside() error {
	if !r.o.Salvage && r.disk.Size() > 0 {
		found, err := identify(r.disk)
		if err != nil {
			return err
		}
		for _, c := range found {
			if c.class == ours {
				r.note("the guest disk's own content is %s", c.name)
			}
		}
	}
	return nil
}

// targetSize returns the guest size that the writer is made with, -1 where
// the source does not know its own.
func (r *run) targetSize() int64 {
	if r.o.Size > 0 {
		return r.o.Size
	}
	return r.sourceSize()
}

// sourceSize returns the guest size of the source, -1 where it does not know it.
func (r *run) sourceSize() int64 {
	if r.disk != nil {
		return r.disk.Size()
	}
	return r.stream.Size()
}

// convert moves the source's data into w and finishes it. w is aborted on any
// error.
func (r *run) convert(ctx context.Context, w diskimage.Writer) (err error) {
	defer func() {
		if err != nil {
			if ctx.Err() != nil { // whatever it did to those who noticed
				err = context.Cause(ctx)
			}
			if aerr := w.Abort(); aerr != nil {
				err = errors.Join(err, aerr)
			}
		}
	}()
	if u := w.Unit(); u < 1 || u > diskimage.BatchSize || u&(u-1) != 0 {
		return fmt.Errorf("convert: the writer's unit is %d bytes", u)
	}
	r.done = 0
	var digest *guestDigest
	if r.o.Digest {
		digest = newGuestDigest(math.MaxInt64)
	}
	if r.o.BlockHash {
		r.blocks = blockhash.New()
	}
	src, finish := r.feed(w)
	err = r.attested(ctx, func(ctx context.Context) error { return r.pipeline(ctx, src, w, digest) })
	if err != nil {
		return err
	}
	if r.source, err = finish(); err != nil {
		return err
	}
	if digest != nil {
		digest.size = r.source
		r.rep.Digest = digest.sum()
	}
	if r.blocks != nil {
		r.blocks.Zeros(r.source)
		r.rep.BlockHash, r.blocks = r.blocks.Sum(), nil
	}
	if r.seals != nil {
		r.seals.closing = true
	}
	if err := w.Finish(ctx); err != nil {
		return err
	}
	r.rep.Size = guestSize(w, max(r.source, r.o.Size))
	r.rep.Notes = diskimage.NotesOf(w)
	return nil
}

// pipeline moves what src gives into w, on all workers.
func (r *run) pipeline(ctx context.Context, src feed, w diskimage.Writer, digest *guestDigest) error {
	inOrder := func(j *job) error {
		digest.add(j.Batch)
		if r.blocks != nil {
			r.blocks.Zeros(j.Off)
			r.blocks.Add(j.sums, j.Len)
		}
		return nil
	}
	if r.o.Workers == 1 {
		return sequential(ctx, src, w, inOrder, r.progress)
	}
	return concurrent(ctx, src, w, r.o.Workers, r.inTurn, inOrder, r.progress)
}

// feed returns where batches come from, and what is to be done at the end:
// it gives the source's size.
func (r *run) feed(w diskimage.Writer) (feed, func() (int64, error)) {
	m := &mover{unit: w.Unit(), trust: r.o.TrustStored}
	if !r.o.AllocateZeros && !r.o.Salvage {
		m.taker, _ = w.(diskimage.StoredTaker)
	}
	whole := r.o.digests() || r.content != nil
	if r.disk != nil {
		if _, ok := r.disk.(diskimage.StoredReader); !ok {
			m.taker = nil
		}
		s := newDiskFeed(diskFeed{disk: r.disk, size: r.disk.Size(), unit: w.Unit(), mover: m, o: &r.o, whole: whole, lost: &r.lost})
		return r.observed(s, w), func() (int64, error) {
			r.rep.Data, r.rep.Zeros, r.rep.Holes = s.counts.data, s.counts.zeros, s.counts.holes
			r.account(m)
			return s.size, changed(r.disk)
		}
	}
	s := &streamFeed{stream: r.stream, unit: w.Unit(), mover: m, o: &r.o}
	if !r.o.digests() && !r.inTurn { // digests are of the bytes in their order
		s.scatter(w)
	}
	return r.observed(s, w), func() (int64, error) {
		size := r.stream.Size()
		if err := checkVirtualSize(size, r.o.MaxVirtualSize); err != nil {
			return 0, err
		}
		r.rep.Data, r.rep.Zeros = s.data, size-s.data
		r.account(m)
		if r.o.Size > 0 && r.o.Size < size {
			return 0, fmt.Errorf("convert: a target of %d bytes cannot hold a disk of %d", r.o.Size, size)
		}
		if ss, ok := w.(diskimage.SizeSetter); ok && r.o.Size == 0 {
			return size, ss.SetSize(size)
		}
		return size, nil
	}
}

// changed asks a disk whether its file is still what it was.
func changed(d diskimage.VirtualDisk) error {
	if c, ok := d.(diskimage.ChangeDetector); ok {
		return c.Changed()
	}
	return nil
}

// observed adds what a verification and a block hash need to know of each batch.
func (r *run) observed(s feed, w diskimage.Writer) feed {
	if r.content == nil && r.blocks == nil {
		return s
	}
	return &observedFeed{s, r.content, w.Unit(), r.blocks}
}

type observedFeed struct {
	feed
	content *contentHash // nil: no verification
	unit    int64
	blocks  *blockhash.Hash // nil: not asked for
}

func (s *observedFeed) fill(ctx context.Context, j *job, w *worker) error {
	if err := s.feed.fill(ctx, j, w); err != nil {
		return err
	}
	if s.content != nil {
		s.content.add(j.Batch, s.unit)
	}
	if s.blocks != nil {
		j.sums = s.blocks.Append(j.sums[:0], j.Buf[:j.Len])
	}
	return nil
}

// progress tells that a batch is done.
func (r *run) progress(j *job) { r.advance(j.data) }

// advance tells that so many bytes more are done.
func (r *run) advance(n int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.done += n
	if r.o.Progress != nil {
		r.o.Progress(Progress{Phase: r.phase, Done: r.done, Total: r.total})
	}
}

// report closes the account.
func (r *run) report() *Report {
	r.noteMoved()
	r.rep.Unreadable = r.lost.sorted()
	r.rep.Written, r.rep.Files = r.written, r.files
	r.rep.Duration = time.Since(r.start)
	var of any = r.disk
	if r.disk == nil {
		of = r.stream
	}
	r.rep.Notes = slices.Concat(diskimage.NotesOf(of), r.rep.Notes, r.notes)
	return &r.rep
}

func (r *run) note(format string, args ...any) {
	r.notes = append(r.notes, diskimage.Note{Text: fmt.Sprintf(format, args...)})
}
