package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/convert"
	"github.com/diskimage-go/diskimage/qcow2"
	"github.com/diskimage-go/diskimage/vhd"
	"github.com/diskimage-go/diskimage/vmdk"
)

const checkSynopsis = "[-f FMT] [--disk N|NAME] [--output human|json] [-q] [--size-rule RULE] [--unwrap] [--spool DIR] [--header H] [--public-only] [--allow-external[=DIR|any]] FILE"

// The exit codes of check beside 0 and 1.
const (
	exitCorrupt     = 2
	exitLeaks       = 3
	exitUncheckable = 63
)

func runCheck(ctx context.Context, s *session, args []string) (int, error) {
	var (
		in    input
		form  output
		quiet bool
	)
	operands, err := parse(args, in.options(), []option{
		outputOption(&form),
		flag('q', "quiet", &quiet),
		ignored('T', "source-cache", needsArgument),
		parsed('r', "repair", func(v string) error {
			if v != "leaks" && v != "all" {
				return usageError("Unknown option value for -r (expecting 'leaks' or 'all'): " + v)
			}
			return errors.New("option '-r' is not supported: images are checked here and never repaired")
		}),
	})
	if err != nil {
		return 1, err
	}
	if len(operands) != 1 {
		return 1, usageError("Expecting one image file name")
	}
	name := operands[0]
	if quiet {
		s.hush()
	}
	result, refusal, err := in.check(ctx, s, name)
	if err != nil {
		return 1, couldNotOpen(name, err)
	}
	if result == nil {
		return exitUncheckable, errors.New("This image format does not support checks")
	}
	if form == jsonForm {
		err = writeJSON(s.stdout, result.object(name))
	} else {
		printCheck(s.stdout, result)
	}
	switch {
	case err != nil:
		return 1, err
	case result.checkErrors > 0:
		return 1, about(name, errors.New("Check failed"))
	case result.corruptions > 0:
		return exitCorrupt, nil
	}
	if refusal != nil {
		return 1, couldNotOpen(name, refusal)
	}
	if result.leaks > 0 {
		return exitLeaks, nil
	}
	return 0, nil
}

// A checkup is what a check counted, in whatever format.
type checkup struct {
	format                                   string
	imageEndOffset                           int64 // this and the next four: 0 where the reference does not tell them
	total, allocated, fragmented, compressed int64 // clusters
	leaks, corruptions, checkErrors          int64
}

// check checks the image in the file of this name, prints what it finds, and
// returns beside the result what makes convert refuse the image. There is no
// result where the format has nothing to check, or with an error.
func (in *input) check(ctx context.Context, s *session, name string) (result *checkup, refusal, err error) {
	src, err := in.openSource(ctx, s, name)
	if err != nil {
		return nil, nil, err
	}
	defer src.Close()
	opened := func(in *input) (diskimage.VirtualDisk, error) {
		img, err := in.openDisk(ctx, s, name)
		if err != nil {
			return nil, err
		}
		return img.disk, nil
	}
	o, err := in.openOptions(name)
	if err != nil {
		return nil, nil, err
	}
	if in.spool == "" {
		return in.checkSource(ctx, s, src, name, opened) // which refuses what is wrapped
	}
	file, o, err := convert.UnwrapFile(ctx, src, o)
	if err != nil {
		return nil, nil, err
	}
	if file == nil {
		return in.checkSource(ctx, s, src, name, opened)
	}
	defer file.Close()
	s.notes(file.Notes()...)
	inside := *in
	inside.disk = o.Member
	return inside.checkSource(ctx, s, file, name, func(in *input) (diskimage.VirtualDisk, error) {
		o.SkipExternal = in.alone
		return convert.Open(ctx, struct{ diskimage.Source }{file}, o)
	})
}

// checkSource is check for src, of which opened shows the disk.
func (in *input) checkSource(ctx context.Context, s *session, src diskimage.Source, name string, opened func(*input) (diskimage.VirtualDisk, error)) (result *checkup, refusal, err error) {
	format, err := convert.Detect(src)
	// A declared format may be contradicted, and what the content is not told
	// by itself may be declared: opening the image knows both.
	if err != nil || in.formatName != "" && in.formatName != format.String() {
		alone := *in
		alone.alone = true
		disk, err := opened(&alone)
		if err != nil {
			return nil, nil, err
		}
		format = convert.FormatOf(disk)
		disk.Close()
	}
	if format == convert.OVA {
		result, err = in.checkPackage(ctx, s, src)
	} else {
		result, err = in.checkFile(ctx, s, format, src, name)
	}
	if result == nil || err != nil || result.checkErrors+result.corruptions > 0 {
		return result, nil, err
	}
	disk, refusal := opened(in)
	if refusal == nil {
		disk.Close()
	}
	return result, refusal, nil
}

// finding prints one finding.
func (s *session) finding(text string) { fmt.Fprintln(s.stderr, oneLine(text)) }

// checkFile checks an image that may name others.
func (in *input) checkFile(ctx context.Context, s *session, format convert.Format, src diskimage.Source, name string) (*checkup, error) {
	opener, err := in.external.opener(name)
	if err != nil {
		return nil, err
	}
	if c, ok := opener.(io.Closer); ok {
		defer c.Close()
	}
	return checkImage(ctx, s, format, src, name, opener)
}

// checkImage checks an image, if there is anything to be checked in its format,
// and else returns nil.
func checkImage(ctx context.Context, s *session, format convert.Format, src diskimage.Source, name string, opener diskimage.Opener) (*checkup, error) {
	switch format {
	case convert.QCOW2:
		r, err := qcow2.Check(ctx, src, qcow2.CheckOptions{Report: func(f qcow2.Finding) { s.finding(f.Text) }})
		if err != nil {
			return nil, err
		}
		return &checkup{qcow2.Name, r.ImageEndOffset, r.TotalClusters, r.AllocatedClusters, r.FragmentedClusters, r.CompressedClusters,
			r.Leaks, r.Corruptions, r.CheckErrors}, nil
	case convert.VMDK:
		r, err := vmdk.Check(ctx, src, vmdk.CheckOptions{Name: name, Opener: opener, Report: func(f vmdk.Finding) { s.finding(f.Text) }})
		if err != nil {
			return nil, err
		}
		return &checkup{format: vmdk.Name, leaks: r.Leaks, corruptions: r.Corruptions, checkErrors: r.CheckErrors}, nil
	case convert.VHD:
		r, err := vhd.Check(ctx, src, vhd.CheckOptions{Name: name, Opener: opener, Report: func(f vhd.Finding) { s.finding(f.Text) }})
		if err != nil {
			return nil, err
		}
		return &checkup{vhd.Name, r.ImageEndOffset, r.Blocks, r.Allocated, r.Fragmented, 0, r.Leaks, r.Corruptions, r.CheckErrors}, nil
	}
	return nil, nil
}

// object returns the result as the reference orders it, which leaves counters
// out that are zero.
func (r *checkup) object(name string) object {
	count := func(n int64) any {
		if n == 0 {
			return nil
		}
		return n
	}
	return object{
		{"image-end-offset", count(r.imageEndOffset)},
		{"compressed-clusters", count(r.compressed)},
		{"total-clusters", count(r.total)},
		{"corruptions", count(r.corruptions)},
		{"check-errors", r.checkErrors},
		{"leaks", count(r.leaks)},
		{"allocated-clusters", count(r.allocated)},
		{"filename", name},
		{"format", r.format},
		{"fragmented-clusters", count(r.fragmented)},
	}
}

func printCheck(w io.Writer, r *checkup) {
	if r.corruptions == 0 && r.leaks == 0 && r.checkErrors == 0 {
		fmt.Fprintln(w, "No errors were found on the image.")
	}
	if r.corruptions > 0 {
		fmt.Fprintf(w, "\n%d errors were found on the image.\nData may be corrupted, or further writes to the image may corrupt it.\n", r.corruptions)
	}
	if r.leaks > 0 {
		fmt.Fprintf(w, "\n%d leaked clusters were found on the image.\nThis means waste of disk space, but no harm to data.\n", r.leaks)
	}
	if r.checkErrors > 0 {
		fmt.Fprintf(w, "\n%d internal errors have occurred during the check.\n", r.checkErrors)
	}
	if r.total > 0 && r.allocated > 0 {
		percent := func(n, of int64) float64 { return float64(n) * 100 / float64(of) }
		fmt.Fprintf(w, "%d/%d = %.2f%% allocated, %.2f%% fragmented, %.2f%% compressed clusters\n", r.allocated, r.total,
			percent(r.allocated, r.total), percent(r.fragmented, r.allocated), percent(r.compressed, r.allocated))
	}
	if r.imageEndOffset > 0 {
		fmt.Fprintf(w, "Image end offset: %d\n", r.imageEndOffset)
	}
}
