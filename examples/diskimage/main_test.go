package main

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage/internal/disktest"
)

// TestMain is the command itself when a test starts it as a process.
func TestMain(m *testing.M) {
	switch os.Getenv("DISKIMAGE_TEST_COMMAND") {
	case "1":
		main()
	case "fixtures":
		runFixtures()
	}
	os.Unsetenv(envExternal)
	disktest.Main(m)
}

// A result is what a command came to.
type result struct {
	stdout, stderr string
	code           int
}

// command runs the command in this process.
func command(t *testing.T, args ...string) result {
	t.Helper()
	return commandOn(t, strings.NewReader(""), args...)
}

func commandOn(t *testing.T, stdin io.Reader, args ...string) result {
	t.Helper()
	var out, err bytes.Buffer
	code := run(context.WithoutCancel(t.Context()), args, stdin, &out, &err)
	return result{out.String(), err.String(), code}
}

// succeed runs a command that has to succeed, and returns its output.
func succeed(t *testing.T, args ...string) string {
	t.Helper()
	r := command(t, args...)
	require.Zero(t, r.code, "%q: %s", args, r.stderr)
	return r.stdout
}

// inFolder makes an empty folder the current one, so that names are short.
func inFolder(t *testing.T) {
	t.Helper()
	t.Chdir(t.TempDir())
}

// diskBytes returns a disk that has a bit of everything: data that shrinks,
// data that does not, zeros between, an odd end.
func diskBytes(size int) []byte {
	random := rand.New(rand.NewPCG(1, 2))
	p := make([]byte, size)
	for off := 0; off < size; off += 64 << 10 {
		piece := p[off:min(off+64<<10, size)]
		switch off >> 16 % 4 {
		case 1:
			copy(piece, bytes.Repeat([]byte("diskimage "), len(piece)/10+1))
		case 0:
			for i := range piece {
				piece[i] = byte(random.Uint32())
			}
		case 2:
			piece[len(piece)/2] = 1
		}
	}
	return p
}

func write(t *testing.T, name string, p []byte) {
	t.Helper()
	require.NoError(t, os.WriteFile(name, p, 0o666))
}

func contents(t *testing.T, name string) []byte {
	t.Helper()
	p, err := os.ReadFile(name)
	require.NoError(t, err)
	return p
}

// listing returns the names in the current folder.
func listing(t *testing.T) []string {
	t.Helper()
	entries, err := os.ReadDir(".")
	require.NoError(t, err)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}
