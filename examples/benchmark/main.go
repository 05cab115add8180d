// Command benchmark runs this module's command and qemu-img in turn on the
// same images, and prints what each took: time, processor time, memory, and
// the size of what came out.
//
//	go run ./examples/benchmark [-tree DIR [-size N] | -src IMAGE] [-rounds N] [-mode both|unsynced|synced] [-cold] [-spare] [-run REGEXP] [-json]
//
// The disk is an ext4 file system made of a folder's files (-tree), or one
// that exists (-src, raw or QCOW2). Inputs are made from it by qemu-img.
// qemu-img gets its fastest flags, -W -m 16.
//
// Durability is equal on both sides. Unsynced, neither waits for the disk
// (our command is told -t unsafe; for qemu-img that is the default). Synced,
// our command runs as it does by default, and after qemu-img its output and
// folder are synced, which counts as part of its time.
//
// Each round runs every job once with each program, and which goes first
// changes from round to round. Outputs are deleted and everything is synced
// before each run, so that nobody pays for another's dirty pages. In the first
// round qemu-img checks each output and compares it with the disk. Inputs are in
// the page cache; with -cold (GNU dd) they are not. In a virtual machine memory
// that was free for a while may have to be brought by the host first; with
// -spare as much as the disk is large has just been used and freed.
//
// It needs qemu-img, with -tree also mkfs.ext4, and from the module's root
// the go command, to build ours (or -command with its path). Run it on a
// machine that does nothing else.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil {
		stop()
		fmt.Fprintln(os.Stderr, "benchmark:", err)
		os.Exit(1)
	}
}

// run is the program: the report goes to stdout, what it is doing to stderr.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	var (
		flags   = flag.NewFlagSet("benchmark", flag.ContinueOnError)
		src     = flags.String("src", "", "measure on this raw or QCOW2 `image`")
		tree    = flags.String("tree", "/usr", "measure on a file system that holds this `folder`")
		size    = flags.String("size", "", "its size in `bytes`, as 3G (default: a third more than the files)")
		rounds  = flags.Int("rounds", 5, "how often each job is run")
		mode    = flags.String("mode", "both", "unsynced, synced or both")
		cold    = flags.Bool("cold", false, "drop the input from the page cache before each run")
		spare   = flags.Bool("spare", false, "write and delete a file as large as the disk before each run")
		only    = flags.String("run", "", "only the jobs whose name matches this `regexp`")
		asJSON  = flags.Bool("json", false, "print JSON")
		dir     = flags.String("dir", "", "make inputs and outputs under this `folder` (default: the system's for temporary files)")
		command = flags.String("command", "", "the `path` of our command (default: built from ./examples/diskimage)")
	)
	flags.SetOutput(stderr)
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil
		}
		return err
	}
	match, err := regexp.Compile(*only)
	switch {
	case err != nil:
		return err
	case flags.NArg() > 0:
		return fmt.Errorf("what is %q?", flags.Arg(0))
	case *rounds < 1:
		return errors.New("-rounds must be at least 1")
	case *mode != "both" && *mode != unsynced && *mode != synced:
		return fmt.Errorf("-mode %q is not unsynced, synced or both", *mode)
	}

	work, err := os.MkdirTemp(*dir, "diskimage-benchmark-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	reference, err := exec.LookPath("qemu-img")
	if err != nil {
		return err
	}
	if *command == "" {
		*command = filepath.Join(work, "diskimage")
		build := exec.CommandContext(ctx, "go", "build", "-o", *command, "./examples/diskimage")
		build.Env = append(os.Environ(), "CGO_ENABLED=0") // as README.md has it
		if out, err := build.CombinedOutput(); err != nil {
			return fmt.Errorf("building the command: %w\n%s", err, out)
		}
	}

	report := report{Cores: runtime.NumCPU(), Rounds: *rounds}
	for _, m := range []string{unsynced, synced} {
		if *mode != m && *mode != "both" {
			continue
		}
		for _, j := range jobs {
			if match.MatchString(j.name) && (j.verb == "" || m == unsynced || *mode == synced) { // what writes nothing is not synced
				report.Results = append(report.Results, result{Job: j.name, Mode: m, job: j})
			}
		}
	}
	b := bench{reference: reference, ours: *command, work: work, cold: *cold, spare: *spare, log: stderr}
	if err := b.makeInputs(ctx, *src, *tree, *size, report.Results); err != nil {
		return err
	}
	report.Size, report.Allocated = b.size, b.allocated
	for round := range *rounds {
		for i := range report.Results {
			r := &report.Results[i]
			fmt.Fprintf(stderr, "round %d of %d: %s, %s\n", round+1, *rounds, r.Job, r.Mode)
			sides := []side{{b.runReference, &r.Reference}, {b.runOurs, &r.Ours}}
			if round%2 == 1 {
				slices.Reverse(sides)
			}
			for _, s := range sides {
				if err := b.measure(ctx, s, r.job, r.Mode, round == 0); err != nil {
					return fmt.Errorf("%s: %w", r.Job, err)
				}
			}
		}
	}
	report.finish()
	if *asJSON {
		return report.writeJSON(stdout)
	}
	return report.writeTable(stdout)
}
