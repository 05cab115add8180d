package qcow2

// placeCompressed packs compressed clusters: those kept back, then the plan's
// own. What would leave the run's last host cluster half empty is kept back in
// turn. closes says that something else is going to follow the run, flush that
// nothing may be kept back.
func (w *Writer) placeCompressed(p *writePlan, closes, flush bool) error {
	inside := w.cursor&(w.clusterSize()-1) != 0
	if len(p.compressed) == 0 && !flush && !(closes && inside) {
		return nil // what is kept back stays so
	}
	if len(p.compressed)+len(w.held) == 0 {
		return nil
	}
	// The streams that were kept back become this batch's to write.
	pieces := append(append(p.packing[:0], w.held...), p.compressed...)
	p.packing = pieces
	p.held, w.heldBuf = w.heldBuf, p.held[:0]
	w.held = w.held[:0]

	keep := len(pieces)
	end := w.pack(pieces)
	if !flush {
		keep = w.split(pieces, end, closes)
	}
	for i := range pieces[:keep] {
		if err := w.placePiece(p, &pieces[i]); err != nil {
			return err
		}
	}
	for _, q := range pieces[keep:] {
		if !q.held {
			q.held = true
			w.table(q.cluster).waiting++
		}
		start := len(w.heldBuf)
		w.heldBuf = append(w.heldBuf, q.stream...)
		q.stream = w.heldBuf[start:]
		w.held = append(w.held, q)
	}
	return nil
}

// pack lays the pieces byte to byte from the cursor on, and returns the end. A
// piece that would be one too many for the refcount of the host cluster it
// begins in begins in the next.
func (w *Writer) pack(pieces []piece) int64 {
	mask := w.clusterSize() - 1
	pos := w.cursor
	var n uint64 // pieces in the host cluster of pos
	if pos&mask != 0 {
		n = w.refs.count(pos >> w.clusterBits)
	}
	for i := range pieces {
		if pos&mask != 0 && n >= w.refs.max {
			pos = w.alignUp(pos)
		}
		if pos&mask == 0 {
			n = 0
		}
		pieces[i].host = pos
		start := pos
		pos += int64(len(pieces[i].stream))
		if (pos-1)>>w.clusterBits == start>>w.clusterBits {
			n++
		} else {
			n = 1
		}
	}
	return pos
}

func (q *piece) end() int64 { return q.host + int64(len(q.stream)) }

// split returns how many of the packed pieces, which end at end, are placed.
// The others are kept back.
func (w *Writer) split(pieces []piece, end int64, closes bool) int {
	full := end &^ (w.clusterSize() - 1)
	if closes && full < w.cursor {
		return len(pieces) // they fit where the last run left room, which is lost otherwise
	}
	keep := fitting(pieces, full)
	if !closes || keep == len(pieces) {
		return keep
	}
	// The piece that reaches over the last boundary leaves a gap before it. One
	// of about the length of what is over may leave a smaller one.
	over, gap, out := int(end-full), int(full-pieces[keep].host), -1
	for i := range pieces {
		if g := len(pieces[i].stream) - over; g >= 0 && g < gap {
			gap, out = g, i
		}
	}
	if out < 0 {
		return keep
	}
	q := pieces[out]
	copy(pieces[out:], pieces[out+1:])
	rest := pieces[:len(pieces)-1]
	pieces[len(rest)] = q
	w.pack(rest)
	return fitting(rest, full)
}

// fitting returns how many packed pieces end at or before end.
func fitting(pieces []piece, end int64) int {
	n := len(pieces)
	for n > 0 && pieces[n-1].end() > end {
		n--
	}
	return n
}

// placePiece gives a packed piece the space it was laid on.
func (w *Writer) placePiece(p *writePlan, q *piece) error {
	shift := compressedShift(w.clusterBits)
	end := q.end()
	if end > min(maxHostOffset, int64(1)<<shift) {
		return errHostLimit(end)
	}
	first, last := q.host>>w.clusterBits, (end-1)>>w.clusterBits
	if err := w.refs.add(first, last-first+1); err != nil {
		return err
	}
	w.cursor = end
	w.write(p, q.host, q.stream)

	t := w.table(q.cluster)
	if q.held {
		t.waiting--
	}
	sectors := uint64((end-1)/sectorSize - q.host/sectorSize) // beyond the first
	w.setEntry(t, q.cluster, flagCompressed|sectors<<shift|uint64(q.host))
	return nil
}
