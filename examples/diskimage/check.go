package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/diskimage-go/diskimage/convert"
	"github.com/diskimage-go/diskimage/qcow2"
)

const checkSynopsis = "[-f FMT] [--output human|json] [-q] [--allow-external[=DIR|any]] FILE"

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
	result, err := in.check(ctx, s, name)
	if err != nil {
		return 1, err
	}
	if result == nil {
		return exitUncheckable, errors.New("This image format does not support checks")
	}
	if form == jsonForm {
		err = writeJSON(s.stdout, checkObject(name, result))
	} else {
		printCheck(s.stdout, result)
	}
	switch {
	case err != nil:
		return 1, err
	case result.CheckErrors > 0:
		return 1, about(name, errors.New("Check failed"))
	case result.Corruptions > 0:
		return exitCorrupt, nil
	}
	// What makes convert refuse the image is said here as well.
	img, err := in.open(ctx, s, name)
	if err != nil {
		return 1, err
	}
	img.Close()
	if result.Leaks > 0 {
		return exitLeaks, nil
	}
	return 0, nil
}

// check checks an image, and prints what it finds. There is no result where
// the format has nothing to check, or with an error.
func (in *input) check(ctx context.Context, s *session, name string) (*qcow2.CheckResult, error) {
	src, err := s.openSource(name)
	if err != nil {
		return nil, couldNotOpen(name, err)
	}
	defer src.Close()
	format, err := convert.Detect(src)
	// A declared format may be contradicted, and what the content is not told
	// by itself may be declared: opening the image knows both.
	if err != nil || in.formatName != "" && in.formatName != format.String() {
		alone := *in
		alone.alone = true
		img, err := alone.open(ctx, s, name)
		if err != nil {
			return nil, err
		}
		format = convert.FormatOf(img.disk)
		img.Close()
	}
	if format != convert.QCOW2 {
		return nil, nil
	}
	result, err := qcow2.Check(ctx, src, qcow2.CheckOptions{Report: func(f qcow2.Finding) { fmt.Fprintln(s.stderr, oneLine(f.Text)) }})
	if err != nil {
		return nil, couldNotOpen(name, err)
	}
	return result, nil
}

// checkObject returns the result as the reference orders it, which leaves
// counters out that are zero.
func checkObject(name string, r *qcow2.CheckResult) object {
	count := func(n int64) any {
		if n == 0 {
			return nil
		}
		return n
	}
	return object{
		{"image-end-offset", count(r.ImageEndOffset)},
		{"compressed-clusters", count(r.CompressedClusters)},
		{"total-clusters", count(r.TotalClusters)},
		{"corruptions", count(r.Corruptions)},
		{"check-errors", r.CheckErrors},
		{"leaks", count(r.Leaks)},
		{"allocated-clusters", count(r.AllocatedClusters)},
		{"filename", name},
		{"format", qcow2.Name},
		{"fragmented-clusters", count(r.FragmentedClusters)},
	}
}

func printCheck(w io.Writer, r *qcow2.CheckResult) {
	if r.Corruptions == 0 && r.Leaks == 0 && r.CheckErrors == 0 {
		fmt.Fprintln(w, "No errors were found on the image.")
	}
	if r.Corruptions > 0 {
		fmt.Fprintf(w, "\n%d errors were found on the image.\nData may be corrupted, or further writes to the image may corrupt it.\n", r.Corruptions)
	}
	if r.Leaks > 0 {
		fmt.Fprintf(w, "\n%d leaked clusters were found on the image.\nThis means waste of disk space, but no harm to data.\n", r.Leaks)
	}
	if r.CheckErrors > 0 {
		fmt.Fprintf(w, "\n%d internal errors have occurred during the check.\n", r.CheckErrors)
	}
	if r.TotalClusters > 0 && r.AllocatedClusters > 0 {
		percent := func(n, of int64) float64 { return float64(n) * 100 / float64(of) }
		fmt.Fprintf(w, "%d/%d = %.2f%% allocated, %.2f%% fragmented, %.2f%% compressed clusters\n", r.AllocatedClusters, r.TotalClusters,
			percent(r.AllocatedClusters, r.TotalClusters), percent(r.FragmentedClusters, r.AllocatedClusters), percent(r.CompressedClusters, r.AllocatedClusters))
	}
	if r.ImageEndOffset > 0 {
		fmt.Fprintf(w, "Image end offset: %d\n", r.ImageEndOffset)
	}
}
