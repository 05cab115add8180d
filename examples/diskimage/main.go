// Command diskimage converts and inspects virtual machine disk images. Its
// verbs, options, output and exit codes are those of qemu-img 7.2 where both
// have them; "diskimage help" tells what there is.
//
// Unlike the reference it opens nothing but the file it was given unless
// --allow-external says so, takes damage for an error, replaces its target
// only when the new image is complete, and reads and writes pipes ("-").
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ignoreStatusSignal()
	ctx, stop := withSignals(context.Background())
	code := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// An interrupt is the cause of a context that a signal has cancelled.
type interrupt struct{ sig syscall.Signal }

func (i interrupt) Error() string { return i.sig.String() }

// exitCode is what a shell reports of a process that the signal killed.
func (i interrupt) exitCode() int { return 128 + int(i.sig) }

// withSignals returns a context that ends with the first SIGINT, SIGTERM or
// SIGHUP, so that the work can clean up; a second one ends the process at
// once. A signal that was ignored when the program started (nohup) stays so.
func withSignals(ctx context.Context) (_ context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	got := make(chan os.Signal, 1)
	for _, sig := range []os.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
		if !signal.Ignored(sig) {
			signal.Notify(got, sig)
		}
	}
	done := make(chan struct{})
	go func() {
		select {
		case sig := <-got:
			signal.Stop(got)
			number, _ := sig.(syscall.Signal)
			cancel(interrupt{number})
		case <-done:
		}
	}()
	return ctx, func() {
		signal.Stop(got)
		close(done)
		cancel(nil)
	}
}
