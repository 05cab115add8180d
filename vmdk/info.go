package vmdk

import "github.com/diskimage-go/diskimage"

// Info is what an image says of itself. Its names come from the image and are
// not to be trusted.
type Info struct {
	CreateType string // in VMware's spelling: "monolithicSparse", ...; "" if the image is an extent without a descriptor
	CID        uint32 // changes with the content
	ParentCID  uint32 // the parent's CID; 0xffffffff if there is no parent
	ParentHint string // the parent's file name; "" if there is no parent
	Encoding   string // of the descriptor, as it names it; "" if it does not

	Adapter   string   // ddb.adapterType: "ide", "lsilogic", ...; "" if not said
	HWVersion string   // ddb.virtualHWVersion; "" if not said
	Geometry  Geometry // as the disk database says; zeros if it does not say it all

	Embedded      bool   // the descriptor lies in the one file of the disk
	HeaderVersion uint32 // of that file's sparse header; 0 if there is none

	Extents []ExtentInfo
}

// An ExtentInfo is what an image says of one extent of its disk.
type ExtentInfo struct {
	Access   string // "RW", "RDONLY" or "NOACCESS"
	Type     string // "FLAT", "SPARSE", "ZERO", "VMFS", "VMFSSPARSE" or "SESPARSE"
	Sectors  int64  // of 512 bytes
	FileName string // as the descriptor has it; "" for ZERO
	Offset   int64  // in the file, in sectors

	GrainSize  int64 // bytes; 0 if the extent is not sparse, or was not opened
	Compressed bool  // its grains are
}

// Info returns what the image says of itself.
func (d *Disk) Info() Info {
	i := infoOf(d.head, d.desc)
	for _, p := range d.parts {
		e := ExtentInfo{Sectors: p.size() / sectorSize}
		if p.line != nil {
			e = p.line.info()
		}
		if g, ok := p.part.(interface{ grainLayout() (int64, bool) }); ok {
			e.GrainSize, e.Compressed = g.grainLayout()
		}
		i.Extents = append(i.Extents, e)
	}
	return i
}

// infoOf returns what the file's own header and the descriptor say, of which
// either may be missing.
func infoOf(head *sparseHeader, desc *descriptor) Info {
	i := Info{ParentCID: noParentCID}
	if head != nil {
		i.HeaderVersion = head.version
	}
	if desc != nil {
		i.CreateType, i.CID, i.ParentCID = desc.createType, desc.cid, desc.parentCID
		i.ParentHint, i.Encoding = desc.parentHint, desc.encoding
		get := func(key string) string { v, _ := desc.lookup(key); return v }
		i.Adapter, i.HWVersion = get("ddb.adapterType"), get("ddb.virtualHWVersion")
		i.Geometry, _ = desc.geometry()
		i.Embedded = head != nil
	}
	return i
}

// info returns what the line says.
func (e *extentLine) info() ExtentInfo {
	return ExtentInfo{Access: string(e.access), Type: string(e.kind), Sectors: e.sectors, FileName: e.fileName, Offset: e.offset}
}

// grainLayout returns the bytes of a grain, and whether grains are compressed.
func (s *sparse) grainLayout() (int64, bool) { return s.grain, s.h.compressed() }

// FileName returns the name of the file that extents call i, as the descriptor
// has it. For 0, the image itself, it is what [Options.Name] said.
func (d *Disk) FileName(i int) string {
	for _, p := range d.parts {
		if p.file == i && i > 0 {
			return p.line.fileName
		}
	}
	if i == 0 {
		return d.name
	}
	return ""
}

// Notes returns what was noted, at opening and while salvaging: of the image,
// and then of the files that it named.
func (d *Disk) Notes() []diskimage.Note {
	all := d.notes.All()
	for _, p := range d.parts {
		if p.src != nil {
			all = append(all, diskimage.NotesOf(p.src)...)
		}
	}
	if d.parent.Disk != nil {
		all = append(all, diskimage.NotesOf(d.parent.Disk)...)
	}
	return all
}
