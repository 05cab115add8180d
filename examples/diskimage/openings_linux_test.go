package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage/internal/disktest"
	"github.com/diskimage-go/diskimage/internal/peer"
)

// runtimeFiles are what the Go runtime and its libraries look at: the size of
// pages, the processors that a container may use, the time zone; and C's
// library and its loader, with which a test that may use the network is linked.
var runtimeFiles = regexp.MustCompile(`^(/sys/kernel/mm/transparent_hugepage/hpage_pmd_size|/proc/self/(cgroup|mountinfo)|/sys/fs/cgroup/.*cpu\.(max|cfs_\w+)|` +
	`/etc/localtime|/usr/share/zoneinfo/.*|/proc/self/maps|/etc/ld\.so\.(cache|preload)|/(usr/)?lib(64)?/[^.]*\.so[.0-9]*)$`)

// TestOpensNothingElse has strace tell what info, check and convert open of all
// hostile images: the image, the target's temporary file and its folder, and
// what is on the runtime's fixed list. What images name is there, so that it
// could be opened; nothing is connected to and no program started.
func TestOpensNothingElse(t *testing.T) {
	disktest.Alone(t) // another process
	t.Parallel()
	strace := peer.Find(t, "strace")
	root, err := filepath.EvalSymlinks(t.TempDir())
	require.NoError(t, err)
	fixtures := putFixtures(t, root)

	log := filepath.Join(t.TempDir(), "log")
	traced := func(args ...string) *exec.Cmd {
		cmd := exec.Command(strace, append([]string{"-f", "--seccomp-bpf", "-qq", "-y", "-xx", "-s", "4096",
			"-e", "trace=%file,%network,execve,execveat,fork,vfork,clone,clone3", "-e", "signal=none", "-o", log}, args...)...)
		cmd.Env = append(os.Environ(), "DISKIMAGE_TEST_COMMAND=1")
		return cmd
	}
	self, err := os.Executable()
	require.NoError(t, err)

	// All of them in one process, which is what makes this quick.
	cmd := traced(self)
	cmd.Env = append(cmd.Env, "DISKIMAGE_TEST_COMMAND=fixtures")
	list, err := json.Marshal(fixtures)
	require.NoError(t, err)
	cmd.Stdin = strings.NewReader(string(list))
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	byDir := map[string]fixture{}
	for _, f := range fixtures {
		byDir[f.Dir] = f
	}
	seen := map[string]bool{}
	for _, o := range openings(t, log) {
		dir, ok := o.fixture(byDir)
		assert.True(t, ok, "%s", o)
		seen[dir] = true
	}
	delete(seen, "") // what is of none of them
	require.Len(t, seen, len(fixtures))

	// Some as processes of their own.
	for _, f := range []fixture{fixtures[0], fixtures[len(fixtures)-1]} {
		for _, verb := range verbsOf(f) {
			cmd := traced(append([]string{self}, verb...)...)
			cmd.Dir = f.Dir
			cmd.Run() // most refuse
			for _, o := range openings(t, log) {
				_, ok := o.fixture(byDir)
				require.True(t, ok, "%q: %s", verb, o)
			}
		}
	}

	// And an opening would be seen.
	cmd = traced(self, "info", "--backing-chain", "--allow-external=any", "image")
	cmd.Dir = filepath.Join(root, "backing file there")
	require.NoError(t, cmd.Run())
	require.True(t, slices.ContainsFunc(openings(t, log), func(o opening) bool {
		_, ok := o.fixture(byDir)
		return !ok && o.name == filepath.Join(root, "canary")
	}))
}

// An opening is a system call that is about a file's name, a connection or a
// process.
type opening struct {
	line string // as strace printed it
	call string
	name string // absolute
}

func (o opening) String() string {
	return fmt.Sprintf("%s %q: %s", o.call, o.name, o.line)
}

var (
	straceLine   = regexp.MustCompile(`^\d+ +(\w+)\(`)
	straceString = regexp.MustCompile(`"((?:\\x[0-9a-f]{2})*)"`)
	straceFolder = regexp.MustCompile(`(?:AT_FDCWD|\d+)<((?:\\x[0-9a-f]{2})*)>`)
)

// openings reads what strace wrote.
func openings(t *testing.T, log string) (all []opening) {
	t.Helper()
	file, err := os.Open(log)
	require.NoError(t, err)
	defer file.Close()
	unquoted := func(s string) string {
		s, err := strconv.Unquote(`"` + s + `"`)
		require.NoError(t, err)
		return s
	}
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<20)
	first := true
	for lines.Scan() {
		m := straceLine.FindStringSubmatch(lines.Text())
		if m == nil {
			continue // the end of a call whose beginning was a line of its own
		}
		o := opening{call: m[1], line: lines.Text()}
		if strings.HasPrefix(o.call, "syscall_0x") && strings.HasSuffix(o.line, " <detached ...>") {
			continue // no call: what strace makes of a thread that it finds as the process ends
		}
		if o.call == "execve" && first {
			first = false
			continue
		}
		names := straceString.FindAllStringSubmatch(o.line, -1)
		if len(names) == 0 {
			all = append(all, o)
			continue
		}
		if strings.HasPrefix(o.call, "readlink") {
			names = names[:1] // the other is where it leads
		}
		for _, name := range names {
			if o.name = unquoted(name[1]); o.name == "" {
				continue // AT_EMPTY_PATH: what is open already
			}
			if folder := straceFolder.FindStringSubmatch(o.line); folder != nil && !filepath.IsAbs(o.name) {
				o.name = filepath.Join(unquoted(folder[1]), o.name)
			}
			all = append(all, o)
		}
	}
	require.NoError(t, lines.Err())
	require.False(t, first, "strace saw nothing")
	return all
}

// fixture returns the folder of the fixture that the opening is of, "" for what
// is of none, and whether it may be.
func (o opening) fixture(byDir map[string]fixture) (dir string, ok bool) {
	switch {
	case o.name == "" && (o.call == "clone" || o.call == "clone3"):
		return "", strings.Contains(o.line, "CLONE_THREAD")
	case o.name == "":
		return "", false
	}
	if f, ok := byDir[filepath.Dir(o.name)]; ok {
		base := filepath.Base(o.name)
		return f.Dir, base == f.Image || base == "target" || leftover.MatchString(base) || f.Allow && slices.Contains(f.Named, base)
	}
	if _, ok := byDir[o.name]; ok {
		return "", true // the folder: the current one, and synced
	}
	if o.call == "newfstatat" { // folders above, whose links are followed
		for dir := range byDir {
			if strings.HasPrefix(dir, strings.TrimSuffix(o.name, "/")+"/") {
				return "", true
			}
		}
	}
	return "", runtimeFiles.MatchString(o.name)
}
