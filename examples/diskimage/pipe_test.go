package main

import (
	"bytes"
	"crypto/rand"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/diskimage-go/diskimage/internal/imagetest"
	"github.com/diskimage-go/diskimage/internal/peer"
	"github.com/stretchr/testify/require"
)

// streamImage returns a streamOptimized image and its disk, whose grains come
// in order or not.
func streamImage(order []int) *imagetest.VMDKImage {
	v := imagetest.VMDK{Dialect: imagetest.Exported, Sectors: 40*128 - 3, Order: order}
	for i := range 40 {
		if i%3 == 0 {
			v.Grains = append(v.Grains, imagetest.Grain{})
			continue
		}
		v.Grains = append(v.Grains, imagetest.Grain{Kind: imagetest.Plain, Data: diskBytes(64 << 10)[i*100:]})
	}
	return v.Build()
}

// onPipe runs the command with a pipe of the system for standard input.
func onPipe(t *testing.T, p []byte, args ...string) result {
	t.Helper()
	r, w, err := os.Pipe()
	require.NoError(t, err)
	defer r.Close()
	go func() {
		w.Write(p) // fails where the command does not read to the end
		w.Close()
	}()
	return commandOn(t, r, args...)
}

// TestPipedVMDK: a stream makes the same files as the image does, and goes to a
// pipe where the target takes one pass.
func TestPipedVMDK(t *testing.T) {
	inFolder(t)
	m := streamImage(nil)
	write(t, "disk.vmdk", m.Bytes)
	for _, args := range []string{"-O raw", "-O qcow2", "-O qcow2 -c -m 1", "-O qcow2 -c -m 8", "-O raw -S 0", "-O raw --verify --digest",
		"-O vmdk -o subformat=streamOptimized", "-O vmdk", "-O qcow2 --verify --spool ."} {
		all := append([]string{"convert"}, strings.Fields(args)...)
		want := command(t, append(all, "disk.vmdk", "want")...)
		require.Zero(t, want.code, want.stderr)
		got := onPipe(t, m.Bytes, append(all, "-", "got")...)
		require.Zero(t, got.code, got.stderr)
		require.Equal(t, strings.NewReplacer("want", "got", "disk.vmdk", "-").Replace(want.stdout), got.stdout)
		if !strings.Contains(args, "vmdk") { // which has the target's name
			require.True(t, bytes.Equal(contents(t, "want"), contents(t, "got")), args)
		}
		require.Zero(t, command(t, "compare", "want", "got").code, args)
	}
	for _, args := range []string{"-O raw", "-O vmdk -o subformat=streamOptimized", "-O raw --spool .", "-O qcow2 --spool ."} {
		all := append([]string{"convert"}, strings.Fields(args)...)
		succeed(t, append(all, "disk.vmdk", "want.img")...)
		got := onPipe(t, m.Bytes, append(all, "-", "-")...)
		require.Zero(t, got.code, got.stderr)
		if !strings.Contains(args, "vmdk") { // which has the target's name
			require.True(t, string(contents(t, "want.img")) == got.stdout, args)
		}
	}
	r := onPipe(t, m.Bytes, "convert", "-O", "qcow2", "-", "-")
	require.Equal(t, 1, r.code)
	require.Contains(t, r.stderr, "goes into a file, not into a pipe")
	require.Empty(t, r.stdout)

	// Into an existing file.
	write(t, "device", bytes.Repeat([]byte{0xee}, len(m.Guest)))
	r = onPipe(t, m.Bytes, "convert", "-n", "-", "device")
	require.Zero(t, r.code, r.stderr)
	require.True(t, bytes.Equal(m.Guest, contents(t, "device")))
	write(t, "device", make([]byte, len(m.Guest)-1))
	r = onPipe(t, m.Bytes, "convert", "-n", "-", "device")
	require.Contains(t, r.stderr, "smaller than input")
	require.Equal(t, []string{"device", "disk.vmdk", "got", "want", "want.img"}, listing(t))
}

// TestPipedVMDKOutOfOrder: a raw file takes it, and any other target a spool.
func TestPipedVMDKOutOfOrder(t *testing.T) {
	inFolder(t)
	order := make([]int, 40)
	for i := range order {
		order[i] = (i*7 + 3) % len(order)
	}
	m := streamImage(order)
	write(t, "disk.raw", m.Guest)
	for _, workers := range []string{"1", "8"} {
		r := onPipe(t, m.Bytes, "convert", "-m", workers, "--verify", "-", "got")
		require.Zero(t, r.code, r.stderr)
		require.True(t, bytes.Equal(m.Guest, contents(t, "got")))
	}
	for _, args := range []string{"-O qcow2", "--digest", "-S 0", "-O vmdk -o subformat=streamOptimized"} {
		all := append([]string{"convert"}, strings.Fields(args)...)
		r := onPipe(t, m.Bytes, append(all, "-", "refused")...)
		require.Equal(t, 1, r.code, args)
		require.Contains(t, r.stderr, "out of order")
		require.Contains(t, r.stderr, "--spool")
		require.NoFileExists(t, "refused")
		r = onPipe(t, m.Bytes, append(all, "--spool", ".", "-", "spooled")...)
		require.Zero(t, r.code, r.stderr)
		require.Zero(t, command(t, "compare", "disk.raw", "spooled").code)
	}
	require.Equal(t, []string{"disk.raw", "got", "spooled"}, listing(t))
}

// TestPipedCut: a stream that is cut leaves no target, and what stood there.
func TestPipedCut(t *testing.T) {
	inFolder(t)
	m := streamImage(nil)
	write(t, "target", []byte("what was there"))
	for _, n := range []int64{600, m.Data[1], m.Data[4] + 20, m.GTs[0], m.GD, m.Footer, int64(len(m.Bytes)) - 512} {
		r := onPipe(t, m.Bytes[:n], "convert", "-O", "qcow2", "-", "target")
		require.Equal(t, 1, r.code)
		require.Contains(t, r.stderr, "vmdk: ")
		require.Equal(t, "what was there", string(contents(t, "target")))
	}
	require.Equal(t, []string{"target"}, listing(t))
}

// TestSpool: with a copy every verb reads a pipe as it reads a file, and
// nothing of the copy is left.
func TestSpool(t *testing.T) {
	inFolder(t)
	require.NoError(t, os.Mkdir("spool", 0o700))
	disk := diskBytes(3<<20 + 512)
	write(t, "disk.raw", disk)
	succeed(t, "convert", "-c", "-O", "qcow2", "disk.raw", "disk.qcow2")
	image := contents(t, "disk.qcow2")
	for _, args := range []string{"convert FILE out", "convert -O qcow2 FILE -", "info --output=json FILE", "map --output=json FILE", "check FILE",
		"measure -O raw FILE", "compare FILE disk.raw", "compare disk.raw FILE", "convert -f raw --raw-anyway FILE -"} {
		want := command(t, strings.Fields(strings.ReplaceAll(args, "FILE", "disk.qcow2"))...)
		got := onPipe(t, image, strings.Fields(strings.ReplaceAll(args, "FILE", "--spool spool -"))...)
		require.Equal(t, want.code, got.code, got.stderr)
		if !strings.HasPrefix(args, "info") { // tells the name, and the size of the copy
			require.True(t, want.stdout == got.stdout, args)
		}
		left, err := os.ReadDir("spool")
		require.NoError(t, err)
		require.Empty(t, left, args)
	}
	require.True(t, bytes.Equal(disk, contents(t, "out")))

	// A pipe that fails, and one that stops.
	r := commandOn(t, io.MultiReader(bytes.NewReader(image), failing{}), "info", "--spool", "spool", "-")
	require.Equal(t, 1, r.code)
	require.Contains(t, r.stderr, "--spool: the pipe broke")
	left, err := os.ReadDir("spool")
	require.NoError(t, err)
	require.Empty(t, left)
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errPipe }

type pipeError string

func (e pipeError) Error() string { return string(e) }

const errPipe = pipeError("the pipe broke")

// TestPipedBacking: what a stream says nothing of are zeros, which hide the
// target's backing image.
func TestPipedBacking(t *testing.T) {
	inFolder(t)
	m := streamImage(nil)
	base := make([]byte, len(m.Guest))
	rand.Read(base)
	write(t, "base.raw", base)
	write(t, "disk.raw", m.Guest)
	for _, more := range []string{"", "-o cluster_size=4k", "-o cluster_size=1M -m 8 --verify"} {
		r := onPipe(t, m.Bytes, append(append([]string{"convert", "-O", "qcow2", "-B", "base.raw", "-F", "raw"}, strings.Fields(more)...), "-", "over.qcow2")...)
		require.Zero(t, r.code, r.stderr)
		require.Zero(t, command(t, "compare", "--allow-external", "disk.raw", "over.qcow2").code)
	}
}

// TestPipedReference: what the reference makes comes out of a pipe as it went
// in.
func TestPipedReference(t *testing.T) {
	peer.Find(t, "qemu-img")
	inFolder(t)
	disk := diskBytes(9<<20 + 512)
	write(t, "disk.raw", disk)
	peer.Run(t, "qemu-img", "convert", "-O", "vmdk", "-o", "subformat=streamOptimized", "disk.raw", "disk.vmdk")
	r := onPipe(t, contents(t, "disk.vmdk"), "convert", "-c", "-O", "qcow2", "-", "disk.qcow2")
	require.Zero(t, r.code, r.stderr)
	peer.Run(t, "qemu-img", "check", "disk.qcow2")
	peer.Run(t, "qemu-img", "compare", "disk.raw", "disk.qcow2")
	// And what comes out of one goes into the reference.
	r = onPipe(t, contents(t, "disk.vmdk"), "convert", "-O", "vmdk", "-o", "subformat=streamOptimized", "-", "-")
	require.Zero(t, r.code, r.stderr)
	write(t, "again.vmdk", []byte(r.stdout))
	peer.Run(t, "qemu-img", "compare", "disk.raw", "again.vmdk")
}
