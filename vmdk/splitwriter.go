package vmdk

// A splitSet is the layout of twoGbMaxExtentSparse: sparse extents. What lies
// in front of an extent's grains is written as soon as the batches have passed
// it, so that the tables of one extent are held, and those of one that is
// empty.
type splitSet struct {
	*extentSet
	o       *WriterOptions
	next    int           // the first extent whose front is not placed yet
	current *sparseExtent // that one, if there is data in it
	empty   []byte        // the front of an extent without data
	emptyOf int64         // guest bytes of that extent
}

func (w *Writer) newSplitSet() (layout, error) {
	s, err := w.newExtentSet(kindSparse)
	if err != nil {
		return nil, err
	}
	return &splitSet{extentSet: s, o: &w.o}, nil
}

func (l *splitSet) unit() int64 { return l.o.GrainSize }

// place places the runs of a batch, which lie in one extent.
func (l *splitSet) place(p *writePlan, off int64) error {
	i, _ := l.locate(off)
	if err := l.pass(p, i); err != nil {
		return err
	}
	if l.current == nil {
		e, err := newSparseExtent(l.files[i], l.size(i), l.o, nil)
		if err != nil {
			return err
		}
		l.current = e
	}
	for _, r := range p.runs {
		r.off -= int64(i) * l.each
		if err := l.current.add(p, r); err != nil {
			return err
		}
	}
	return nil
}

func (l *splitSet) finish(p *writePlan) ([]byte, error) {
	return l.descriptor, l.pass(p, len(l.files))
}

// pass places the fronts of the extents before extent i.
func (l *splitSet) pass(p *writePlan, i int) error {
	for ; l.next < i; l.next++ {
		if l.current != nil {
			p.writes.Add(&l.current.file.File, 0, l.current.front)
			l.current = nil
			continue
		}
		f, size := l.files[l.next], l.size(l.next)
		if l.emptyOf != size {
			e, err := newSparseExtent(f, size, l.o, nil)
			if err != nil {
				return err
			}
			l.empty, l.emptyOf = e.front, size
		}
		f.end = int64(len(l.empty))
		p.writes.Add(&f.File, 0, l.empty)
	}
	return nil
}
