package imagetest

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"fmt"
)

// A Dialect says how a VMDK sparse extent is laid out.
type Dialect uint8

const (
	Sparse     Dialect = iota // redundant directory and tables, directory and tables, plain grains
	Exported                  // streamOptimized with a footer and markers for all: ESXi, VirtualBox
	FrontIndex                // streamOptimized with the directory in front, markers of grains and an end-of-stream marker: vmware-vdiskmanager
	QEMUStream                // the same with a redundant directory and without an end-of-stream marker
)

// A VMDK says which sparse extent to build. The zero value is an empty disk
// in one file.
type VMDK struct {
	Dialect Dialect
	Version uint32  // default 1; 2 if a grain is Zeros; 3 for compressed ones
	Grain   int64   // sectors; default 128
	Sectors int64   // capacity; default that of Grains
	Grains  []Grain // in guest order
	NoRGD   bool    // Sparse: no redundant directory
	Order   []int   // how the grains that are stored follow each other in the file; default ascending

	// Descriptor is the embedded descriptor. Default: one of a disk of this
	// file alone. "-": there is none, as in an extent of a set.
	Descriptor string
	Text       VMDKText // what to change in the default descriptor
}

// A Grain is one grain of a [VMDK].
type Grain struct {
	Kind   ClusterKind // Absent, Plain (compressed where the extent is) or Zeros
	Data   []byte      // zeros are added to a whole grain
	Stream []byte      // stored in place of compressed Data, zlib wrapper and all
}

// A VMDKText is a VMDK descriptor. The zero value is none; [VMDKText.String]
// needs Extents.
type VMDKText struct {
	CreateType string // default "monolithicSparse"
	CID        string // default "fffffffe"
	ParentCID  string // default "ffffffff"
	ParentHint string
	Extents    []string // lines
	Head       string   // further lines of the header, each with its end
}

// String returns the descriptor's text.
func (t VMDKText) String() string {
	or := func(s, otherwise string) string {
		if s == "" {
			return otherwise
		}
		return s
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "# Disk DescriptorFile\nversion=1\n%sCID=%s\nparentCID=%s\n", t.Head, or(t.CID, "fffffffe"), or(t.ParentCID, "ffffffff"))
	fmt.Fprintf(&b, "createType=\"%s\"\n", or(t.CreateType, "monolithicSparse"))
	if t.ParentHint != "" {
		fmt.Fprintf(&b, "parentFileNameHint=\"%s\"\n", t.ParentHint)
	}
	b.WriteString("\n# Extent description\n")
	for _, line := range t.Extents {
		b.WriteString(line + "\n")
	}
	b.WriteString("\n# The Disk Data Base\n#DDB\n\nddb.virtualHWVersion = \"4\"\nddb.geometry.cylinders = \"1\"\n" +
		"ddb.geometry.heads = \"16\"\nddb.geometry.sectors = \"63\"\nddb.adapterType = \"ide\"\n")
	return b.String()
}

// Byte offsets of the fields of a sparse extent's header: VMware's "Virtual
// Disk Format 5.0", "Hosted Sparse Extent Header".
const (
	VMDKVersion           = 4
	VMDKFlags             = 8
	VMDKCapacity          = 12
	VMDKGrainSize         = 20
	VMDKDescriptorOffset  = 28
	VMDKDescriptorSize    = 36
	VMDKNumGTEsPerGT      = 44
	VMDKRGDOffset         = 48
	VMDKGDOffset          = 56
	VMDKOverHead          = 64
	VMDKUncleanShutdown   = 72
	VMDKNewlines          = 73
	VMDKCompressAlgorithm = 77
)

// Header flags, and the types of metadata markers.
const (
	flagNewlines   = 1 << 0
	flagRedundant  = 1 << 1
	flagZeroGrains = 1 << 2
	flagCompressed = 1 << 16
	flagMarkers    = 1 << 17

	markEnd    = 0
	markGT     = 1
	markGD     = 2
	markFooter = 3

	sector          = 512
	entriesPerGT    = 512
	descriptorSects = 20
	gdAtEnd         = 1<<64 - 1
)

// A VMDKImage is a sparse extent that was built. Its bytes may be changed at
// will.
type VMDKImage struct {
	Bytes []byte
	Guest []byte // what the disk reads as, without a parent; nil if that is over 64 MiB

	GrainSize int64   // bytes
	GD, RGD   int64   // offsets of the directory and the redundant one, 0 if there is none
	GTs, RGTs []int64 // offsets of their tables, 0: none
	Data      []int64 // where each grain, or its marker, lies; 0: nowhere
	Footer    int64   // offset of the footer, 0 if there is none
}

// Build builds the extent.
func (v VMDK) Build() *VMDKImage {
	if v.Grain == 0 {
		v.Grain = 128
	}
	if v.Sectors == 0 {
		v.Sectors = int64(len(v.Grains)) * v.Grain
	}
	m := &VMDKImage{GrainSize: v.Grain * sector, Data: make([]int64, len(v.Grains))}
	if v.Order == nil {
		for i := range v.Grains {
			v.Order = append(v.Order, i)
		}
	}
	tables := ceil(v.Sectors, v.Grain*entriesPerGT)
	gdBytes := ceil(tables*4, sector) * sector
	m.GTs = make([]int64, tables)
	m.put(make([]byte, sector)) // the header, which is made last
	if v.Descriptor == "" {
		v.Descriptor = v.text()
	}
	if v.Descriptor != "-" {
		room := max(descriptorSects*sector, len(v.Descriptor)+(-len(v.Descriptor)&(sector-1)))
		m.put(padded([]byte(v.Descriptor), room))
	}

	if v.Dialect != Exported {
		if v.redundant() {
			m.RGTs = make([]int64, tables)
			m.RGD = m.putIndex(m.RGTs, gdBytes)
		}
		m.GD = m.putIndex(m.GTs, gdBytes)
	}
	m.pad(max(m.GrainSize, sector*v.Grain))
	overHead := int64(len(m.Bytes)) / sector
	if v.Dialect == Exported {
		m.putStream(v, gdBytes)
	} else {
		m.putGrains(v)
		if v.Dialect == FrontIndex {
			m.mark(0, markEnd)
		}
	}
	m.putHeader(v, overHead)
	m.Guest = v.guest()
	return m
}

// text returns the default descriptor.
func (v VMDK) text() string {
	t := v.Text
	if t.CreateType == "" && v.compressed() {
		t.CreateType = "streamOptimized"
	}
	if t.Extents == nil {
		t.Extents = []string{fmt.Sprintf("RW %d SPARSE \"disk.vmdk\"", v.Sectors)}
	}
	return t.String()
}

func (v VMDK) compressed() bool { return v.Dialect != Sparse }

func (v VMDK) redundant() bool {
	return v.Dialect == Sparse && !v.NoRGD || v.Dialect == QEMUStream
}

// put appends p and returns where.
func (m *VMDKImage) put(p []byte) int64 {
	off := int64(len(m.Bytes))
	m.Bytes = append(m.Bytes, p...)
	return off
}

// pad appends zeros up to a multiple of n.
func (m *VMDKImage) pad(n int64) {
	if over := int64(len(m.Bytes)) % n; over != 0 {
		m.put(make([]byte, n-over))
	}
}

// putIndex appends a directory and all its tables, which are empty.
func (m *VMDKImage) putIndex(tables []int64, gdBytes int64) int64 {
	gd := m.put(make([]byte, gdBytes))
	for i := range tables {
		tables[i] = m.put(make([]byte, entriesPerGT*4))
		m.Put32(gd+int64(i)*4, uint32(tables[i]/sector))
	}
	return gd
}

// putGrains appends the grains, and notes them in the tables.
func (m *VMDKImage) putGrains(v VMDK) {
	for _, i := range v.Order {
		switch g := v.Grains[i]; g.Kind {
		case Absent:
		case Zeros:
			m.SetGTE(i, 1)
		default:
			m.putGrain(v, i)
			m.SetGTE(i, uint32(m.Data[i]/sector))
		}
	}
}

// putGrain appends one grain that holds data.
func (m *VMDKImage) putGrain(v VMDK, i int) {
	g := v.Grains[i]
	if !v.compressed() {
		m.Data[i] = m.put(padded(g.Data, int(m.GrainSize)))
		return
	}
	stream := g.Stream
	if stream == nil {
		stream = Zlib(padded(g.Data, int(m.GrainSize)))
	}
	head := make([]byte, 12)
	binary.LittleEndian.PutUint64(head, uint64(int64(i)*v.Grain))
	binary.LittleEndian.PutUint32(head[8:], uint32(len(stream)))
	m.Data[i] = m.put(head)
	m.put(stream)
	m.pad(sector)
}

// mark appends a metadata marker.
func (m *VMDKImage) mark(sectors uint64, kind uint32) {
	b := make([]byte, sector)
	binary.LittleEndian.PutUint64(b, sectors)
	binary.LittleEndian.PutUint32(b[12:], kind)
	m.put(b)
}

// putStream appends grains, each table behind its grains, the directory, the
// footer and the end-of-stream marker. In another order than the ascending one
// all tables come behind all grains.
func (m *VMDKImage) putStream(v VMDK, gdBytes int64) {
	tables := make([][]byte, len(m.GTs))
	flush := func(t int) {
		if tables[t] == nil {
			return
		}
		m.mark(entriesPerGT*4/sector, markGT)
		m.GTs[t] = m.put(tables[t])
		tables[t] = nil
	}
	sorted, last := true, -1
	for _, i := range v.Order {
		sorted = sorted && i > last
		last = i
	}
	for n, i := range v.Order {
		t := i / entriesPerGT
		if sorted && n > 0 && v.Order[n-1]/entriesPerGT != t {
			flush(v.Order[n-1] / entriesPerGT)
		}
		if v.Grains[i].Kind == Absent {
			continue
		}
		if tables[t] == nil {
			tables[t] = make([]byte, entriesPerGT*4)
		}
		entry := uint32(1)
		if v.Grains[i].Kind != Zeros {
			m.putGrain(v, i)
			entry = uint32(m.Data[i] / sector)
		}
		binary.LittleEndian.PutUint32(tables[t][i%entriesPerGT*4:], entry)
	}
	for t := range tables {
		flush(t)
	}
	m.mark(uint64(gdBytes/sector), markGD)
	m.GD = m.put(make([]byte, gdBytes))
	for t, off := range m.GTs {
		m.Put32(m.GD+int64(t)*4, uint32(off/sector))
	}
	m.mark(1, markFooter)
	m.Footer = m.put(make([]byte, sector))
	m.mark(0, markEnd)
}

func (m *VMDKImage) putHeader(v VMDK, overHead int64) {
	flags := uint32(flagNewlines)
	if v.redundant() {
		flags |= flagRedundant
	}
	if v.compressed() {
		flags |= flagCompressed | flagMarkers
	}
	for _, g := range v.Grains {
		if g.Kind == Zeros {
			flags |= flagZeroGrains
		}
	}
	if v.Version == 0 {
		switch {
		case v.compressed():
			v.Version = 3
		case flags&flagZeroGrains != 0:
			v.Version = 2
		default:
			v.Version = 1
		}
	}
	h := make([]byte, sector)
	le := binary.LittleEndian
	copy(h, "KDMV")
	le.PutUint32(h[VMDKVersion:], v.Version)
	le.PutUint32(h[VMDKFlags:], flags)
	le.PutUint64(h[VMDKCapacity:], uint64(v.Sectors))
	le.PutUint64(h[VMDKGrainSize:], uint64(v.Grain))
	if v.Descriptor != "-" {
		le.PutUint64(h[VMDKDescriptorOffset:], 1)
		le.PutUint64(h[VMDKDescriptorSize:], uint64(max(descriptorSects, ceil(int64(len(v.Descriptor)), sector))))
	}
	le.PutUint32(h[VMDKNumGTEsPerGT:], entriesPerGT)
	le.PutUint64(h[VMDKRGDOffset:], uint64(m.RGD/sector))
	le.PutUint64(h[VMDKGDOffset:], uint64(m.GD/sector))
	le.PutUint64(h[VMDKOverHead:], uint64(overHead))
	copy(h[VMDKNewlines:], "\n \r\n")
	if v.compressed() {
		h[VMDKCompressAlgorithm] = 1
	}
	copy(m.Bytes, h)
	if m.Footer != 0 {
		copy(m.Bytes[m.Footer:], h)
		m.Put64(VMDKGDOffset, gdAtEnd)
	}
}

// guest returns what the disk reads as.
func (v VMDK) guest() []byte {
	if v.Sectors > 64<<20/sector {
		return nil
	}
	size := v.Grain * sector
	b := make([]byte, max(v.Sectors*sector, int64(len(v.Grains))*size))
	for i, g := range v.Grains {
		if g.Kind == Plain {
			copy(b[int64(i)*size:][:size], g.Data)
		}
	}
	return b[:v.Sectors*sector]
}

// Put32 and Put64 write a little-endian number.
func (m *VMDKImage) Put32(off int64, v uint32) { binary.LittleEndian.PutUint32(m.Bytes[off:], v) }
func (m *VMDKImage) Put64(off int64, v uint64) { binary.LittleEndian.PutUint64(m.Bytes[off:], v) }

// Get32 reads a little-endian number.
func (m *VMDKImage) Get32(off int64) uint32 { return binary.LittleEndian.Uint32(m.Bytes[off:]) }

// GTE returns where the entry of grain i lies in the primary table.
func (m *VMDKImage) GTE(i int) int64 { return m.GTs[i/entriesPerGT] + int64(i%entriesPerGT)*4 }

// SetGTE sets the entry of grain i, in the redundant table too.
func (m *VMDKImage) SetGTE(i int, v uint32) {
	m.Put32(m.GTE(i), v)
	if m.RGTs != nil {
		m.Put32(m.RGTs[i/entriesPerGT]+int64(i%entriesPerGT)*4, v)
	}
}

// Zlib returns p as a zlib stream.
func Zlib(p []byte) []byte {
	var b bytes.Buffer
	w, err := zlib.NewWriterLevel(&b, 6)
	must(err)
	_, err = w.Write(p)
	must(err)
	must(w.Close())
	return b.Bytes()
}
