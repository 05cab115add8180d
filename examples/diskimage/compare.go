package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/diskimage-go/diskimage/convert"
)

const compareSynopsis = "[-f FMT] [--disk N|NAME] [-F FMT] [--b-disk N|NAME] [-s] [-p] [-q] [--raw-anyway] [--size-rule RULE] [--unwrap] [--spool DIR] [--header H] [--public-only] [--allow-external[=DIR|any]] FILE1 FILE2"

// The exit codes of compare beside 0 (identical) and 1 (different).
const (
	exitNotOpened = 2
	exitNoMap     = 3
	exitNotRead   = 4
)

func runCompare(ctx context.Context, s *session, args []string) (int, error) {
	var (
		in            input
		second        string
		secondDisk    string
		strict, quiet bool
		form          progressForm
	)
	operands, err := parse(args, in.options(), []option{
		value('F', "b-format", &second),
		value(0, "b-disk", &secondDisk),
		flag('s', "strict", &strict),
		{'p', "progress", noArgument, func(string) error { form = progressPlain; return nil }},
		flag('q', "quiet", &quiet),
		ignored('T', "source-cache", needsArgument),
	})
	if err != nil {
		return 1, err
	}
	if len(operands) != 2 {
		return 1, usageError("Expecting two image file names")
	}
	if quiet {
		s.hush()
		form = progressNone
	}
	a, err := in.open(ctx, s, operands[0])
	if err != nil {
		return exitNotOpened, err
	}
	defer a.Close()
	in.formatName, in.disk = second, secondDisk
	b, err := in.open(ctx, s, operands[1])
	if err != nil {
		return exitNotOpened, err
	}
	defer b.Close()

	if form == progressPlain && isTerminal(s.stdout) {
		form = progressLive
	}
	p := newProgress(form, s.stdout, 1)
	o := convert.CompareOptions{Strict: strict}
	if p != nil {
		p.label = "comparing"
		o.Progress = func(off, size int64) { p.show(convert.Progress{Phase: convert.Converting, Done: off, Total: size}) }
	}
	result, err := convert.Compare(ctx, a.disk, b.disk, o)
	p.end(err == nil && result.Identical)
	var failed *convert.CompareError
	switch {
	case errors.As(err, &failed) && failed.Map:
		return exitNoMap, err
	case errors.As(err, &failed):
		return exitNotRead, err
	case err != nil:
		return 1, err
	}
	return s.tellComparison(result, strict, min(a.disk.Size(), b.disk.Size())), nil
}

// tellComparison prints the result in the reference's words and returns the
// exit code. shorter is the size of the smaller disk.
func (s *session) tellComparison(r *convert.Comparison, strict bool, shorter int64) int {
	if r.SizesDiffer && strict {
		fmt.Fprintln(s.stdout, "Strict mode: Image size mismatch!")
		return 1
	}
	if r.SizesDiffer && (r.Identical || r.FirstDifference >= shorter) {
		fmt.Fprintln(s.stdout, "Warning: Image size mismatch!")
	}
	switch {
	case r.Identical:
		fmt.Fprintln(s.stdout, "Images are identical.")
		return 0
	case r.StatusDiffers >= 0:
		fmt.Fprintf(s.stdout, "Strict mode: Offset %d block status mismatch!\n", r.StatusDiffers)
	default:
		fmt.Fprintf(s.stdout, "Content mismatch at offset %d!\n", r.FirstDifference&^511) // the sector, as the reference says it
	}
	return 1
}
