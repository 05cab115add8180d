package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/convert"
	"github.com/diskimage-go/diskimage/qcow2"
	"github.com/diskimage-go/diskimage/vhd"
	"github.com/diskimage-go/diskimage/vmdk"
)

const infoSynopsis = "[-f FMT] [--disk N|NAME] [--output human|json] [--backing-chain] [-q] [--raw-anyway] [--size-rule RULE] [--unwrap] [--spool DIR] [--header H] [--public-only] [--allow-external[=DIR|any]] FILE"

func runInfo(ctx context.Context, s *session, args []string) (int, error) {
	var (
		in    input
		form  output
		chain bool
	)
	operands, err := parse(args, in.options(), []option{
		outputOption(&form),
		flag(0, "backing-chain", &chain),
		flag('q', "quiet", &s.quiet),
		ignored('t', "cache", needsArgument),
	})
	if err != nil {
		return 1, err
	}
	if len(operands) != 1 {
		return 1, usageError("Expecting one image file name")
	}
	infos, notes, verdict := in.collect(ctx, s, operands[0], chain)
	if len(infos) > 0 {
		if infos[0].disks, err = in.packageDisks(ctx, s, operands[0]); err != nil {
			return 1, err
		}
		if err := printInfo(s.stdout, infos, form, chain); err != nil {
			return 1, err
		}
	}
	s.notes(notes...)
	if verdict != nil {
		return 1, verdict
	}
	return 0, nil
}

// collect gathers what is known of an image, and, for the chain, of those
// below it. An error that convert would give too is the verdict; what is known
// of the image itself is returned with it.
func (in input) collect(ctx context.Context, s *session, name string, chain bool) (infos []imageInfo, notes []diskimage.Note, verdict error) {
	in.alone = true
	img, verdict := in.open(ctx, s, name)
	if errors.Is(verdict, diskimage.ErrCorrupt) { // perhaps no more than marked so
		in.salvage = true
		img, _ = in.open(ctx, s, name)
	}
	if img == nil {
		return nil, nil, verdict
	}
	defer img.Close()
	own := img.layers()[0]
	own.files = own.files[:1] // what it names was not opened, and is not looked at
	top := describe(own, img.file)
	if verdict == nil {
		notes = diskimage.NotesOf(img.disk)
	}
	permitted := in.external.policy() != externalNone
	if verdict != nil || !top.own.others || !chain && permitted && !top.own.parts {
		return []imageInfo{top}, notes, verdict
	}
	in.alone = false
	whole, err := in.open(ctx, s, name)
	if err != nil {
		return []imageInfo{top}, notes, err
	}
	defer whole.Close()
	for _, l := range whole.layers() {
		file := img.file
		if len(infos) > 0 {
			if file, err = os.Stat(l.name); err != nil {
				return infos, notes, couldNotOpen(l.name, err)
			}
		}
		infos = append(infos, describe(l, file))
		if !chain {
			break
		}
	}
	return infos, diskimage.NotesOf(whole.disk), nil
}

// An imageInfo is what info prints of one image.
type imageInfo struct {
	name        string
	format      string
	size        int64
	diskSize    int64  // bytes allocated on the host
	fullBacking string // own.backing, from here
	own         formatInfo
	disks       []convert.PackageDisk // of the OVA that it lies in, if it does
}

// A formatInfo is what an image of some format has that others have not.
type formatInfo struct {
	clusterSize   int64 // 0: none
	dirty         any   // a bool; nil: left out
	backing       string
	backingFormat string
	others        bool   // it names files, the backing file among them
	parts         bool   // it is not known whole without them
	snapshots     any    // for JSON; nil: none
	specific      object // nil: none
	printMore     func(w io.Writer)
}

func describe(l layer, file fs.FileInfo) imageInfo {
	info := imageInfo{name: l.name, format: convert.FormatOf(l.disk).String(), size: l.disk.Size(), diskSize: allocatedBytes(file)}
	switch d := l.disk.(type) {
	case *qcow2.Disk:
		info.own = describeQCOW2(d.Info())
	case *vmdk.Disk:
		info.own = describeVMDK(l.name, d.Info())
		for _, name := range l.files[1:] {
			if part, err := os.Stat(name); err == nil {
				info.diskSize += allocatedBytes(part)
			}
		}
	case *vhd.Disk:
		info.own = describeVHD(d)
	default:
		info.own.dirty = false
	}
	info.fullBacking = beside(l.name, info.own.backing)
	return info
}

func printInfo(w io.Writer, infos []imageInfo, form output, chain bool) error {
	if form == jsonForm {
		all := list{}
		for _, i := range infos {
			all = append(all, i.object())
		}
		if chain {
			return writeJSON(w, all)
		}
		return writeJSON(w, all[0])
	}
	for n, i := range infos {
		if n > 0 {
			fmt.Fprintln(w)
		}
		i.print(w)
		printPackage(w, i.disks)
	}
	return nil
}

// object returns the image's information as the reference orders it.
func (i imageInfo) object() object {
	o := object{
		{"snapshots", i.own.snapshots},
		{"backing-filename-format", orNil(i.own.backingFormat)},
		{"virtual-size", i.size},
		{"filename", i.name},
		{"cluster-size", nil},
		{"format", i.format},
		{"actual-size", i.diskSize},
		{"format-specific", nil},
		{"full-backing-filename", orNil(i.fullBacking)},
		{"backing-filename", orNil(i.own.backing)},
		{"dirty-flag", i.own.dirty},
		{"package", packageObject(i.disks)},
	}
	if i.own.clusterSize > 0 {
		o.set("cluster-size", i.own.clusterSize)
	}
	if i.own.specific != nil {
		o.set("format-specific", object{{"type", i.format}, {"data", i.own.specific}})
	}
	return o
}

// print prints the image's information for people. Text of the image's own is
// made harmless.
func (i imageInfo) print(w io.Writer) {
	fmt.Fprintf(w, "image: %s\nfile format: %s\n", plain(i.name), i.format)
	fmt.Fprintf(w, "virtual size: %s (%d bytes)\n", humanSize(i.size), i.size)
	fmt.Fprintf(w, "disk size: %s\n", humanSize(i.diskSize))
	if i.own.clusterSize > 0 {
		fmt.Fprintf(w, "cluster_size: %d\n", i.own.clusterSize)
	}
	if i.own.dirty == true {
		fmt.Fprintln(w, "cleanly shut down: no")
	}
	if i.own.backing != "" {
		fmt.Fprintf(w, "backing file: %s", plain(i.own.backing))
		if i.fullBacking != i.own.backing {
			fmt.Fprintf(w, " (actual path: %s)", plain(i.fullBacking))
		}
		fmt.Fprintln(w)
		if i.own.backingFormat != "" {
			fmt.Fprintf(w, "backing file format: %s\n", plain(i.own.backingFormat))
		}
	}
	if i.own.printMore != nil {
		i.own.printMore(w)
	}
	if i.own.specific != nil {
		fmt.Fprintln(w, "Format specific information:")
		writeHuman(w, i.own.specific, 1)
	}
}

// orNil is s, or nil if it is empty: left out.
func orNil(s string) any {
	if s == "" {
		return nil
	}
	return s
}
