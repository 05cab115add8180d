package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/convert"
)

// packageDisks returns the disks in the file of this name, if that is an OVA.
func (in *input) packageDisks(ctx context.Context, s *session, name string) ([]convert.PackageDisk, error) {
	src, err := in.openSource(ctx, s, name)
	if err != nil {
		return nil, couldNotOpen(name, err)
	}
	defer src.Close()
	disks, err := convert.PackageDisks(ctx, src)
	if err != nil {
		return nil, couldNotOpen(name, err)
	}
	return disks, nil
}

// packageOptions say how the disk of an OVA is opened.
func (in *input) packageOptions() convert.OpenOptions {
	return convert.OpenOptions{Member: in.disk, Salvage: in.salvage, Spool: in.spool, MaxVirtualSize: in.maxVirtual}
}

// isPackage reports whether a file that can be opened is read as an OVA.
func (in *input) isPackage(src diskimage.Source) bool {
	if in.formatName != "" && in.formatName != convert.OVA.String() {
		return false
	}
	f, err := convert.Detect(src)
	return err == nil && f == convert.OVA
}

// packageOffset returns where in the file of this name, an OVA, the file of the
// disk lies, -1 where it lies there compressed, and 0 in any other file.
func (in *input) packageOffset(ctx context.Context, s *session, name string) (int64, error) {
	src, err := in.openSource(ctx, s, name)
	if err != nil {
		return 0, couldNotOpen(name, err)
	}
	defer src.Close()
	if !in.isPackage(src) {
		return 0, nil
	}
	o := in.packageOptions()
	o.Spool = ""
	f, _, err := convert.PackageFile(ctx, src, o)
	if errors.Is(err, diskimage.ErrUnsupported) { // compressed: the disk itself was opened
		return -1, nil
	}
	if err != nil {
		return 0, couldNotOpen(name, err)
	}
	return f.Offset(), nil
}

// openEnclosed returns an image that is wrapped, or a disk that is compressed in
// an OVA, as a stream, if no copy is to be made, and else nil. The file stays
// open as long as the stream is used.
func (in *input) openEnclosed(ctx context.Context, s *session, name string) (stream diskimage.Stream, file io.Closer, err error) {
	src, err := in.openSource(ctx, s, name)
	if err != nil {
		return nil, nil, couldNotOpen(name, err)
	}
	defer func() {
		if stream == nil {
			src.Close()
		}
	}()
	if in.spool != "" {
		return nil, nil, nil
	}
	o, err := in.openOptions(name)
	if err != nil {
		return nil, nil, couldNotOpen(name, err)
	}
	o.Snapshot = in.snapshot
	what, err := convert.Wrapped(src, o)
	switch {
	case err != nil:
		return nil, nil, couldNotOpen(name, err)
	case what == "" && !in.isCompressed(ctx, src):
		return nil, nil, nil
	case what == "":
		o = in.packageOptions()
	}
	stream, err = convert.OpenStream(ctx, io.NewSectionReader(src, 0, src.Size()), o)
	if err != nil {
		return nil, nil, couldNotOpen(name, err)
	}
	return stream, src, nil
}

// isCompressed reports whether a file is an OVA in which the disk that is
// wanted is compressed.
func (in *input) isCompressed(ctx context.Context, src diskimage.Source) bool {
	if !in.isPackage(src) {
		return false
	}
	disks, err := convert.PackageDisks(ctx, src)
	if err != nil || !slices.ContainsFunc(disks, func(d convert.PackageDisk) bool { return d.Compressed }) {
		return false // if it cannot be opened, opening it tells why
	}
	_, _, err = convert.PackageFile(ctx, src, in.packageOptions())
	return errors.Is(err, diskimage.ErrUnsupported)
}

// packageObject returns the disks of a package, or nil if there are none.
func packageObject(disks []convert.PackageDisk) any {
	if len(disks) == 0 {
		return nil
	}
	all := list{}
	for _, d := range disks {
		o := object{{"number", d.Number}, {"id", d.ID}, {"filename", orNil(d.File)}, {"virtual-size", nil}, {"format", orNil(d.Format)}, {"compressed", d.Compressed}}
		if d.Capacity >= 0 {
			o.set("virtual-size", d.Capacity)
		}
		all = append(all, o)
	}
	return object{{"format", convert.OVA.String()}, {"disks", all}}
}

// printPackage prints the disks of a package for people.
func printPackage(w io.Writer, disks []convert.PackageDisk) {
	if o, ok := packageObject(disks).(object); ok {
		fmt.Fprintln(w, "Package:")
		writeHuman(w, o, 1)
	}
}

// checkPackage checks the disk in a package, as check does, and holds its file
// against the package's digests.
func (in *input) checkPackage(ctx context.Context, s *session, src diskimage.Source) (*checkup, error) {
	file, o, err := convert.PackageFile(ctx, src, in.packageOptions())
	if err != nil {
		return nil, err
	}
	defer file.Close()
	result, err := checkImage(ctx, s, o.Format, file, o.Name, o.Opener)
	if err != nil {
		return nil, fmt.Errorf("ova: member %s: %w", diskimage.Quote(o.Name), err)
	}
	if err = file.Attest(ctx); errors.Is(err, diskimage.ErrCorrupt) {
		if result == nil {
			result = &checkup{format: o.Format.String()}
		}
		s.finding(err.Error())
		result.corruptions++
		err = nil
	}
	return result, err
}
