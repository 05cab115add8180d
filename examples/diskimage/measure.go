package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/convert"
)

const measureSynopsis = "[-O FMT] [-o OPTIONS] [--output human|json] (--size SIZE | [-f FMT] [--disk N|NAME] [-l SNAPSHOT] [--exact [-c]] [--raw-anyway] [--size-rule RULE] [--unwrap] [--spool DIR] [--header H] [--public-only] [--allow-external[=DIR|any]] FILE)"

func runMeasure(ctx context.Context, s *session, args []string) (int, error) {
	var (
		in              input
		form            output
		formatName      = "raw"
		opts            []string
		size            = int64(-1)
		exact, compress bool
	)
	operands, err := parse(args, in.options(), []option{
		outputOption(&form),
		value('O', "target-format", &formatName),
		parsed('o', "target-options", func(v string) error { opts = append(opts, v); return nil }),
		value('l', "snapshot", &in.snapshot),
		parsed('s', "size", func(v string) (err error) {
			size, err = sizeArgument("image size", v)
			return err
		}),
		flag(0, "exact", &exact),
		flag('c', "compress", &compress),
	})
	if err != nil {
		return 1, err
	}
	format, err := convert.ParseFormat(formatName)
	switch {
	case err != nil:
		return 1, fmt.Errorf("Unknown file format '%s'", formatName)
	case format == convert.Auto || format == convert.OVA:
		return 1, fmt.Errorf("Block driver '%v' does not support size measurement", format)
	case wantsHelp(opts):
		return 0, writeOptionHelp(s.stdout, format)
	case size >= 0 && len(operands) > 0:
		return 1, errors.New("--size N cannot be used together with a filename.")
	case size < 0 && len(operands) != 1:
		return 1, errors.New("Either --size N or one filename must be specified.")
	case compress && (!exact || format == convert.Raw || format == convert.VHD):
		return 1, errors.New("-c needs --exact and -O qcow2 or vmdk: what compression gains is known afterwards")
	}
	o, err := parseFormatOptions(format, opts)
	if err != nil {
		return 1, err
	}
	var disk diskimage.VirtualDisk = blank(size)
	if compress && format == convert.VMDK {
		note, err := o.compressVMDK()
		if err != nil {
			return 1, err
		}
		if note != "" {
			s.note(note)
		}
	}
	o.nameBacking(format)
	mo := convert.MeasureOptions{Format: format, QCOW2: o.qcow2, VMDK: o.vmdk, VHD: o.vhd}
	mo.QCOW2.Compression = diskimage.Plain
	var m *convert.Measurement
	if size >= 0 {
		m, err = convert.MeasureSize(size, mo)
	} else {
		img, oerr := in.open(ctx, s, operands[0])
		if oerr != nil {
			return 1, oerr
		}
		defer img.Close()
		disk = img.disk
		m, err = convert.Measure(ctx, disk, mo)
	}
	if err != nil {
		return 1, err
	}
	exactly := int64(-1)
	if exact {
		if compress && o.qcow2.Compression == diskimage.Plain {
			o.qcow2.Compression = diskimage.Deflate
		} else if !compress {
			o.qcow2.Compression = diskimage.Plain
		}
		if exactly, err = convert.MeasureExactly(ctx, disk, convert.Options{Format: format, QCOW2: o.qcow2, VMDK: o.vmdk, VHD: o.vhd}); err != nil {
			return 1, err
		}
	}
	return 0, s.tellMeasurement(m, exactly, form)
}

func (s *session) tellMeasurement(m *convert.Measurement, exactly int64, form output) error {
	if form == jsonForm {
		o := object{{"bitmaps", nil}, {"required", m.Required}, {"fully-allocated", m.FullyAllocated}}
		if m.Bitmaps >= 0 {
			o.set("bitmaps", m.Bitmaps)
		}
		if exactly >= 0 {
			o = append(o, member{"exact", exactly}, member{"largest", m.Largest}, member{"prefix", m.Prefix})
		}
		return writeJSON(s.stdout, o)
	}
	fmt.Fprintf(s.stdout, "required size: %d\nfully allocated size: %d\n", m.Required, m.FullyAllocated)
	if m.Bitmaps >= 0 {
		fmt.Fprintf(s.stdout, "bitmaps size: %d\n", m.Bitmaps)
	}
	if exactly >= 0 {
		fmt.Fprintf(s.stdout, "exact size: %d\nlargest size: %d\nwritten last: the first %d bytes\n", exactly, m.Largest, m.Prefix)
	}
	return nil
}
