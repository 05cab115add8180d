package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage/internal/peer"
)

// makeImages makes images of many kinds with the reference in the current
// folder, and returns their names.
func makeImages(t *testing.T) []string {
	t.Helper()
	img := func(args ...string) { t.Helper(); peer.Run(t, "qemu-img", args...) }
	io := func(name string, commands ...string) {
		t.Helper()
		var args []string
		for _, c := range commands {
			args = append(args, "-c", c)
		}
		peer.Run(t, "qemu-io", append(args, name)...)
	}
	write(t, "disk.raw", diskBytes(3<<20))
	require.NoError(t, os.Truncate("disk.raw", 5<<20))
	img("convert", "-f", "raw", "-O", "qcow2", "disk.raw", "plain.qcow2")
	img("convert", "-f", "raw", "-O", "qcow2", "-o", "compat=0.10", "disk.raw", "v2.qcow2")
	img("convert", "-f", "raw", "-O", "qcow2", "-o", "cluster_size=512,refcount_bits=1", "disk.raw", "512.qcow2")
	img("convert", "-f", "raw", "-O", "qcow2", "-o", "cluster_size=2M,refcount_bits=64,lazy_refcounts=on", "disk.raw", "2m.qcow2")
	img("convert", "-f", "raw", "-O", "qcow2", "-c", "disk.raw", "zlib.qcow2")
	img("convert", "-f", "raw", "-O", "qcow2", "-c", "-o", "compression_type=zstd", "disk.raw", "zstd.qcow2")
	img("create", "-q", "-f", "qcow2", "-o", "extended_l2=on,cluster_size=128k", "extended.qcow2", "5M")
	io("extended.qcow2", "write 0 64k", "write 132k 8k", "write -z 1M 12k", "discard 0 16k")
	img("create", "-q", "-f", "qcow2", "-o", "preallocation=metadata", "metadata.qcow2", "5M")
	io("metadata.qcow2", "write 1M 100k")
	img("create", "-q", "-f", "qcow2", "-o", "preallocation=full", "full.qcow2", "2M")
	img("create", "-q", "-f", "qcow2", "empty.qcow2", "0")
	img("create", "-q", "-f", "qcow2", "huge.qcow2", "64T")
	img("create", "-q", "-f", "qcow2", "snapshots.qcow2", "4M")
	io("snapshots.qcow2", "write 0 1M")
	img("snapshot", "-c", "first", "snapshots.qcow2")
	io("snapshots.qcow2", "write -P 2 512k 1M", "write -z 3M 64k")
	img("snapshot", "-c", "a name that is longer than the column", "snapshots.qcow2")
	img("bitmap", "--add", "-g", "32k", "snapshots.qcow2", "b0")
	img("bitmap", "--add", "--disable", "snapshots.qcow2", "größe")
	img("create", "-q", "-f", "qcow2", "-b", "snapshots.qcow2", "-F", "qcow2", "middle.qcow2", "6M")
	io("middle.qcow2", "write -P 3 2M 64k", "write -z 0 64k")
	img("create", "-q", "-f", "qcow2", "-b", "middle.qcow2", "-F", "qcow2", "top.qcow2", "8M")
	io("top.qcow2", "write -P 4 100k 200k")
	img("create", "-q", "-f", "qcow2", "-b", "disk.raw", "-F", "raw", "onraw.qcow2", "7M")
	img("create", "-q", "-f", "qcow2", "-o", "data_file=data.raw", "data.qcow2", "3M")
	io("data.qcow2", "write 1M 64k")
	img("create", "-q", "-f", "qcow2", "-o", "data_file=rawdata.raw,data_file_raw=on", "rawdata.qcow2", "3M")
	require.NoError(t, os.Mkdir("sub", 0o777))
	img("create", "-q", "-f", "qcow2", "sub/base.qcow2", "1M")
	img("create", "-q", "-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", "sub/overlay.qcow2")
	return []string{"disk.raw", "plain.qcow2", "v2.qcow2", "512.qcow2", "2m.qcow2", "zlib.qcow2", "zstd.qcow2", "extended.qcow2",
		"metadata.qcow2", "full.qcow2", "empty.qcow2", "huge.qcow2", "snapshots.qcow2", "middle.qcow2", "top.qcow2", "onraw.qcow2",
		"data.qcow2", "rawdata.qcow2", "sub/overlay.qcow2"}
}

// reference runs qemu-img.
func reference(t *testing.T, args ...string) result {
	t.Helper()
	cmd := exec.Command(peer.Find(t, "qemu-img"), args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		require.IsType(t, &exec.ExitError{}, err)
	}
	return result{out.String(), errs.String(), cmd.ProcessState.ExitCode()}
}

// sameAsReference runs both commands and compares what they print on standard
// output, and their exit codes.
func sameAsReference(t *testing.T, args ...string) (ours, theirs result) {
	t.Helper()
	ours = command(t, args...)
	require.NoFileExists(t, "target")
	theirs = reference(t, args...)
	_ = os.Remove("target") // the reference leaves what it has begun
	require.Equal(t, theirs.code, ours.code, "%q: %s", args, ours.stderr)
	if diff := cmp.Diff(theirs.stdout, ours.stdout); diff != "" {
		t.Errorf("%q (-qemu-img +ours):\n%s", args, diff)
	}
	return ours, theirs
}

func TestSameAsReference(t *testing.T) {
	inFolder(t)
	t.Setenv(envExternal, "any")
	for _, name := range makeImages(t) {
		verbs := []string{
			"info", "info --output=json --backing-chain", "map", "map --output=json", "map -s 1000 -l 1000000 --output json",
			"check", "check --output=json", "measure -O qcow2", "measure -O qcow2 --output=json -o cluster_size=2M,refcount_bits=1",
		}
		if name == "top.qcow2" {
			verbs = append(verbs, "info --backing-chain", "info --output=json", "map --start-offset=64k --max-length 3M", "map -s 70T --output=json",
				"map -l 0 --output=json", "check -q", "measure -O raw")
		}
		for _, verb := range verbs {
			// The reference asks the file system for holes in the data of such
			// an image, for measure too, which here goes by the image's map.
			if name == "metadata.qcow2" && strings.HasPrefix(verb, "measure -O qcow2") {
				continue
			}
			sameAsReference(t, append(strings.Fields(verb), name)...)
		}
	}
	for _, args := range []string{
		"measure --size 10G -O qcow2", "measure --size=0 -O qcow2", "measure --size 1000", "measure --output=json --size 3T -O qcow2 -o cluster_size=4k",
		"measure -l first -O qcow2 snapshots.qcow2", "measure -O qcow2 -o compat=0.10 snapshots.qcow2",
		"compare disk.raw plain.qcow2", "compare -s disk.raw plain.qcow2", "compare plain.qcow2 zlib.qcow2", "compare plain.qcow2 v2.qcow2 -s",
		"compare plain.qcow2 onraw.qcow2", "compare -s plain.qcow2 onraw.qcow2", "compare snapshots.qcow2 middle.qcow2", "compare -q snapshots.qcow2 middle.qcow2",
		"compare -f raw -F qcow2 disk.raw zstd.qcow2", "compare nothing.raw disk.raw", "compare disk.raw", "compare",
		"info", "info a b", "info nothing", "info -x a", "info --output=xml a", "map", "map nothing", "check nothing", "check -f raw disk.raw", "check -r some disk.raw",
		"measure", "measure --size 1 disk.raw", "measure -O luks disk.raw", "measure --size foo", "nonsense", "--nonsense",
		"convert", "convert disk.raw", "convert nothing target", "convert -c -O raw disk.raw target", "convert -l none plain.qcow2 target",
		"convert -S 3 disk.raw target", "convert -m 17 disk.raw target", "convert -t never disk.raw target", "convert -O nonsense disk.raw target",
		"convert -n disk.raw target", "convert --target-is-zero disk.raw target", "convert -O qcow2 -B disk.raw plain.qcow2 target",
		"create", "create name", "create name 1 2", "create -f raw -b disk.raw -F raw name 1M", "create -f nonsense name 1M", "create name 1Q",
	} {
		sameAsReference(t, strings.Fields(args)...)
	}
	require.NoFileExists(t, "name")
}

// TestFindingsAsReference has images damaged: the findings are counted as the
// reference counts them.
func TestFindingsAsReference(t *testing.T) {
	inFolder(t)
	write(t, "disk.raw", diskBytes(3<<20))
	peer.Run(t, "qemu-img", "convert", "-f", "raw", "-O", "qcow2", "disk.raw", "good.qcow2")
	good := contents(t, "good.qcow2")
	at := func(off int) int64 { // a big-endian number of 64 bits
		var n int64
		for _, b := range good[off : off+8] {
			n = n<<8 | int64(b)
		}
		return n
	}
	table := at(48)
	block := at(int(table))
	for name, damage := range map[string]func(p []byte){
		"leak":       func(p []byte) { p[block+2*12+1] = 2 },
		"corruption": func(p []byte) { p[block+2*6+1] = 0 },
		"both":       func(p []byte) { p[block+2*12+1] = 9; p[block+2*6+1] = 0 },
	} {
		p := append([]byte(nil), good...)
		damage(p)
		write(t, name+".qcow2", p)
		for _, verb := range []string{"check", "check --output=json", "check -q"} {
			ours, theirs := sameAsReference(t, append(strings.Fields(verb), name+".qcow2")...)
			require.Equal(t, theirs.stderr, ours.stderr)
		}
	}
}

func TestCreateAsReference(t *testing.T) {
	inFolder(t)
	write(t, "base.raw", diskBytes(3<<20))
	peer.Run(t, "qemu-img", "convert", "-f", "raw", "-O", "qcow2", "base.raw", "base.qcow2")
	for i, args := range []string{
		"-f qcow2 NAME 10M", "NAME 1000", "-f raw NAME 1.5M", "-f qcow2 NAME 0", "-f qcow2 NAME 1000", "-f qcow2 -o size=1T NAME",
		"-f qcow2 -o compat=0.10 NAME 1M", "-f qcow2 -o compat=v3,lazy_refcounts=on,refcount_bits=64 NAME 1M", "-f qcow2 -o cluster_size=2M NAME 8T",
		"-f qcow2 -o cluster_size=512 NAME 1M", "-f qcow2 -o compression_type=zstd NAME 1M", "-f qcow2 -o preallocation=off -o lazy_refcounts NAME 1M",
		"-f qcow2 -b base.qcow2 -F qcow2 NAME", "-f qcow2 -b base.qcow2 -F qcow2 NAME 5M", "-u -f qcow2 -b none.qcow2 -F qcow2 NAME 5M",
		"-f qcow2 -o backing_file=base.qcow2,backing_fmt=qcow2,compat=0.10 NAME", "-q -f qcow2 NAME 1M",
	} {
		t.Run(args, func(t *testing.T) {
			name := fmt.Sprintf("image%d", i)
			words := append([]string{"create"}, strings.Fields(strings.ReplaceAll(args, "NAME", name))...)
			sameAsReference(t, words...)
			succeed(t, words...) // theirs is replaced by ours
			require.FileExists(t, name)
			if strings.Contains(args, "none") {
				return
			}
			if strings.Contains(args, "base.qcow2") {
				peer.Run(t, "qemu-img", "compare", "base.qcow2", name) // it shows through
			}
			ours := peer.Run(t, "qemu-img", "info", "--output=json", name)
			if strings.Contains(args, "qcow2") {
				require.Contains(t, peer.Run(t, "qemu-img", "check", name), "No errors")
			}
			peer.Run(t, "qemu-img", words...)
			theirs := peer.Run(t, "qemu-img", "info", "--output=json", name)
			require.Empty(t, cmp.Diff(withoutDiskSize(theirs), withoutDiskSize(ours)))
		})
	}
}

// withoutDiskSize drops the line that depends on how a file is laid out.
func withoutDiskSize(info string) string {
	var b strings.Builder
	for line := range strings.Lines(info) {
		if !strings.Contains(line, `"actual-size"`) {
			b.WriteString(line)
		}
	}
	return b.String()
}

// A difference inside a sector is told by the sector, as the reference does.
func TestMismatchAsReference(t *testing.T) {
	inFolder(t)
	a := diskBytes(1 << 20)
	write(t, "a.raw", a)
	for _, at := range []int{0, 511, 70_000, 1<<20 - 1} {
		b := bytes.Clone(a)
		b[at] ^= 1
		write(t, "b.raw", b)
		sameAsReference(t, "compare", "-f", "raw", "-F", "raw", "a.raw", "b.raw")
		write(t, "b.raw", append(bytes.Clone(a), b[at:]...))
		sameAsReference(t, "compare", "-f", "raw", "-F", "raw", "a.raw", "b.raw")
	}
}
