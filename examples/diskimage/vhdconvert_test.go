package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage/internal/peer"
)

// TestConvertToVHD: every kind is read by the reference as what went in, is as
// long as measured, and the same in a pipe.
func TestConvertToVHD(t *testing.T) {
	peer.Find(t, "qemu-img")
	inFolder(t)
	disk := diskBytes(5<<20 + 1000)
	write(t, "disk.raw", disk)
	for _, tc := range []struct {
		how  string
		size int64
	}{
		{"", 5_257_216}, // the smallest that a geometry covers
		{"-o subformat=fixed", 5_257_216},
		{"-o force_size=off,subformat=dynamic,block_size=64k", 5_257_216},
		{"-o force_size", 5<<20 + 1024},
		{"-o force_size=on,subformat=fixed", 5<<20 + 1024},
		{"-o force_size,block_size=4k", 5<<20 + 1024},
		{"-o azure", 6 << 20},
		{"-o azure=on,subformat=fixed,force_size=on", 6 << 20},
		{"-S 0 -o force_size", 5<<20 + 1024},
		{"-S 64k -m 3", 5_257_216},
	} {
		t.Run(tc.how, func(t *testing.T) {
			words := append(strings.Fields("-O vpc "+tc.how), "disk.raw")
			r := command(t, append(append([]string{"convert", "--verify"}, words...), "image.vhd")...)
			require.Zero(t, r.code, r.stderr)
			require.Contains(t, r.stderr, fmt.Sprintf("padded with zeros to %d\n", tc.size))
			require.NoError(t, os.WriteFile("padded.raw", disk, 0o666))
			require.NoError(t, os.Truncate("padded.raw", tc.size))
			peer.Run(t, "qemu-img", "compare", "-f", "vpc", "-F", "raw", "image.vhd", "padded.raw")
			require.Contains(t, succeed(t, "check", "image.vhd"), "No errors were found on the image.\n")
			succeed(t, "convert", "-O", "raw", "image.vhd", "back.raw")
			require.True(t, bytes.Equal(contents(t, "padded.raw"), contents(t, "back.raw")))

			words[1] = "vhd" // the alias
			piped := command(t, append(append([]string{"convert"}, words...), "-")...)
			require.Zero(t, piped.code, piped.stderr)
			require.True(t, piped.stdout == string(contents(t, "image.vhd")), "a pipe gets other bytes")

			if strings.Contains(tc.how, "-S") {
				return // measure has none
			}
			var m struct {
				Exact, Largest, Required int64
				Full                     int64 `json:"fully-allocated"`
			}
			text := succeed(t, append([]string{"measure", "--exact", "--output=json"}, words...)...)
			require.NoError(t, json.Unmarshal([]byte(text), &m))
			require.EqualValues(t, len(contents(t, "image.vhd")), m.Exact)
			require.LessOrEqual(t, m.Exact, m.Largest)
			require.LessOrEqual(t, m.Required, m.Full)
		})
	}

	// The passes that a pipe takes: one where nothing stands in front.
	for how, phases := range map[string]int{"subformat=dynamic": 2, "subformat=fixed": 1, "azure": 1} {
		r := command(t, "convert", "--progress=json", "-O", "vpc", "-o", how, "disk.raw", "-")
		require.Equal(t, phases == 2, strings.Contains(r.stderr, `"planning"`), how)
	}
	require.Contains(t, succeed(t, "measure", "-O", "vpc", "--size", "1G"), "required size: ")
}

func TestVHDOptionsRefused(t *testing.T) {
	inFolder(t)
	write(t, "disk.raw", diskBytes(1<<20))
	write(t, "large.raw", nil)
	require.NoError(t, os.Truncate("large.raw", 2040<<30+512))
	before := listing(t)
	for args, want := range map[string]string{
		"convert -c -O vpc disk.raw out":                                       "Compression not supported for this file format",
		"convert -O vpc --level 3 disk.raw out":                                "need -c",
		"convert -O vpc --trust-compressed disk.raw out":                       "needs -O qcow2 -c",
		"convert -O vpc -n disk.raw out":                                       "-n writes into an existing raw file",
		"convert -O vpc -S 4M disk.raw out":                                    "option '-S' with 4194304",
		"convert -O vpc -o subformat=fixed -S 64k disk.raw out":                "option '-S' with 65536",
		"convert -O vpc -o subformat=Fixed disk.raw out":                       "Parameter 'subformat' does not accept value 'Fixed'",
		"convert -O vpc -o force_size=maybe disk.raw out":                      "Parameter 'force_size' expects 'on' or 'off'",
		"convert -O vpc -o block_size=3M disk.raw out":                         "Block size must be a power of two between 4k and 2M",
		"convert -O vpc -o block_size=x disk.raw out":                          "Parameter 'block_size' expects a size",
		"convert -O vpc -o block_size=4k,subformat=fixed disk.raw out":         "a fixed disk has no blocks",
		"convert -O vpc -o azure,subformat=dynamic disk.raw out":               "option azure: it takes fixed disks of exact size",
		"convert -O vpc -o azure,force_size=off disk.raw out":                  "option azure: it takes fixed disks of exact size",
		"convert -O vpc -o cluster_size=64k disk.raw out":                      "Invalid parameter 'cluster_size'",
		"convert -O vpc -o backing_file=disk.raw disk.raw out":                 "Invalid parameter 'backing_file'",
		"convert -O vpc -o size=1G disk.raw out":                               "option 'size' is not supported",
		"convert -O vpc -B disk.raw disk.raw out":                              "requires explicit backing format",
		"convert -O vpc -B disk.raw -F raw disk.raw out":                       "the backing file of a vpc image must be one too: -F vpc",
		"convert -O vpc -B nothing.vhd -F vpc disk.raw out":                    "Could not open 'nothing.vhd'",
		"convert -O vpc -o subformat=fixed -B nothing.vhd -F vpc disk.raw out": "Fixed image can't have backing file",
		"convert -O vpc large.raw out":                                         "a VHD holds at most 2190433320960 (2040 GiB); QCOW2 has no such limit",
		"convert -O vpc -o subformat=fixed large.raw -":                        "a VHD holds at most 2190433320960 (2040 GiB); QCOW2 has no such limit",
		"measure --exact -c -O vpc disk.raw":                                   "-c needs --exact and -O qcow2 or vmdk",
	} {
		r := command(t, strings.Fields(args)...)
		require.Equal(t, 1, r.code, args)
		require.Contains(t, r.stderr, want, args)
		require.Equal(t, 1, strings.Count(r.stderr, "\n"), args)
		require.Equal(t, before, listing(t), args)
	}
	r := commandOn(t, bytes.NewReader(contents(t, "disk.raw")), "convert", "-f", "raw", "-O", "vpc", "-", "out.vhd")
	require.Equal(t, 1, r.code)
	require.Contains(t, r.stderr, "option size: -1: it has to be known before anything is written")
	require.Equal(t, before, listing(t))
}

func TestCreateVHDAsReference(t *testing.T) {
	peer.Find(t, "qemu-img")
	inFolder(t)
	for i, args := range []string{
		"NAME 10M", "NAME 1000", "NAME 0", "-o size=1T NAME", "-o force_size NAME 10M", "-o force_size=off NAME 100M", "-o force_size=on NAME 2040G", "NAME 2040G",
		"-o subformat=fixed NAME 3M", "-o subformat=fixed,force_size NAME 3M", "-o force_size=on,subformat=dynamic NAME 4G", "-q NAME 1M",
	} {
		t.Run(args, func(t *testing.T) {
			name := fmt.Sprintf("image%d.vhd", i)
			words := append([]string{"create", "-f", "vpc"}, strings.Fields(strings.ReplaceAll(args, "NAME", name))...)
			r, _ := sameAsReference(t, words...) // theirs is replaced by ours
			require.Empty(t, r.stderr)
			require.Zero(t, command(t, words...).code)
			ours := peer.Run(t, "qemu-img", "info", "-f", "vpc", "--output=json", name)
			peer.Run(t, "qemu-img", words...)
			theirs := peer.Run(t, "qemu-img", "info", "-f", "vpc", "--output=json", name)
			require.Empty(t, cmp.Diff(withoutDiskSize(theirs), withoutDiskSize(ours)))
		})
	}
	for _, args := range []string{
		"NAME", "NAME 2041G", "-o force_size=maybe NAME 1M", "-o cluster_size=4k NAME 1M", "-b image0.vhd -F vpc NAME 1M", "-b image0.vhd NAME 1M",
		"-o backing_file=image0.vhd NAME", "-F vpc NAME 1M",
	} {
		words := append([]string{"create", "-f", "vpc"}, strings.Fields(strings.ReplaceAll(args, "NAME", "name"))...)
		require.Equal(t, 1, command(t, words...).code)
		require.NoFileExists(t, "name")
		sameAsReference(t, words...)
		_ = os.Remove("name") // which the reference may leave
	}
	require.Contains(t, command(t, "create", "-f", "vpc", "name", "2041G").stderr, "(2040 GiB); QCOW2 has no such limit")
	require.Equal(t, "diskimage: note: vpc: the disk's size, 3072000 bytes, is no whole MiB, which Azure wants: padded with zeros to 3145728\n",
		command(t, "create", "-f", "vhd", "-o", "azure", "azure.vhd", "3000k").stderr)

	// What there is to say is the reference's, then ours.
	theirs, _, _ := strings.Cut(peer.Run(t, "qemu-img", "create", "-f", "vpc", "-o", "help"), "\n\n")
	for _, args := range []string{"create -f vpc -o help", "convert -O vhd -o help", "measure -O vpc -o help"} {
		ours := succeed(t, strings.Fields(args)...)
		require.True(t, strings.HasPrefix(ours, theirs+"\n"), ours)
		require.Contains(t, ours, "  azure=<bool (on/off)>  - ")
		require.Contains(t, ours, "  block_size=<size>      - ")
	}
}

// TestVHDChild: what is written over a parent is the source's own layer, and
// the parent is known by its identifier.
func TestVHDChild(t *testing.T) {
	peer.Find(t, "qemu-io")
	inFolder(t)
	t.Setenv(envExternal, "own")
	disk := diskBytes(5 << 20)
	write(t, "base.raw", disk)
	succeed(t, "convert", "-O", "vpc", "-o", "force_size", "base.raw", "base.vhd")

	// A layer of another format, over the same disk.
	succeed(t, "create", "-q", "-f", "qcow2", "-b", "base.raw", "-F", "raw", "top.qcow2")
	peer.Run(t, "qemu-io", "-c", "write -P 7 1000k 70k", "-c", "write -z 3M 200k", "top.qcow2")
	succeed(t, "convert", "top.qcow2", "changed.raw")
	require.False(t, bytes.Equal(disk, contents(t, "changed.raw")))
	for i, how := range []string{"", "-o block_size=64k", "-o subformat=dynamic,force_size", "-F vhd"} {
		target := fmt.Sprintf("top%d.vhd", i)
		words := append([]string{"convert", "--verify", "-O", "vpc", "-B", "base.vhd", "-F", "vpc"}, strings.Fields(how)...)
		succeed(t, append(words, "top.qcow2", target)...)
		require.Equal(t, "Images are identical.\n", succeed(t, "compare", target, "changed.raw"))
		require.Contains(t, succeed(t, "check", target), "No errors were found on the image.\n")
		require.Contains(t, succeed(t, "info", target), "backing file: base.vhd\nbacking file format: vpc\n")
		require.Contains(t, peer.Run(t, "vhdiinfo", target), "base.vhd")
	}

	// A layer of a VHD goes over the same parent, and over a copy elsewhere.
	require.NoError(t, os.Mkdir("sub", 0o777))
	succeed(t, "convert", "-O", "vpc", "-B", "../base.vhd", "-F", "vpc", "top0.vhd", "sub/top.vhd")
	require.Equal(t, "Images are identical.\n", succeed(t, "compare", "--allow-external=any", "sub/top.vhd", "changed.raw"))
	full, err := filepath.Abs("base.vhd")
	require.NoError(t, err)
	succeed(t, "convert", "-O", "vpc", "-B", full, "-F", "vpc", "top0.vhd", "absolute.vhd")
	require.Equal(t, "Images are identical.\n", succeed(t, "compare", "absolute.vhd", "changed.raw"))
	require.Less(t, len(contents(t, "absolute.vhd")), len(disk), "one layer, not the disk")

	// And a third on top of two.
	succeed(t, "convert", "-O", "vpc", "-B", "top0.vhd", "-F", "vpc", "base.raw", "third.vhd")
	require.Equal(t, "Images are identical.\n", succeed(t, "compare", "third.vhd", "base.raw"))
	require.Equal(t, 3, strings.Count(succeed(t, "info", "--backing-chain", "third.vhd"), "image: "))

	// The parent is not another image of the same name, nor of another size.
	succeed(t, "convert", "-O", "vpc", "-o", "force_size", "changed.raw", "base.vhd")
	r := command(t, "compare", "top0.vhd", "changed.raw")
	require.Contains(t, r.stderr, "parent unique id")
	succeed(t, "create", "-q", "-f", "vpc", "large.vhd", "6M")
	r = command(t, "convert", "-O", "vpc", "-B", "large.vhd", "-F", "vpc", "top.qcow2", "out")
	require.Equal(t, 1, r.code)
	require.Equal(t, "diskimage: out: a differencing disk is as large as its parent: the backing file 'large.vhd' has 6301696 bytes, the source 5242880\n", r.stderr)
	require.NoFileExists(t, "out")
}

// The image below is not written over.
func TestBackingFileIsNoTarget(t *testing.T) {
	inFolder(t)
	write(t, "disk.raw", diskBytes(1<<20))
	for format, name := range map[string]string{"qcow2": "base.qcow2", "vmdk": "base.vmdk", "vpc": "base.vhd"} {
		how := map[string]string{"vpc": "force_size"}[format]
		succeed(t, "create", "-q", "-f", format, "-o", how, name, "1M")
		succeed(t, "convert", "-q", "-O", format, "-B", name, "-F", format, name, "over")
		before := contents(t, name)
		for _, args := range []string{"convert -O FMT -B NAME -F FMT disk.raw NAME", "create -f FMT -b NAME -F FMT NAME"} {
			if format == "vpc" && strings.HasPrefix(args, "create") {
				continue
			}
			r := command(t, strings.Fields(strings.NewReplacer("FMT", format, "NAME", name).Replace(args))...)
			require.Equal(t, 1, r.code, args)
			require.Contains(t, r.stderr, name+": is the file "+name+", which is read\n")
			require.True(t, bytes.Equal(before, contents(t, name)))
		}
	}
}
