package vmdk

import "github.com/diskimage-go/diskimage/internal/zero"

// flatUnit is what runs of zeros are left out in: a page, and the block of
// most file systems.
const flatUnit = 4096

// A flatSet is the layout of the kinds whose extents have every byte in its
// place: monolithicFlat and twoGbMaxExtentFlat. It has no tables.
type flatSet struct {
	*extentSet
	holes  bool  // what is not written is zeros, and stays unwritten
	size   int64 // of the disk
	placed int64 // without holes: all guest bytes before it are placed
}

func (w *Writer) newFlatSet() (layout, error) {
	s, err := w.newExtentSet(kindFlat)
	if err != nil {
		return nil, err
	}
	l := &flatSet{extentSet: s, holes: !w.o.AllocateZeros, size: w.size}
	for i, f := range s.files {
		f.end = s.size(i)
		l.holes = l.holes && f.ZeroFilled() && f.Truncates() // so that a hole can be the end
	}
	return l, nil
}

func (l *flatSet) unit() int64 { return flatUnit }

// place places the runs, but for what the last unit has beyond the disk's end.
func (l *flatSet) place(p *writePlan, _ int64) error {
	for _, r := range p.runs {
		data := r.data
		if end := l.size - r.off; end < r.n {
			if !zero.Is(data[end:]) {
				return misuse("data beyond the disk's end at %#x", l.size)
			}
			data = data[:end]
		}
		l.fill(p, r.off)
		i, host := l.locate(r.off)
		p.writes.Add(&l.files[i].File, host, data)
		l.placed = r.off + int64(len(data))
	}
	return nil
}

func (l *flatSet) finish(p *writePlan) ([]byte, error) {
	l.fill(p, l.size)
	return l.descriptor, nil
}

// fill places zeros up to the guest offset to, unless they are left out.
func (l *flatSet) fill(p *writePlan, to int64) {
	for !l.holes && l.placed < to {
		i, host := l.locate(l.placed)
		n := min(to-l.placed, l.extentSet.size(i)-host)
		p.writes.AddZeros(&l.files[i].File, host, n)
		l.placed += n
	}
}
