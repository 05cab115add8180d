package vmdk

import (
	"encoding/binary"
	"fmt"

	"github.com/diskimage-go/diskimage"
)

const (
	embeddedSectors = 20 // what VMware and QEMU give the descriptor inside of a sparse extent

	maxFrontBytes  = 512 << 20        // ours: tables for 4 TiB in grains of 64 KiB
	maxSparseBytes = sectorSize << 32 // sectors are numbered with 32 bits
)

// A sparseExtent lays out one hosted sparse extent: its metadata in front, for
// all of the extent, and then the grains in the order in which they come.
type sparseExtent struct {
	file      *outFile
	grainSize int64
	front     []byte   // header, descriptor, and both copies of directory and tables
	copies    [2]int64 // where in front the grain tables of each copy are, one behind the other
}

// newSparseExtent returns an extent of size guest bytes, a multiple of 512.
// descriptor is what it embeds; nil where the descriptor is a file of its own.
func newSparseExtent(file *outFile, size int64, o *WriterOptions, descriptor []byte) (*sparseExtent, error) {
	h := sparseHeader{
		version:      1,
		flags:        flagNewLineTest | flagRedundant,
		capacity:     uint64(size / sectorSize),
		grainSize:    uint64(o.GrainSize / sectorSize),
		numGTEsPerGT: numGTEsPerGT,
		rgdOffset:    1,
		endLine:      [4]byte([]byte(endLineChars)),
	}
	if o.ZeroedGrains {
		h.version = 2
		h.flags |= flagZeroedGTE
	}
	if descriptor != nil {
		h.descriptorOffset, h.descriptorSize = 1, embeddedSectors
		h.rgdOffset += embeddedSectors
	}
	// A directory takes whole sectors, one at least; a table always does.
	tables := h.tables()
	directory := roundUp(max(1, tables*gdeBytes), sectorSize)
	rgd := int64(h.rgdOffset) * sectorSize
	gd := rgd + directory + tables*gtBytes
	e := &sparseExtent{file: file, grainSize: o.GrainSize, copies: [2]int64{rgd + directory, gd + directory}}
	end := roundUp(e.copies[1]+tables*gtBytes, o.GrainSize)
	if end > maxFrontBytes {
		return nil, errDiskLimit(size, fmt.Sprintf("the grain tables, which lie in front, would take %d bytes of %d at most; "+
			"larger grains, a streamOptimized or a flat image need less", end, maxFrontBytes))
	}
	h.gdOffset, h.overHead = uint64(gd/sectorSize), uint64(end/sectorSize)

	e.front = make([]byte, end)
	copy(e.front, h.encode())
	copy(e.front[sectorSize:], descriptor)
	for i, at := range []int64{rgd, gd} {
		for t := range tables {
			binary.LittleEndian.PutUint32(e.front[at+t*gdeBytes:], uint32((e.copies[i]+t*gtBytes)/sectorSize))
		}
	}
	file.end = end
	return e, nil
}

// add gives a run, whose offset is that in the extent, its place.
func (e *sparseExtent) add(p *writePlan, r run) error {
	entry, step := uint32(gteZeroed), uint32(0)
	if r.data != nil {
		if e.file.end > maxSparseBytes-r.n {
			return errFileLimit()
		}
		entry, step = uint32(e.file.end/sectorSize), uint32(e.grainSize/sectorSize)
		p.writes.Add(&e.file.File, e.file.end, r.data)
		e.file.end += r.n
	}
	for i := r.off / e.grainSize; i < (r.off+r.n)/e.grainSize; i++ {
		for _, tables := range e.copies {
			binary.LittleEndian.PutUint32(e.front[tables+i*gteBytes:], entry)
		}
		entry += step
	}
	return nil
}

func errFileLimit() error {
	return &diskimage.Error{Kind: diskimage.ErrLimit, Format: Name, Off: -1, Field: "extent",
		Msg: "more than 2 TiB are to be stored in one sparse file, which numbers its sectors with 32 bits; write a flat image"}
}

// A monolithicSparse is the layout of that kind: one extent.
type monolithicSparse struct{ *sparseExtent }

func (w *Writer) newMonolithicSparse() (layout, error) {
	text, err := w.embeddedDescriptor()
	if err != nil {
		return nil, err
	}
	e, err := newSparseExtent(w.files[0], w.size, &w.o, text)
	return monolithicSparse{e}, err
}

func (l monolithicSparse) unit() int64   { return l.grainSize }
func (l monolithicSparse) prefix() int64 { return int64(len(l.front)) }

func (l monolithicSparse) place(p *writePlan, _ int64) error {
	for _, r := range p.runs {
		if err := l.add(p, r); err != nil {
			return err
		}
	}
	return nil
}

func (l monolithicSparse) finish(*writePlan) ([]byte, error) { return l.front, nil }
