package vmdk

import "fmt"

// descriptor returns the descriptor of the image, which has these extents.
func (w *Writer) descriptor(extents []extentLine) *descriptor {
	o := &w.o
	cid := o.CID
	if cid == 0 {
		cid = deriveCID(w.size, o.forCID(), o.Seed)
	}
	d := newDescriptor(o.Subformat.String(), cid, extents, o.Adapter.String(), o.HWVersion, o.ToolsVersion)
	if o.ParentHint != "" {
		d.parentCID, d.parentHint = o.ParentCID, o.ParentHint
	}
	return d
}

// forCID returns the options that shape the image, in words: all but those
// that only name things.
func (o *WriterOptions) forCID() string {
	s := fmt.Sprintf("%v %v %d %s %d %d %t %t", o.Subformat, o.Adapter, o.HWVersion, o.ToolsVersion, o.GrainSize, o.Level, o.ZeroedGrains, o.AllocateZeros)
	if o.ParentHint != "" {
		s += fmt.Sprintf(" %08x", o.ParentCID)
	}
	return s
}

// embeddedDescriptor returns the descriptor of an image of one sparse file.
func (w *Writer) embeddedDescriptor() ([]byte, error) {
	text := w.descriptor([]extentLine{{access: accessRW, sectors: w.size / sectorSize, kind: kindSparse, fileName: w.o.FileName}}).emit()
	if most := embeddedSectors * sectorSize; len(text) > most {
		return nil, badOption("file name", "the descriptor takes %d bytes with it, %d at most", len(text), most)
	}
	return text, nil
}
