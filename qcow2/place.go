package qcow2

import (
	"cmp"
	"encoding/binary"
	"slices"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/internal/freelist"
)

const (
	maxHostOffset = l2OffsetMask + sectorSize // specification: bits 9..55 of an entry
	maxWaiting    = 8                         // complete L2 tables that wait for a piece that is kept back
)

// An l2Table is one that is still open.
type l2Table struct {
	index   int64 // in the L1 table
	entries []byte
	waiting int // pieces of it that are kept back
}

// Place gives the batch's pieces their host space: first the compressed ones,
// then the plain ones, then the tables that have become complete.
func (w *Writer) Place(b *diskimage.Batch) error {
	p, err := w.plan(b, planEncoded)
	if err != nil {
		return err
	}
	if b.Off < w.next {
		return w.fail(misuse("the batch at %#x is placed after that at %#x", b.Off, w.next-diskimage.BatchSize))
	}
	p.writes.Reset()
	p.tables, p.held = p.tables[:0], p.held[:0]
	w.next = b.Off + diskimage.BatchSize
	if len(p.compressed)+len(p.plain)+len(p.zero) > 0 {
		if err := w.place(p, w.next); err != nil {
			return w.fail(err)
		}
	}
	w.placed++
	p.step = planPlaced
	return nil
}

// place places a plan whose pieces end at guest offset end.
func (w *Writer) place(p *writePlan, end int64) error {
	first, last := p.span()
	if w.size >= 0 && last > w.clusters(w.size) {
		return misuse("data at %#x, beyond the disk's end", (last-1)<<w.clusterBits)
	}
	if err := w.checkSize(last << w.clusterBits); err != nil {
		return err
	}
	w.top = last

	waiting := 0
	for _, t := range w.tables {
		if t.waiting > 0 && w.complete(t.index, end) {
			waiting++
		}
	}
	flush := waiting > maxWaiting
	closes := flush || len(p.plain) > 0 || w.complete(first>>w.l2Bits(), end) ||
		len(w.tables) > 0 && w.complete(w.tables[0].index, end)
	if err := w.placeCompressed(p, closes, flush); err != nil {
		return err
	}
	for _, r := range p.plain {
		host, err := w.give(r.n)
		if err != nil {
			return err
		}
		w.write(p, host, r.data)
		w.mapRun(r, uint64(host)|flagCopied, uint64(w.clusterSize()))
	}
	for _, r := range p.zero {
		w.mapRun(r, flagZero, 0)
	}
	if err := w.placeTables(p, end); err != nil {
		return err
	}
	return w.placeRefcountBlocks(p)
}

// span returns the number of the first guest cluster that the plan maps, and
// that after the last.
func (p *writePlan) span() (first, end int64) {
	first = 1<<63 - 1
	if n := len(p.compressed); n > 0 {
		first, end = p.compressed[0].cluster, p.compressed[n-1].cluster+1
	}
	for _, runs := range [][]run{p.plain, p.zero} {
		if n := len(runs); n > 0 {
			first = min(first, runs[0].cluster)
			end = max(end, runs[n-1].cluster+runs[n-1].n)
		}
	}
	return first, end
}

// complete reports whether an L2 table maps nothing at or after the guest
// offset end.
func (w *Writer) complete(index, end int64) bool {
	return index+1 <= end>>w.clusterBits>>w.l2Bits()
}

// give gives the next n host clusters, each used once.
func (w *Writer) give(n int64) (host int64, err error) {
	host = w.alignUp(w.cursor)
	end := host + n<<w.clusterBits
	if end > maxHostOffset {
		return 0, errHostLimit(end)
	}
	if err := w.refs.add(host>>w.clusterBits, n); err != nil {
		return 0, err
	}
	w.cursor = end
	return host, nil
}

func errHostLimit(end int64) error {
	return fail(diskimage.ErrLimit, -1, "image", "longer than an entry of the tables can address: %#x", end)
}

// table returns the open L2 table that maps a guest cluster.
func (w *Writer) table(cluster int64) *l2Table {
	index := cluster >> w.l2Bits()
	if n := len(w.tables); n > 0 && w.tables[n-1].index == index {
		return w.tables[n-1]
	}
	i, ok := slices.BinarySearchFunc(w.tables, index, func(t *l2Table, index int64) int { return cmp.Compare(t.index, index) })
	if !ok {
		w.tables = slices.Insert(w.tables, i, &l2Table{index: index, entries: w.tableBuffer()})
	}
	return w.tables[i]
}

// tableBuffer returns a cluster of zeros.
func (w *Writer) tableBuffer() []byte { return clusterOfZeros(&w.buffers, w.clusterSize()) }

func clusterOfZeros(from *freelist.List[[]byte], size int64) []byte {
	b, ok := from.Get()
	if !ok {
		return make([]byte, size)
	}
	clear(b)
	return b
}

// mapRun sets the entries of r's clusters to entry, entry+step, ...
func (w *Writer) mapRun(r run, entry, step uint64) {
	for c, end := r.cluster, r.cluster+r.n; c < end; {
		t := w.table(c)
		for last := min(end, (t.index+1)<<w.l2Bits()); c < last; c++ {
			w.setEntry(t, c, entry)
			entry += step
		}
	}
}

func (w *Writer) setEntry(t *l2Table, cluster int64, entry uint64) {
	i := cluster & (1<<w.l2Bits() - 1)
	binary.BigEndian.PutUint64(t.entries[i*8:], entry)
}

// placeTables places the L2 tables that are complete at the guest offset end,
// and whose pieces are all placed.
func (w *Writer) placeTables(p *writePlan, end int64) error {
	open := w.tables[:0]
	for _, t := range w.tables {
		if t.waiting > 0 || !w.complete(t.index, end) {
			open = append(open, t)
			continue
		}
		host, err := w.give(1)
		if err != nil {
			return err
		}
		w.write(p, host, t.entries)
		p.tables = append(p.tables, t.entries)
		w.setL1(t.index, uint64(host)|flagCopied)
	}
	clear(w.tables[len(open):])
	w.tables = open
	return nil
}

// setL1 sets an entry of the L1 table, which grows as needed.
func (w *Writer) setL1(index int64, entry uint64) {
	w.growL1((index + 1) * 8)
	binary.BigEndian.PutUint64(w.l1[index*8:], entry)
}

// growL1 makes the L1 table n bytes long at least. n is within QEMU's limit:
// checkSize has been asked.
func (w *Writer) growL1(n int64) {
	if more := n - int64(len(w.l1)); more > 0 {
		w.l1 = append(w.l1, make([]byte, more)...)
	}
}

// placeRefcountBlocks places the refcount blocks that the cursor has passed:
// nothing they count can change any more.
func (w *Writer) placeRefcountBlocks(p *writePlan) error {
	for w.cursor >= w.refs.openFrom() {
		host, err := w.give(1)
		if err != nil {
			return err
		}
		block := w.refs.close(host)
		w.write(p, host, block)
		p.tables = append(p.tables, block)
	}
	return nil
}
