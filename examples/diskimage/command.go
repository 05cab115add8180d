package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/internal/hostfile"
)

// version is the command's; the library and it share one.
const version = "0.1.0"

// A session is what the verbs share: where they read and print.
type session struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	quiet          bool // -q: no notes

	spooled *hostfile.File     // a copy of what came from standard input; nil if there is none
	remotes map[string]*remote // by the names that stand for their URLs
}

// close removes what was made for the time of the command.
func (s *session) close() {
	if s.spooled != nil {
		s.spooled.Close()
	}
	for _, r := range s.remotes {
		r.close()
	}
}

// A verb does one thing. It returns the exit code, and an error if there is
// something to say about it; an error with code 0 means code 1.
type verb struct {
	name     string
	synopsis string // of its options and operands
	run      func(ctx context.Context, s *session, args []string) (code int, err error)
}

func verbs() []verb {
	return []verb{
		{"check", checkSynopsis, runCheck},
		{"compare", compareSynopsis, runCompare},
		{"convert", convertSynopsis, runConvert},
		{"create", createSynopsis, runCreate},
		{"info", infoSynopsis, runInfo},
		{"map", mapSynopsis, runMap},
		{"measure", measureSynopsis, runMeasure},
	}
}

// run is the command: it does what args ask for and returns the exit code.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	out := &sink{Writer: stdout}
	s := &session{stdin: stdin, stdout: out, stderr: stderr}
	defer s.close()
	code, err := s.dispatch(ctx, args)
	if err == nil && out.err != nil {
		err = about("standard output", out.err)
	}
	if err == nil {
		return code
	}
	var sig interrupt
	if cause := context.Cause(ctx); errors.As(cause, &sig) {
		code = sig.exitCode()
		if errors.Is(err, context.Canceled) || errors.Is(err, sig) {
			err = errors.New("stopped: " + sig.Error())
		}
	}
	s.complain(err)
	return max(code, 1)
}

func (s *session) dispatch(ctx context.Context, args []string) (int, error) {
	if len(args) == 0 {
		return 1, usageError("Not enough arguments")
	}
	name, args := args[0], args[1:]
	switch name {
	case "help", "-h", "--help":
		return 0, writeHelp(s.stdout, args)
	case "version", "-V", "--version":
		_, err := fmt.Fprintf(s.stdout, "diskimage version %s\n", version)
		return 0, err
	}
	for _, v := range verbs() {
		if v.name != name {
			continue
		}
		args, err := s.conceal(args)
		if err != nil {
			return 1, err
		}
		code, err := v.run(ctx, s, args)
		if errors.Is(err, errHelp) {
			return 0, writeHelp(s.stdout, []string{name})
		}
		return code, err
	}
	if strings.HasPrefix(name, "-") {
		return 1, usageError("unrecognized option '" + name + "'")
	}
	return 1, usageError("Command not found: " + name)
}

// errHelp is what the option for help returns.
var errHelp = errors.New("help")

// hush makes the session one that prints no results and no notes.
func (s *session) hush() { s.quiet, s.stdout = true, io.Discard }

// parse reads a verb's arguments: its options, and the one for help.
func parse(args []string, known ...[]option) ([]string, error) {
	all := []option{{'h', "help", noArgument, func(string) error { return errHelp }}}
	for _, k := range known {
		all = append(all, k...)
	}
	return parseOptions(args, all)
}

// complain prints an error: one line, and for a bad command line a second one
// with the way to help.
func (s *session) complain(err error) {
	fmt.Fprintf(s.stderr, "diskimage: %s\n", oneLine(err.Error()))
	var bad usageError
	if errors.As(err, &bad) {
		fmt.Fprintln(s.stderr, "Try 'diskimage help' for more information")
	}
}

// note prints what a user should know and no error says.
func (s *session) note(text string) {
	if !s.quiet {
		fmt.Fprintf(s.stderr, "diskimage: note: %s\n", oneLine(text))
	}
}

func (s *session) notes(of ...diskimage.Note) {
	for _, n := range of {
		s.note(n.String())
	}
}

// oneLine makes sure that what may hold a file's name stays on its line.
func oneLine(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, text)
}

// about names the file in an error that does not: "disk.img: permission
// denied". An error of the system is cut down to its reason.
func about(name string, err error) error {
	return fmt.Errorf("%s: %w", name, reason(err))
}

func couldNotOpen(name string, err error) error {
	return fmt.Errorf("Could not open '%s': %w", name, reason(err))
}

func reason(err error) error {
	if path, ok := err.(*fs.PathError); ok {
		return path.Err
	}
	if link, ok := err.(*os.LinkError); ok {
		return link.Err
	}
	return err
}
