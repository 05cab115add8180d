package qcow2

import (
	"github.com/diskimage-go/diskimage"
)

// Info is what an image says of itself. Its names come from the image and are
// not to be trusted.
type Info struct {
	Version       int
	ClusterSize   int64
	RefcountBits  int
	Compression   diskimage.Encoding // of compressed clusters, if there are any
	LazyRefcounts bool
	Dirty         bool // not closed properly: refcounts may be wrong
	Corrupt       bool
	ExtendedL2    bool // clusters have subclusters

	HasDataFile   bool
	DataFile      string // "" if not named
	DataFileRaw   bool   // the data file alone reads as a raw image
	BackingFile   string // "" if there is none
	BackingFormat string // "" if not said

	Snapshots    []Snapshot
	Bitmaps      []Bitmap
	Extensions   []Extension // as they lie in the header, unknown ones too
	FeatureNames []FeatureName

	Incompatible, Compatible, Autoclear uint64 // the feature bits
}

// Info returns what the image says of itself. Its slices are shared and not to
// be written to.
func (d *Disk) Info() Info {
	h := d.h
	return Info{
		Version:       int(h.version),
		ClusterSize:   h.clusterSize(),
		RefcountBits:  h.refcountBits(),
		Compression:   h.encoding(),
		LazyRefcounts: h.compatible&compatLazyRefcounts != 0,
		Dirty:         h.dirty(),
		Corrupt:       h.corrupt(),
		ExtendedL2:    h.extendedL2(),
		HasDataFile:   h.hasDataFile(),
		DataFile:      h.dataFile,
		DataFileRaw:   h.dataFileRaw(),
		BackingFile:   h.backingName,
		BackingFormat: h.backingFormat,
		Snapshots:     d.snapshots,
		Bitmaps:       d.bitmaps,
		Extensions:    h.list,
		FeatureNames:  h.featureNames,
		Incompatible:  h.incompatible,
		Compatible:    h.compatible,
		Autoclear:     h.autoclear,
	}
}

// Notes returns what was noted, at opening and while salvaging: of the image,
// of its file, and then of the files that it named.
func (d *Disk) Notes() []diskimage.Note {
	all := append(d.notes.All(), diskimage.NotesOf(d.src)...)
	if d.h.hasDataFile() {
		all = append(all, diskimage.NotesOf(d.data)...)
	}
	return append(all, diskimage.NotesOf(d.below.Disk)...)
}
