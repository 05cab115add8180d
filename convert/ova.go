package convert

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/internal/hostfile"
	"github.com/diskimage-go/diskimage/internal/ova"
	"github.com/diskimage-go/diskimage/internal/spool"
)

// A PackageDisk is a disk that an OVA's descriptor lists. What it says was not
// held against the disk's own file.
type PackageDisk struct {
	Number     int    // its place in the list, from 1
	ID         string // the descriptor's diskId
	File       string // the name of its file, "" for an empty disk that has none
	Capacity   int64  // guest bytes, -1 where the descriptor does not say a number
	Format     string // a URI that stands for the file's format
	Compressed bool   // the file is compressed with gzip
}

// PackageDisks returns the disks that the OVA in src lists, or none if the
// content is no OVA.
func PackageDisks(ctx context.Context, src diskimage.Source) ([]PackageDisk, error) {
	prefix := make([]byte, min(src.Size(), prefixLen))
	if err := readFull(src, prefix, 0); err != nil || !ova.Probe(prefix) {
		return nil, err
	}
	p, err := ova.Open(ctx, src, ova.Options{Salvage: true})
	if err != nil {
		return nil, err
	}
	var all []PackageDisk
	for _, d := range p.Disks() {
		all = append(all, PackageDisk{d.Number, d.ID, d.File, d.Capacity, d.Format, d.Compressed})
	}
	return all, nil
}

// PackageFile returns the file of a disk in the OVA in src, and the options
// with which [Open] shows it: o with what is known of it. o.Member says which
// disk, see there. Closing the file closes src if that is an io.Closer; after
// an error src is left to the caller.
func PackageFile(ctx context.Context, src diskimage.Source, o OpenOptions) (*PackedFile, OpenOptions, error) {
	f, o, _, err := packageFile(ctx, src, o)
	return f, o, err
}

// packageFile is PackageFile, and returns what was noted.
func packageFile(ctx context.Context, src diskimage.Source, o OpenOptions) (*PackedFile, OpenOptions, []diskimage.Note, error) {
	p, err := ova.Open(ctx, src, ova.Options{Salvage: o.Salvage})
	if err != nil {
		return nil, o, nil, err
	}
	d, err := p.Find(o.Member)
	if err != nil {
		return nil, o, nil, err
	}
	f, err := p.Disk(d)
	if err != nil {
		return nil, o, nil, err
	}
	inner := &PackedFile{Source: f, f: f, p: p, src: src}
	declared, said := packedFormat(d)
	notes := slices.Concat(p.Notes(), said)
	if d.Compressed {
		unpacked, more, err := unpack(ctx, f, d, o.Spool)
		if err != nil {
			return nil, o, nil, inMember(d.File, err)
		}
		inner.Source, inner.copy, notes = unpacked, unpacked, append(notes, more...)
	}
	format, looks, err := decide(inner, declared, false)
	if err == nil && format == OVA {
		err = &diskimage.Error{Kind: diskimage.ErrUnsupported, Off: -1, Msg: "content is an OVA in an OVA"}
	}
	if err != nil {
		return nil, o, nil, errors.Join(inMember(d.File, err), inner.closeCopy())
	}
	o.Format, o.Name, o.Opener, o.Member, o.RawAnyway = format, d.File, &packageOpener{p, path.Dir(d.File)}, "", false
	return inner, o, append(notes, looks...), nil
}

// unpack copies a compressed disk's file to a temporary one in the folder dir.
func unpack(ctx context.Context, f *ova.File, d ova.Disk, dir string) (*hostfile.File, []diskimage.Note, error) {
	if dir == "" {
		return nil, nil, &diskimage.Error{Kind: diskimage.ErrUnsupported, Off: -1,
			Msg: "compressed with gzip, which is read front to back, or from a copy in a folder for such files (--spool)"}
	}
	z, err := ova.NewGunzip(io.NewSectionReader(f, 0, f.Size()), d)
	if err != nil {
		return nil, nil, err
	}
	file, err := spool.Fill(ctx, z, dir)
	return file, z.Notes(), err
}

// openOVA shows a disk in the package in src.
func openOVA(ctx context.Context, src diskimage.Source, o OpenOptions, notes []diskimage.Note) (diskimage.VirtualDisk, error) {
	inner, o, said, err := packageFile(ctx, src, o)
	if err != nil {
		return nil, err
	}
	disk, err := openAs(ctx, inner, o.Format, o, 0, append(notes, said...))
	if err != nil {
		return nil, errors.Join(inMember(o.Name, err), inner.closeCopy())
	}
	return disk, nil
}

// inMember says which member of a package an error is about: offsets in it
// are the member's.
func inMember(name string, err error) error {
	return fmt.Errorf("ova: member %s: %w", diskimage.Quote(name), err)
}

// packedFormat returns the format that a package's descriptor declares for a
// disk. Its URIs are those that the products write.
func packedFormat(d ova.Disk) (Format, []diskimage.Note) {
	uri := strings.ToLower(d.Format)
	for _, known := range []struct {
		part string
		is   Format
	}{
		{"vmdk", VMDK},                   // http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized
		{"vhdspec", VHD},                 // http://www.microsoft.com/technet/virtualserver/downloads/vhdspec.mspx
		{"bb676673", VHD},                // http://technet.microsoft.com/en-us/library/bb676673.aspx
		{"qcow", QCOW2},                  // http://www.gnome.org/~markmc/qcow-image-format.html
		{"wikipedia.org/wiki/byte", Raw}, // oVirt
	} {
		if strings.Contains(uri, known.part) {
			return known.is, nil
		}
	}
	return Auto, []diskimage.Note{{Format: ova.Name, Text: "the format that the descriptor declares for " + diskimage.Quote(d.File) +
		" is not known, " + diskimage.Quote(d.Format) + "; the content was believed"}}
}

// A PackedFile is the file of a disk in an OVA, or, of one that is compressed
// there, the copy of what was compressed.
type PackedFile struct {
	diskimage.Source
	f    *ova.File
	p    *ova.Package
	src  diskimage.Source
	copy *hostfile.File // of what is compressed in the package, else nil
}

var (
	_ diskimage.Attester       = (*PackedFile)(nil)
	_ diskimage.ChangeDetector = (*PackedFile)(nil)
	_ diskimage.Noter          = (*PackedFile)(nil)
	_ diskimage.Prefetcher     = (*PackedFile)(nil)
	_ io.Closer                = (*PackedFile)(nil)
)

// Offset returns where in the package the file lies, or -1 for a copy.
func (s *PackedFile) Offset() int64 {
	if s.copy != nil {
		return -1
	}
	return s.f.Offset()
}

// Attest holds the files of the package that were opened, this one among them,
// against its manifest, if it has one.
func (s *PackedFile) Attest(ctx context.Context) error { return s.p.Attest(ctx) }

// Prefetch passes a hint on to the package's source, as [diskimage.Prefetcher]
// has it.
func (s *PackedFile) Prefetch(off, n int64) {
	if s.copy == nil {
		s.f.Prefetch(off, n)
	}
}

// Notes returns what was noted of the package's source so far.
func (s *PackedFile) Notes() []diskimage.Note { return diskimage.NotesOf(s.src) }

// Changed asks the package's source, if it can tell, whether it has changed.
func (s *PackedFile) Changed() error { return s.f.Changed() }

// Close closes the package's source, if it is an io.Closer.
func (s *PackedFile) Close() error {
	err := s.closeCopy()
	if c, ok := s.src.(io.Closer); ok {
		err = errors.Join(err, c.Close())
	}
	return err
}

func (s *PackedFile) closeCopy() error {
	if s.copy == nil {
		return nil
	}
	return s.copy.Close()
}

// A packageOpener opens what a disk in a package names: the extents of a split
// VMDK that lie beside it, and nothing else.
type packageOpener struct {
	p   *ova.Package
	dir string // of the disk's file
}

func (o *packageOpener) OpenDisk(context.Context, diskimage.Reference) (diskimage.VirtualDisk, error) {
	return nil, refuse("a disk in a package cannot have another one below it")
}

func (o *packageOpener) OpenSource(_ context.Context, ref diskimage.Reference) (diskimage.Source, error) {
	f, err := o.p.File(path.Join(o.dir, ref.Name))
	if err != nil {
		return nil, refuse("the package does not hold it, and nothing else is opened")
	}
	return f, nil
}
