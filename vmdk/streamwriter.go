package vmdk

import "encoding/binary"

const streamOverHead = 128 // sectors in front of the first grain, as VMware's and VirtualBox's exports have it

// A streamOptimized is the layout of that kind, with the version, flags and
// order of VMware's own exports: Virtual Disk Format 5.0, section
// "Stream-Optimized Compressed Sparse Extents".
type streamOptimized struct {
	file   *outFile
	header sparseHeader
	front  []byte // header, descriptor and padding, until they are placed

	gd    []byte // grain directory, whole sectors
	gt    []byte // the grain table that is open
	table int64  // its number, -1 if none is
}

func (w *Writer) newStreamOptimized() (layout, error) {
	text, err := w.embeddedDescriptor()
	if err != nil {
		return nil, err
	}
	w.compress = true
	l := &streamOptimized{file: w.files[0], table: -1, gt: make([]byte, gtBytes), header: sparseHeader{
		version:           3,
		flags:             flagNewLineTest | flagCompressed | flagMarkers,
		capacity:          uint64(w.size / sectorSize),
		grainSize:         uint64(w.o.GrainSize / sectorSize),
		descriptorOffset:  1,
		descriptorSize:    embeddedSectors,
		numGTEsPerGT:      numGTEsPerGT,
		gdOffset:          gdAtEnd,
		overHead:          streamOverHead,
		endLine:           [4]byte([]byte(endLineChars)),
		compressAlgorithm: compressionDeflate,
	}}
	tables := l.header.tables()
	if tables > maxGTs {
		return nil, errDiskLimit(w.size, "QEMU takes a grain directory for 1 PiB at most")
	}
	l.gd = make([]byte, roundUp(max(1, tables*gdeBytes), sectorSize))
	l.front = make([]byte, streamOverHead*sectorSize)
	copy(l.front, l.header.encode())
	copy(l.front[sectorSize:], text)
	return l, nil
}

func (l *streamOptimized) unit() int64   { return l.header.grainBytes() }
func (l *streamOptimized) prefix() int64 { return 0 }

// place places the pieces of a batch, which lie in one grain table.
func (l *streamOptimized) place(p *writePlan, off int64) error {
	if err := l.placeFront(p); err != nil {
		return err
	}
	span := l.unit() * numGTEsPerGT
	if table := off / span; table != l.table {
		if err := l.placeTable(p); err != nil {
			return err
		}
		l.table = table
	}
	start := l.file.end
	if err := l.add(p, p.arena); err != nil {
		return err
	}
	for _, q := range p.pieces {
		entry := l.gt[q.off%span/l.unit()*gteBytes:]
		binary.LittleEndian.PutUint32(entry, uint32((start+int64(q.start))/sectorSize))
	}
	return nil
}

// finish places the last grain table, the grain directory, the footer and the
// end of the stream.
func (l *streamOptimized) finish(p *writePlan) ([]byte, error) {
	if err := l.placeFront(p); err != nil {
		return nil, err
	}
	if err := l.placeTable(p); err != nil {
		return nil, err
	}
	gd, err := l.addMarked(p, markerGD, l.gd)
	if err != nil {
		return nil, err
	}
	l.header.gdOffset = uint64(gd / sectorSize)
	if _, err := l.addMarked(p, markerFooter, l.header.encode()); err != nil {
		return nil, err
	}
	_, err = l.addMarked(p, markerEOS, nil)
	return nil, err
}

// placeFront places what precedes the first grain, once.
func (l *streamOptimized) placeFront(p *writePlan) error {
	front := l.front
	l.front = nil
	return l.add(p, front)
}

// placeTable places the grain table that is open, if one is.
func (l *streamOptimized) placeTable(p *writePlan) error {
	if l.table < 0 {
		return nil
	}
	host, err := l.addMarked(p, markerGT, l.gt)
	if err != nil {
		return err
	}
	binary.LittleEndian.PutUint32(l.gd[l.table*gdeBytes:], uint32(host/sectorSize))
	clear(l.gt)
	l.table = -1
	return nil
}

// addMarked adds a copy of metadata, of whole sectors, behind its marker, and
// returns its place.
func (l *streamOptimized) addMarked(p *writePlan, kind uint32, data []byte) (host int64, err error) {
	start := len(p.tables)
	p.tables = append(p.tables, zeroSector[:]...)
	marker{val: uint64(len(data) / sectorSize), kind: kind}.encode(p.tables[start:])
	p.tables = append(p.tables, data...)
	host = l.file.end + sectorSize
	return host, l.add(p, p.tables[start:])
}

// add adds whole sectors at the end of the file.
func (l *streamOptimized) add(p *writePlan, data []byte) error {
	if len(data) == 0 {
		return nil
	}
	if l.file.end > maxSparseBytes-int64(len(data)) {
		return errFileLimit()
	}
	p.writes.Add(&l.file.File, l.file.end, data)
	l.file.end += int64(len(data))
	return nil
}
