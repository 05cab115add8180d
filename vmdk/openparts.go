package vmdk

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"io/fs"
	"slices"
	"strings"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/internal/chain"
	"github.com/diskimage-go/diskimage/internal/notes"
)

// openSelf opens an image of one file, which starts with prefix.
func (d *Disk) openSelf(prefix []byte) error {
	self := partFile{src: d.src, pages: d.pages, notes: &d.notes}
	if newESX := esxOpener(prefix); newESX != nil {
		p, err := newESX(self)
		if err != nil {
			return err
		}
		return d.openAlone(p)
	}
	s, err := newSparse(self)
	if err != nil {
		return err
	}
	d.head = s.h
	if s.h.descriptorOffset == 0 || s.h.descriptorSize == 0 {
		return d.openAlone(s)
	}
	off := int64(s.h.descriptorOffset) * sectorSize
	text := make([]byte, s.h.descriptorSize*sectorSize) // at most 1 MiB
	if err := readFull(d.src, text, off, "descriptor"); err != nil {
		return err
	}
	if d.desc, err = parseEmbedded(text, off, s.h, &d.notes); err != nil {
		return err
	}
	d.parts = []diskPart{{part: s, line: &d.desc.extents[0]}}
	return nil
}

const factAlone = "the file is one extent of a disk, and has no descriptor"

func errAlone() error {
	return fail(diskimage.ErrUnsupported, 0, "header", "%s: open the descriptor that names it", factAlone)
}

// openAlone shows one extent of a set by itself. What it lacks may be a
// parent's, and there may be others before and behind it.
func (d *Disk) openAlone(p part) error {
	if !d.salvage {
		return errAlone()
	}
	d.notes.Add("%s: what it holds is shown, and zeros where it holds nothing", factAlone)
	d.parts = []diskPart{{part: p}}
	return nil
}

// parseEmbedded reads the descriptor that lies at the offset off of a sparse
// extent, which has to be all of the disk.
func parseEmbedded(text []byte, off int64, h *sparseHeader, n *notes.List) (*descriptor, error) {
	if end := bytes.IndexByte(text, 0); end >= 0 {
		text = text[:end] // products leave behind it what was there before
	}
	d, err := parseDescriptor(text, off)
	if err != nil {
		return nil, err
	}
	if err := d.refusal(); err != nil {
		return nil, err
	}
	line := d.extents[0]
	if n := len(d.extents); n != 1 || line.kind != kindSparse {
		return nil, fail(diskimage.ErrUnsupported, off, "descriptor", "it lies in a sparse extent and describes %d, of which the first is %s: only a disk of that one file is read", n, line.kind)
	}
	if err := h.checkLine(line); err != nil {
		return nil, err
	}
	if strings.ContainsAny(line.fileName, `/\`) {
		n.Add("the descriptor calls its extent %s; the file itself is read", diskimage.Quote(line.fileName))
	}
	return d, nil
}

// readDescriptor reads an image that is a descriptor.
func (d *Disk) readDescriptor() error {
	if size := d.src.Size(); size > maxDescriptorBytes {
		return fail(diskimage.ErrLimit, maxDescriptorBytes, "descriptor", "%d bytes, %d at most", size, maxDescriptorBytes)
	}
	text := make([]byte, d.src.Size())
	if err := readFull(d.src, text, 0, "descriptor"); err != nil {
		return err
	}
	var err error
	if d.desc, err = parseDescriptor(text, 0); err != nil {
		return err
	}
	if err := d.desc.refusal(); err != nil {
		return err
	}
	return d.desc.checkShared()
}

// checkShared refuses a descriptor whose extents show the same bytes of a file
// twice: no product writes one, and a small file could be an endless disk.
func (desc *descriptor) checkShared() error {
	type use struct{ no, off, end int64 }
	uses := map[string][]use{}
	for i, e := range desc.extents {
		if e.kind == kindZero {
			continue
		}
		u := use{int64(i), e.offset, e.offset + e.sectors}
		if e.kind != kindFlat && e.kind != kindVMFS {
			u.off, u.end = 0, sectorsMax // the whole file
		}
		uses[e.fileName] = append(uses[e.fileName], u)
	}
	for i := range desc.extents { // in their order, for the same error each time
		name := desc.extents[i].fileName
		of := uses[name]
		delete(uses, name)
		slices.SortFunc(of, func(a, b use) int { return cmp.Or(cmp.Compare(a.off, b.off), cmp.Compare(a.no, b.no)) })
		for k := 1; k < len(of); k++ {
			if of[k].off < of[k-1].end {
				return fail(diskimage.ErrCorrupt, -1, "descriptor", "extents %d and %d are the same bytes of %s", of[k-1].no+1, of[k].no+1, diskimage.Quote(name))
			}
		}
	}
	return nil
}

// openParts opens the extents of the descriptor.
func (d *Disk) openParts(ctx context.Context, o Options) error {
	d.parts = make([]diskPart, 0, len(d.desc.extents))
	var start int64
	files := 0
	for i := range d.desc.extents {
		line := &d.desc.extents[i]
		p := diskPart{start: start, line: line}
		if line.kind != kindZero {
			files++
			p.file = files
		}
		err := d.openPart(ctx, &p, o)
		d.parts = append(d.parts, p) // so that it is closed
		if err != nil {
			return err
		}
		start += p.size()
	}
	d.noteLonger()
	return nil
}

// noteLonger notes the files of plain extents that go on behind what the
// descriptor shows of them, by a sector or more: its numbers may be wrong.
func (d *Disk) noteLonger() {
	ends := map[string]int64{}
	for _, p := range d.parts {
		if f, ok := p.part.(*flat); ok {
			ends[p.line.fileName] = max(ends[p.line.fileName], f.off+f.length)
		}
	}
	for _, p := range d.parts { // in their order
		f, ok := p.part.(*flat)
		if end := ends[p.line.fileName]; ok && end == f.off+f.length && f.src.Size()-end >= sectorSize {
			d.notes.Add("extent %s: the file goes on for %d bytes behind what the descriptor shows of it", diskimage.Quote(p.line.fileName), f.src.Size()-end)
		}
	}
}

// openPart opens the extent that p.line describes, or with Salvage lets it be
// missing.
func (d *Disk) openPart(ctx context.Context, p *diskPart, o Options) error {
	length := p.line.sectors * sectorSize
	ref := diskimage.Reference{Name: p.line.fileName, Role: diskimage.RoleExtent, From: o.Name, Depth: o.Depth + 1}
	var err error
	switch {
	case p.line.kind == kindZero:
		p.part = blank{length}
		return nil
	case o.SkipExternal:
		p.part = withheld{length, diskimage.Refuse(Name, ref, "the image was opened without the files that it names")}
		return nil
	case p.line.access == accessNone:
		err = fail(diskimage.ErrUnsupported, -1, "descriptor", "extent %s is NOACCESS: what it holds is not to be read", diskimage.Quote(ref.Name))
	default:
		if err = chain.Check(Name, ref, o.Opener); err != nil {
			return err
		}
		if p.src, err = o.Opener.OpenSource(ctx, ref); err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				err = &diskimage.Error{Kind: diskimage.ErrTruncated, Format: Name, Off: -1, Field: "extent " + diskimage.Quote(ref.Name), Msg: "the file is missing", Err: err}
			} else {
				err = chain.At(Name, ref, err)
			}
			break
		}
		if err = d.newPart(p); err == nil {
			return nil
		}
		err = p.blame(err)
	}
	if !d.salvage {
		return err
	}
	d.notes.Add("%v", err)
	p.part = withheld{length, err}
	return nil
}

// newPart makes the part that p.line and p.src are.
func (d *Disk) newPart(p *diskPart) (err error) {
	if err := d.checkNotSelf(p.src); err != nil {
		return err
	}
	f := partFile{src: p.src, no: p.file, pages: d.pages, notes: &d.notes}
	switch p.line.kind {
	case kindFlat, kindVMFS:
		p.part, err = newFlat(f, p.line.offset*sectorSize, p.line.sectors*sectorSize)
	case kindSparse:
		var s *sparse
		if s, err = newSparse(f); err == nil {
			p.part, err = s, s.h.checkLine(*p.line)
		}
	case kindVMFSSparse:
		p.part, err = newCOWD(f)
	case kindSESparse:
		p.part, err = newSESparse(f)
	default:
		err = fail(diskimage.ErrUnsupported, -1, "descriptor", "extents of type %s are not read", p.line.kind)
	}
	if err != nil {
		return err
	}
	if want := p.line.sectors * sectorSize; p.size() != want {
		return fail(diskimage.ErrCorrupt, -1, "size", "the file has a disk of %d bytes, the descriptor says %d", p.size(), want)
	}
	return nil
}

// checkLine holds the extent's header against the descriptor's line.
func (h *sparseHeader) checkLine(line extentLine) error {
	if h.capacity != uint64(line.sectors) {
		return fail(diskimage.ErrCorrupt, offCapacity, "header: capacity", "%d sectors, but the descriptor says %d", h.capacity, line.sectors)
	}
	return nil
}

// checkNotSelf refuses an extent that is the descriptor itself.
func (d *Disk) checkNotSelf(src diskimage.Source) error {
	if src.Size() != d.src.Size() {
		return nil
	}
	own, other := make([]byte, d.src.Size()), make([]byte, d.src.Size()) // at most 1 MiB
	if err := readFull(d.src, own, 0, "descriptor"); err != nil {
		return err
	}
	if err := readFull(src, other, 0, "data"); err != nil {
		return err
	}
	if bytes.Equal(own, other) {
		return fail(diskimage.ErrCorrupt, 0, "data", "the extent is the descriptor itself")
	}
	return nil
}
