package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/convert"
	"github.com/diskimage-go/diskimage/vhd"
	"github.com/diskimage-go/diskimage/vmdk"
)

const createSynopsis = "[-f FMT] [-o OPTIONS] [-b BACKING -F FMT [-u]] [-q] [--force] FILE [SIZE]"

func runCreate(ctx context.Context, s *session, args []string) (int, error) {
	var (
		formatName          = "raw"
		opts                []string
		backing, backingFmt string
		noBacking           bool
		force               bool
	)
	operands, err := parse(args, []option{
		value('f', "format", &formatName),
		parsed('o', "options", func(v string) error { opts = append(opts, v); return nil }),
		parsed('b', "backing", func(v string) error {
			if backing = v; v == "" {
				return errors.New("Expected backing file name, got empty string")
			}
			return nil
		}),
		value('F', "backing-format", &backingFmt),
		flag('u', "backing-unsafe", &noBacking),
		flag('q', "quiet", &s.quiet),
		flag(0, "force", &force),
		refused(0, "object", needsArgument, "there are no objects"),
	})
	if err != nil {
		return 1, err
	}
	format, err := targetFormat(formatName)
	if err != nil {
		return 1, err
	}
	if wantsHelp(opts) {
		return 0, writeOptionHelp(s.stdout, format)
	}
	switch len(operands) {
	case 0:
		return 1, usageError("Expecting image file name")
	case 1, 2:
	default:
		return 1, usageError("Unexpected argument: " + operands[2])
	}
	name := operands[0]
	o, err := parseFormatOptions(format, opts)
	if err != nil {
		return 1, about(name, err)
	}
	if len(operands) == 2 {
		if o.size >= 0 {
			return 1, about(name, errors.New("The image size must be specified only once"))
		}
		if o.size, err = sizeArgument("image size", operands[1]); err != nil {
			return 1, err
		}
	}
	if backing != "" {
		o.backing = backing
	}
	if backingFmt != "" {
		o.backingFmt = backingFmt
	}
	if err := o.complete(ctx, s, name, format, noBacking); err != nil {
		return 1, about(name, err)
	}
	if !s.quiet {
		fmt.Fprintln(s.stdout, o.formatting(name, format))
	}
	co := convert.Options{Format: format, QCOW2: o.qcow2, VMDK: o.vmdk, VHD: o.vhd, OnlyTop: o.backing != "", Force: force, Workers: 1}
	if err := checkTargets(name, roundToSector(o.size), co, o.below); err != nil {
		return 1, err
	}
	report, err := convert.ToFile(ctx, name, blank(roundToSector(o.size)), co)
	if err != nil {
		return 1, about(name, err)
	}
	notes := report.Notes
	if o.vhd.Geometric { // the size is the reference's to grow; it says nothing of it
		notes = slices.DeleteFunc(notes, func(n diskimage.Note) bool { return n.Format == vhd.Name })
	}
	s.notes(notes...)
	return 0, nil
}

// complete checks what is said of the backing file, and takes the size from
// there if none is given.
func (o *formatOptions) complete(ctx context.Context, s *session, name string, format convert.Format, noBacking bool) error {
	switch {
	case o.backing == "" && o.backingFmt == "":
	case format != convert.QCOW2 && format != convert.VMDK:
		return fmt.Errorf("Backing file not supported for file format '%v'", format)
	case o.backing == "":
		return errors.New("Backing format cannot be used without backing file")
	case o.backingFmt == "":
		return errors.New("Backing file specified without backing format")
	case !noBacking || format == convert.VMDK: // which names its parent by what is in it
		size, err := o.openBacking(ctx, s, name, format)
		if err != nil {
			return err
		}
		if o.size < 0 {
			o.size = size
		}
	}
	if o.size < 0 {
		return errors.New("Image creation needs a size parameter")
	}
	o.nameBacking(format)
	return nil
}

// nameBacking tells the writer's options of the backing file, if there is one.
func (o *formatOptions) nameBacking(format convert.Format) {
	switch format {
	case convert.VMDK:
		o.vmdk.ParentHint = o.backing
	case convert.VHD:
		o.completeVHD()
	default:
		o.qcow2.BackingFile, o.qcow2.BackingFormat = o.backing, o.backingFmt
	}
}

// openBacking opens the backing file of the image name, and returns its disk's
// size. The file is the user's to name, so that it may be opened; what it
// names in turn may not.
func (o *formatOptions) openBacking(ctx context.Context, s *session, name string, format convert.Format) (size int64, err error) {
	vmdkTarget, vhdTarget := format == convert.VMDK, format == convert.VHD
	switch {
	case vmdkTarget && o.backingFmt != "vmdk":
		return 0, errors.New("backing_file must be a vmdk image")
	case vmdkTarget && o.flatVMDK():
		return 0, errors.New("Flat image can't have backing file")
	case vhdTarget && o.backingFmt != "vpc" && o.backingFmt != "vhd":
		return 0, errors.New("the backing file of a vpc image must be one too: -F vpc")
	case vhdTarget && o.subformat == "fixed":
		return 0, errors.New("Fixed image can't have backing file")
	}
	in := input{formatName: o.backingFmt, alone: true}
	img, err := in.open(ctx, s, beside(name, o.backing))
	if err != nil {
		return 0, err
	}
	o.below = []fs.FileInfo{img.file}
	switch d := img.disk.(type) {
	case *vmdk.Disk:
		o.vmdk.ParentCID = d.Info().CID
	case *vhd.Disk:
		if o.vhd.Parent != nil {
			o.vhd.Parent.ID = d.UniqueID()
		}
	}
	return img.disk.Size(), img.Close()
}

// formatting returns the line with which the reference begins.
func (o *formatOptions) formatting(name string, format convert.Format) string {
	var b strings.Builder
	add := func(key string, value any) { fmt.Fprintf(&b, " %s=%v", key, value) }
	q := o.qcow2
	fmt.Fprintf(&b, "Formatting '%s', fmt=%v", name, format)
	switch format {
	case convert.QCOW2:
	case convert.VMDK:
		o.formattingVMDK(add)
		return b.String()
	case convert.VHD:
		o.formattingVHD(add)
		return b.String()
	default:
		add("size", o.size)
		if o.prealloc != "" {
			add("preallocation", o.prealloc)
		}
		return b.String()
	}
	orElse := func(n, otherwise int64) int64 {
		if n == 0 {
			return otherwise
		}
		return n
	}
	add("cluster_size", orElse(q.ClusterSize, 64<<10))
	add("extended_l2", "off")
	if o.prealloc != "" {
		add("preallocation", o.prealloc)
	}
	add("compression_type", compressionName(q.Compression))
	add("size", o.size)
	if o.compat != "" {
		add("compat", o.compat)
	}
	if o.backing != "" {
		add("backing_file", o.backing)
		add("backing_fmt", o.backingFmt)
	}
	lazy := "off"
	if q.LazyRefcounts {
		lazy = "on"
	}
	add("lazy_refcounts", lazy)
	add("refcount_bits", orElse(int64(q.RefcountBits), 16))
	return b.String()
}

// compressionName returns a compression type as the reference calls it.
func compressionName(e diskimage.Encoding) string {
	if e == diskimage.Zstd {
		return "zstd"
	}
	return "zlib"
}

// roundToSector rounds a size up to sectors of 512 bytes, as every image that
// is created has.
func roundToSector(n int64) int64 {
	if n > 1<<63-512 {
		return n
	}
	return (n + 511) &^ 511
}

// blank is a disk of so many bytes that no layer holds. It has a second one,
// so that a hole is what a backing image shows through and no zeros of its own.
type blank int64

func (b blank) Size() int64  { return int64(b) }
func (b blank) Close() error { return nil }

func (b blank) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 || off > int64(b) {
		return 0, errors.New("outside the disk")
	}
	n := min(int64(len(p)), int64(b)-off)
	clear(p[:n])
	if n < int64(len(p)) {
		return int(n), io.EOF
	}
	return int(n), nil
}

func (b blank) NextExtent(off int64) (diskimage.Extent, error) {
	switch {
	case off == int64(b):
		return diskimage.Extent{}, io.EOF
	case off < 0 || off > int64(b):
		return diskimage.Extent{}, errors.New("outside the disk")
	}
	return diskimage.Extent{Off: off, Len: int64(b) - off, Kind: diskimage.Hole, Depth: 2, Host: -1}, nil
}
