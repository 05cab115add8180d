package main

import (
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// noisyDisk returns a disk that no format makes smaller.
func noisyDisk(size int) []byte {
	p := make([]byte, size)
	rand.NewChaCha8([32]byte{}).Read(p)
	return p
}

// TestFullDisk holds that a file system without room for the target, and a
// limit on the length of files, are errors that name it, and leave what stood
// there. (Row S02 of the hostile inputs.)
func TestFullDisk(t *testing.T) {
	inFolder(t)
	disk, err := filepath.Abs("disk.raw")
	require.NoError(t, err)
	write(t, disk, noisyDisk(3<<20))
	self, err := os.Executable()
	require.NoError(t, err)
	for _, limit := range []bool{false, true} {
		require.NoError(t, os.Mkdir(fmt.Sprint(limit), 0o777))
		t.Chdir(fmt.Sprint(limit))
		want := "file too large"
		if !limit {
			want = "no space left on device"
			if err := syscall.Mount("tmpfs", ".", "tmpfs", 0, "size=1m"); err != nil {
				t.Logf("no file system to fill: %v", err)
				t.Chdir("..")
				continue
			}
			here, err := os.Getwd()
			require.NoError(t, err)
			defer syscall.Unmount(here, syscall.MNT_DETACH)
			t.Chdir(here) // into what was mounted
		}
		write(t, "target", []byte("what was there"))
		before := listing(t)
		for _, kind := range targetKinds {
			args := kind.convert(disk, "target")
			var r result
			if limit {
				cmd := exec.Command("sh", append([]string{"-c", `ulimit -f 1024; exec "$@"`, "sh", self}, args...)...)
				cmd.Env = append(os.Environ(), "DISKIMAGE_TEST_COMMAND=1")
				out, _ := cmd.CombinedOutput()
				r = result{stderr: string(out), code: cmd.ProcessState.ExitCode()}
			} else {
				r = command(t, args...)
			}
			require.Equal(t, 1, r.code, "%s: %s", kind.name, r.stderr)
			require.Contains(t, r.stderr, "target", kind.name)
			require.Contains(t, r.stderr, want, kind.name)
			require.Equal(t, 1, strings.Count(r.stderr, "\n"), "%s: %s", kind.name, r.stderr)
			require.Equal(t, before, listing(t), kind.name)
			require.Equal(t, "what was there", string(contents(t, "target")), kind.name)
		}
		t.Chdir("..")
	}
}

// TestSourcesRefused holds that what is no image file is refused by name, and
// that nobody waits for it. (Row R13 of the hostile inputs.)
func TestSourcesRefused(t *testing.T) {
	inFolder(t)
	require.NoError(t, os.Mkdir("folder", 0o777))
	require.NoError(t, syscall.Mkfifo("fifo", 0o666))
	require.NoError(t, os.Symlink("loop", "loop"))
	require.NoError(t, os.Symlink("nowhere", "dangling"))
	require.NoError(t, os.Symlink("fifo", "link"))
	write(t, "secret", diskBytes(1<<20))
	require.NoError(t, os.Chmod("secret", 0))
	before := listing(t)
	judged := make(chan map[string]result)
	cases := map[string]string{
		"folder": "is a folder", "fifo": "is a FIFO", "link": "is a FIFO", "/dev/zero": "is a character device",
		"loop": "too many levels of symbolic links", "dangling": "no such file", "missing": "no such file", "secret": "permission denied",
	}
	go func() {
		runtime.LockOSThread() // it ends with the goroutine
		if os.Getuid() == 0 {
			syscall.Setfsuid(65534) // who may not read it
		}
		results := map[string]result{}
		for name := range cases {
			for _, verb := range []string{"info", "check", "map", "convert", "measure"} {
				args := []string{verb, name}
				if verb == "convert" {
					args = append(args, "target")
				}
				results[verb+" "+name] = command(t, args...)
			}
		}
		judged <- results
	}()
	select {
	case results := <-judged:
		for args, r := range results {
			name := args[strings.IndexByte(args, ' ')+1:]
			require.Equal(t, 1, r.code, args)
			require.True(t, strings.HasPrefix(r.stderr, "diskimage: ") && strings.Count(r.stderr, "\n") == 1, "%s: %q", args, r.stderr)
			require.Contains(t, r.stderr, name, args)
			require.Contains(t, r.stderr, cases[name], args)
		}
	case <-time.After(10 * time.Second):
		require.Fail(t, "somebody waits")
	}
	require.Equal(t, before, listing(t))
}

// TestPipeInPieces has a pipe give a few bytes at a time while signals interrupt
// system calls: nothing is lost. (Row S05 of the hostile inputs.)
func TestPipeInPieces(t *testing.T) {
	inFolder(t)
	disk := diskBytes(1<<20 + 512)
	r, w, err := os.Pipe()
	require.NoError(t, err)
	defer r.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer w.Close()
		random := rand.New(rand.NewPCG(1, 2))
		for p := disk; len(p) > 0; {
			n := min(len(p), 1+random.IntN(20_000))
			if _, err := w.Write(p[:n]); err != nil {
				return
			}
			p = p[n:]
			syscall.Kill(os.Getpid(), syscall.SIGURG) // which the runtime takes for its own
		}
	}()
	got := commandOn(t, r, "convert", "-f", "raw", "--verify", "-", "copy")
	<-done
	require.Zero(t, got.code, got.stderr)
	require.Equal(t, disk, contents(t, "copy"))
}

// TestRunningIsNoLeftover has a second run to the same target while the first
// waits for its input: each completes, and the last one's image stays.
func TestRunningIsNoLeftover(t *testing.T) {
	inFolder(t)
	disk := noisyDisk(8 << 20)
	write(t, "other.raw", diskBytes(1<<20))
	feed, hold, err := os.Pipe()
	require.NoError(t, err)
	cmd, stderr := start(t, func(c *exec.Cmd) { c.Stdin = feed }, "convert", "--progress=json", "-f", "raw", "-O", "raw", "-", "target")
	feed.Close()
	_, err = hold.Write(disk[:6<<20])
	require.NoError(t, err)
	_, err = stderr.ReadString('\n')
	require.NoError(t, err)
	running := listing(t)
	require.Len(t, running, 2)
	require.Regexp(t, leftover, running[0])

	succeed(t, "convert", "-O", "raw", "other.raw", "target")
	require.Equal(t, append(running, "target"), listing(t))
	require.Equal(t, contents(t, "other.raw"), contents(t, "target"))

	_, err = hold.Write(disk[6<<20:])
	require.NoError(t, err)
	require.NoError(t, hold.Close())
	_, err = stderr.WriteTo(io.Discard)
	require.NoError(t, err)
	require.Zero(t, ended(t, cmd))
	require.Equal(t, []string{"other.raw", "target"}, listing(t))
	require.Equal(t, disk, contents(t, "target"))
}
