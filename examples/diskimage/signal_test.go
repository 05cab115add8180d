//go:build unix

package main

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// start starts the command as a process of its own.
func start(t *testing.T, set func(*exec.Cmd), args ...string) (cmd *exec.Cmd, stderr *bufio.Reader) {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	cmd = exec.Command(self, args...)
	cmd.Env = append(os.Environ(), "DISKIMAGE_TEST_COMMAND=1")
	set(cmd)
	pipe, err := cmd.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	return cmd, bufio.NewReader(pipe)
}

// ended waits for the process and returns its exit code.
func ended(t *testing.T, cmd *exec.Cmd) int {
	t.Helper()
	late := time.AfterFunc(20*time.Second, func() { cmd.Process.Kill() })
	defer late.Stop()
	var exit *exec.ExitError
	if err := cmd.Wait(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode()
}

// TestSignals interrupts conversions on their way: what stood under the name
// is still there, and nothing else.
func TestSignals(t *testing.T) {
	inFolder(t)
	disk := make([]byte, 96<<20) // does not shrink, so that it takes a while
	rand.Read(disk)
	write(t, "disk.raw", disk)
	write(t, "target", []byte("what was there"))
	before := listing(t)
	for sig, code := range map[syscall.Signal]int{syscall.SIGINT: 130, syscall.SIGTERM: 143, syscall.SIGHUP: 129} {
		if signal.Ignored(sig) {
			continue // as under nohup, which is to keep the command going
		}
		for _, source := range []string{"disk.raw", "-"} {
			name := sig.String() + " from " + source
			feed, err := os.Open(os.DevNull)
			require.NoError(t, err)
			var hold *os.File
			if source == "-" { // a pipe that gives something, and then nothing any more
				feed.Close()
				feed, hold, err = os.Pipe()
				require.NoError(t, err)
			}
			cmd, stderr := start(t, func(c *exec.Cmd) { c.Stdin = feed },
				"convert", "--progress=json", "-f", "raw", "-m", "1", "-c", "-O", "qcow2", "-o", "compression_type=zstd", "--level", "19", source, "target")
			feed.Close()
			if hold != nil {
				_, err := hold.Write(disk[:9<<20])
				require.NoError(t, err)
			}
			first, err := stderr.ReadString('\n')
			require.NoError(t, err, name)
			require.Contains(t, first, "progress", name)
			require.Len(t, listing(t), len(before)+1, "%s: at work under another name", name)
			require.NoError(t, cmd.Process.Signal(sig))
			var said bytes.Buffer
			_, err = said.ReadFrom(stderr)
			require.NoError(t, err)
			require.Equal(t, code, ended(t, cmd), "%s: %s", name, said.String())
			require.True(t, strings.HasSuffix(said.String(), "diskimage: stopped: "+sig.String()+"\n"), "%s: %s", name, said.String())
			require.Equal(t, before, listing(t), name)
			require.Equal(t, "what was there", string(contents(t, "target")), name)
			if hold != nil {
				hold.Close()
			}
		}
	}
}

// TestSetStopped interrupts and kills conversions to a set of files on their
// way: there is no descriptor, or the old one with its own extent, and what a
// killed one leaves is removed by the next.
func TestSetStopped(t *testing.T) {
	inFolder(t)
	t.Setenv(envExternal, "own")
	disk := make([]byte, 96<<20)
	rand.Read(disk)
	write(t, "disk.raw", disk)
	write(t, "small.raw", disk[:1<<20])
	for _, kind := range []string{"monolithicFlat", "twoGbMaxExtentSparse"} {
		set := []string{"-O", "vmdk", "-o", "subformat=" + kind}
		for _, old := range []bool{false, true} {
			if old {
				succeed(t, append(append([]string{"convert"}, set...), "small.raw", kind+".vmdk")...)
			}
			before := listing(t)
			for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGKILL} {
				cmd, stderr := start(t, func(*exec.Cmd) {}, append(append([]string{"convert", "--force", "--digest", "-m", "1", "--progress=json"}, set...), "disk.raw", kind+".vmdk")...)
				_, err := stderr.ReadString('\n')
				require.NoError(t, err)
				require.NoError(t, cmd.Process.Signal(sig))
				_, err = stderr.WriteTo(io.Discard)
				require.NoError(t, err)
				if code := ended(t, cmd); sig == syscall.SIGINT {
					require.Equal(t, 130, code)
					require.Equal(t, before, listing(t))
				} else {
					require.Len(t, listing(t), len(before)+2, "both under temporary names")
				}
				if old {
					require.Contains(t, succeed(t, "compare", "small.raw", kind+".vmdk"), "identical")
				}
			}
		}
		succeed(t, append(append([]string{"convert", "--force"}, set...), "small.raw", kind+".vmdk")...)
		for _, name := range listing(t) {
			require.NotContains(t, name, ".tmp")
		}
	}
}

// TestProcess runs the command as a process: exit codes and the streams are
// those of the call in this process.
func TestProcess(t *testing.T) {
	inFolder(t)
	write(t, "disk.raw", diskBytes(1<<20))
	for _, args := range []string{"info disk.raw", "check disk.raw", "nonsense", "convert -O qcow2 disk.raw -"} {
		var out bytes.Buffer
		cmd, stderr := start(t, func(c *exec.Cmd) { c.Stdout = &out }, strings.Fields(args)...)
		var said bytes.Buffer
		_, err := said.ReadFrom(stderr)
		require.NoError(t, err)
		code := ended(t, cmd)
		require.Equal(t, command(t, strings.Fields(args)...), result{out.String(), said.String(), code}, args)
	}
}

// TestOutputFull has standard output take nothing: that is a failure, whatever
// was to be printed.
func TestOutputFull(t *testing.T) {
	inFolder(t)
	write(t, "disk.raw", diskBytes(1<<20))
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip("there is no /dev/full")
	}
	defer full.Close()
	for _, args := range []string{"info disk.raw", "info --output=json disk.raw", "map disk.raw", "measure disk.raw", "compare disk.raw disk.raw",
		"help", "version", "convert --digest disk.raw copy", "convert -O qcow2 disk.raw -", "convert disk.raw -"} {
		var said bytes.Buffer
		require.Equal(t, 1, run(t.Context(), strings.Fields(args), os.Stdin, full, &said), args)
		require.Contains(t, said.String(), "no space left on device", args)
		require.Equal(t, 1, strings.Count(said.String(), "\n"), args)
	}
}
