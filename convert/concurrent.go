package convert

import (
	"context"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/diskimage-go/diskimage"
)

// pipeline is the state that workers share.
type pipeline struct {
	src     feed
	w       diskimage.Writer
	inOrder func(*job) error // beside Place, for each batch in guest order
	done    func(*job)       // after Store, concurrently
	inTurn  bool             // Store in guest order too: for an output that cannot seek

	planMu  sync.Mutex
	planned int
	ended   bool

	orderMu sync.Mutex
	encoded sequence // and not yet placed

	doneMu sync.Mutex
	stored sequence // and not all before them
	free   chan *job
}

// A sequence gives jobs in the order of their batches, whatever order they come
// in.
type sequence struct {
	next int // seq of the batch whose turn it is
	jobs map[int]*job
}

func (s *sequence) put(j *job) { s.jobs[j.seq] = j }

// take returns the job whose turn it is, or nil if it has not come.
func (s *sequence) take() *job {
	j := s.jobs[s.next]
	if j != nil {
		delete(s.jobs, s.next)
		s.next++
	}
	return j
}

// concurrent does what sequential does, with several workers: the same calls
// per batch, Place and inOrder in the same order, so the same bytes.
func concurrent(ctx context.Context, src feed, w diskimage.Writer, workers int, inTurn bool, inOrder func(*job) error, done func(*job)) error {
	p := &pipeline{src: src, w: w, inOrder: inOrder, done: done, inTurn: inTurn,
		encoded: sequence{jobs: make(map[int]*job)}, stored: sequence{jobs: make(map[int]*job)}, free: make(chan *job, batchesInFlight(workers))}
	for range cap(p.free) {
		p.free <- &job{} // its batch is made when it is first used
	}
	g, ctx := errgroup.WithContext(ctx)
	for range workers {
		g.Go(func() error { return p.work(ctx) })
	}
	return g.Wait()
}

func (p *pipeline) work(ctx context.Context) error {
	own := newWorker()
	var mine []*job
	for {
		var j *job
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case j = <-p.free: // counted before it is planned, or memory had no bound
		}
		if ok, err := p.plan(ctx, j); err != nil || !ok {
			return err
		}
		if err := p.src.fill(ctx, j, own); err != nil {
			return err
		}
		if err := p.w.Encode(j.Batch); err != nil {
			return err
		}
		var err error
		if mine, err = p.place(ctx, j, mine[:0]); err != nil {
			return err
		}
		for _, j := range mine {
			if !p.inTurn {
				if err := p.w.Store(ctx, j.Batch); err != nil {
					return err
				}
			}
			p.done(j)
			p.settle(j)
		}
	}
}

// settle takes back a job that is done, for others once all before it are done
// too: so no write is late by more than the batches in flight.
func (p *pipeline) settle(j *job) {
	p.doneMu.Lock()
	defer p.doneMu.Unlock()
	p.stored.put(j)
	for j := p.stored.take(); j != nil; j = p.stored.take() {
		p.free <- j
	}
}

func (p *pipeline) plan(ctx context.Context, j *job) (bool, error) {
	p.planMu.Lock()
	defer p.planMu.Unlock()
	if p.ended || ctx.Err() != nil {
		return false, context.Cause(ctx)
	}
	if j.Batch == nil {
		j.Batch = p.w.NewBatch()
	}
	ok, err := p.src.plan(j)
	if err != nil || !ok {
		p.ended = true
		return false, err
	}
	j.seq = p.planned
	p.planned++
	return true, nil
}

// place waits for nobody: it leaves j for whoever completes the head of the
// order, or is that one and places all that are ready, which it returns.
func (p *pipeline) place(ctx context.Context, j *job, mine []*job) ([]*job, error) {
	p.orderMu.Lock()
	defer p.orderMu.Unlock()
	p.encoded.put(j)
	for j := p.encoded.take(); j != nil; j = p.encoded.take() {
		if err := p.inOrder(j); err != nil {
			return nil, err
		}
		if err := p.w.Place(j.Batch); err != nil {
			return nil, err
		}
		if p.inTurn {
			if err := p.w.Store(ctx, j.Batch); err != nil {
				return nil, err
			}
		}
		mine = append(mine, j)
	}
	return mine, nil
}
