package vmdk

import (
	"fmt"
	"strings"

	"github.com/diskimage-go/diskimage"
)

// splitBytes is the guest size of each extent but the last of the kinds that
// are split, as QEMU has it. No batch crosses from one into the next.
const splitBytes = 2 << 30

// Several reports whether an image of this kind consists of several files.
func (s Subformat) Several() bool {
	return s == MonolithicFlat || s == TwoGbMaxExtentFlat || s == TwoGbMaxExtentSparse
}

// An extentSet is what the kinds of several files have in common: extents, one
// file each, and a descriptor that names them. The descriptor is the file that
// the user names, and is written last.
type extentSet struct {
	each       int64 // guest bytes of an extent
	last       int64 // of the last one
	files      []*outFile
	descriptor []byte
}

// newExtentSet has the extents' files made.
func (w *Writer) newExtentSet(kind extentKind) (*extentSet, error) {
	names, err := w.o.extentNames(w.size)
	if err != nil {
		return nil, err
	}
	s := &extentSet{each: splitBytes, files: make([]*outFile, len(names))}
	if w.o.Subformat == MonolithicFlat {
		s.each = w.size
	}
	s.last = w.size - int64(len(names)-1)*s.each
	lines := make([]extentLine, len(names))
	for i, name := range names {
		lines[i] = extentLine{access: accessRW, sectors: s.size(i) / sectorSize, kind: kind, fileName: name}
	}
	s.descriptor = w.descriptor(lines).emit()
	if len(s.descriptor) >= maxDescriptorBytes {
		return nil, badOption("file name", "with it in each of %d extents the descriptor is longer than %d bytes", len(names), maxDescriptorBytes)
	}
	for i, name := range names {
		out, err := w.o.Creator.Create(name)
		if err != nil {
			return nil, fmt.Errorf(Name+": extent %s: %w", diskimage.Quote(name), err)
		}
		s.files[i] = newOutFile(out)
	}
	w.files = append(w.files, s.files...)
	w.files[0].end = int64(len(s.descriptor))
	return s, nil
}

// size returns an extent's guest bytes.
func (s *extentSet) size(i int) int64 {
	if i == len(s.files)-1 {
		return s.last
	}
	return s.each
}

// locate returns the extent that holds the guest offset off, and the offset in
// it.
func (s *extentSet) locate(off int64) (i int, in int64) { return int(off / s.each), off % s.each }

// prefix returns the length of the whole descriptor.
func (s *extentSet) prefix() int64 { return int64(len(s.descriptor)) }

// ExtentNames returns the names of the files that a [Writer] with these options
// has its Creator make, in their order: none for a kind of one file. They are
// those that VMware and QEMU give them: "disk-flat.vmdk" beside "disk.vmdk", or
// "disk-f001.vmdk" and "disk-s001.vmdk" with 2 GiB of the guest disk in each.
func ExtentNames(o WriterOptions) ([]string, error) {
	o.Creator = noFiles{}
	w := &Writer{}
	var err error
	if w.o, err = o.withDefaults(); err != nil {
		return nil, err
	}
	if err := w.setSize(); err != nil {
		return nil, err
	}
	return w.o.extentNames(w.size)
}

// extentNames is ExtentNames for options with their defaults and a size in
// whole sectors.
func (o *WriterOptions) extentNames(size int64) ([]string, error) {
	var letter string
	switch o.Subformat {
	case MonolithicFlat:
	case TwoGbMaxExtentFlat:
		letter = "f"
	case TwoGbMaxExtentSparse:
		letter = "s"
	default:
		return nil, nil
	}
	if strings.ContainsAny(o.FileName, `/\`) {
		return nil, badOption("file name", "%s is in a folder: the extents' names are made from it, and they lie beside it", diskimage.Quote(o.FileName))
	}
	stem, ending := o.FileName, ""
	if i := strings.LastIndexByte(stem, '.'); i >= 0 {
		stem, ending = stem[:i], stem[i:]
	}
	if letter == "" {
		return []string{stem + "-flat" + ending}, nil
	}
	n := (size-1)/splitBytes + 1
	if n > maxExtents {
		return nil, errDiskLimit(size, fmt.Sprintf("in files of 2 GiB it needs %d of %d at most", n, maxExtents))
	}
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("%s-%s%03d%s", stem, letter, i+1, ending)
	}
	return names, nil
}
