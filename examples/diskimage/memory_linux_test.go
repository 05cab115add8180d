package main

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage/internal/imagetest"
)

// A watched reader looks at its end how much memory the command that reads it
// has taken. What wait(2) tells counts what the process was before it became
// that command: a part of this one.
type watched struct {
	io.Reader
	cmd  *exec.Cmd
	peak int // KiB
}

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.Reader.Read(p)
	if err == io.EOF {
		status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", w.cmd.Process.Pid))
		if _, after, ok := bytes.Cut(status, []byte("VmHWM:")); ok {
			fmt.Sscan(string(after), &w.peak)
		}
	}
	return n, err
}

// TestPackageInConstantMemory converts a package out of a pipe: in less memory
// than it is long, and without a temporary file.
func TestPackageInConstantMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("the whole test measures memory and takes large images; -short leaves it out")
	}
	inFolder(t)
	const size, most = 160 << 20, 112 << 20
	disk := make([]byte, size) // which does not shrink
	rand.NewChaCha8([32]byte{}).Read(disk)
	write(t, "disk.raw", disk)
	succeed(t, "convert", "-t", "unsafe", "-O", "vmdk", "-o", "subformat=streamOptimized", "disk.raw", "disk.vmdk")
	ova := imagetest.OVA{Digest: "SHA256", Disks: []imagetest.PackedDisk{
		{Name: "disk.vmdk", Data: contents(t, "disk.vmdk"), URI: imagetest.URIStream, Capacity: size}}}.Build()
	require.Greater(t, len(ova), most)
	before := listing(t)
	for _, how := range [][]string{{"-O", "qcow2"}, {"-O", "qcow2", "-c"}, {"-O", "raw"}} {
		in := &watched{Reader: bytes.NewReader(ova)}
		_, stderr := start(t, func(cmd *exec.Cmd) {
			in.cmd, cmd.Stdin = cmd, in
			cmd.Env = append(cmd.Env, "TMPDIR="+t.TempDir()+"/none", "GOGC=")
		}, append(append([]string{"convert", "-t", "unsafe"}, how...), "-", "target")...)
		said, err := io.ReadAll(stderr)
		require.NoError(t, err)
		require.Zero(t, ended(t, in.cmd), string(said))
		require.NotZero(t, in.peak)
		require.Less(t, in.peak, most>>10, "KiB, %v", how)
		t.Logf("%v: %d of %d MiB", how, in.peak>>10, len(ova)>>20)
		require.Contains(t, succeed(t, "compare", "disk.raw", "target"), "Images are identical.")
		require.NoError(t, os.Remove("target"))
		require.Equal(t, before, listing(t))
	}
}
