package main

import (
	"context"
	"errors"
	"fmt"
	"io"

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
	file, o, err := convert.PackageFile(ctx, src, convert.OpenOptions{Member: in.disk})
	if err != nil {
		return nil, err
	}
	var result *checkup
	switch o.Format {
	case convert.QCOW2:
		result, err = checkQCOW2(ctx, s, file)
	case convert.VMDK:
		result, err = checkVMDK(ctx, s, file, o.Name, o.Opener)
	}
	if err != nil {
		return nil, fmt.Errorf("ova: member %s: %w", diskimage.Quote(o.Name), err)
	}
	a, ok := file.(diskimage.Attester)
	if !ok {
		return result, nil
	}
	if err = a.Attest(ctx); errors.Is(err, diskimage.ErrCorrupt) {
		if result == nil {
			result = &checkup{format: o.Format.String()}
		}
		s.finding(err.Error())
		result.corruptions++
		err = nil
	}
	return result, err
}
