// Package peer finds the programs that tests hold our results against.
package peer

import (
	"bytes"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// Find returns the path of a peer program. Where it is missing the test is
// skipped, or fails if DISKIMAGE_REQUIRE_PEERS is 1. If DISKIMAGE_PEERS is "no"
// it counts as missing, and nothing is required.
func Find(t testing.TB, name string) string {
	t.Helper()
	if os.Getenv("DISKIMAGE_PEERS") == "no" {
		t.Skipf("%s is not asked for", name)
	}
	path, err := exec.LookPath(name)
	if err == nil {
		return path
	}
	if os.Getenv("DISKIMAGE_REQUIRE_PEERS") == "1" {
		t.Fatalf("%s is required and not here: %v", name, err)
	}
	t.Skipf("%s is not here", name)
	return ""
}

// Has reports whether a peer program is to be used by a test that shows
// something without it, too: Find is then not going to skip it.
func Has(name string) bool {
	if os.Getenv("DISKIMAGE_PEERS") == "no" {
		return false
	}
	_, err := exec.LookPath(name)
	return err == nil || os.Getenv("DISKIMAGE_REQUIRE_PEERS") == "1"
}

// Run runs a peer, fails the test unless it exits with 0, and returns what it
// printed on standard output.
func Run(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, code := Try(t, name, args...)
	for range 20 {
		// qemu-img times itself as it makes a LUKS key, and at times distrusts
		// what the kernel says it used.
		if code == 0 || !strings.Contains(out, "Unable to get accurate CPU usage") {
			break
		}
		out, code = Try(t, name, args...)
	}
	if code != 0 {
		t.Fatalf("%s %q: exit code %d\n%s", name, args, code, out)
	}
	return out
}

// Try runs a peer and returns what it printed on standard output, followed by
// standard error where the exit code is not 0, and that code.
func Try(t testing.TB, name string, args ...string) (out string, code int) {
	t.Helper()
	cmd := exec.Command(Find(t, name), args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if exit, ok := err.(*exec.ExitError); ok {
		return stdout.String() + stderr.String(), exit.ExitCode()
	}
	if err != nil {
		t.Fatalf("%s %q: %v", name, args, err)
	}
	return stdout.String(), 0
}
