package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage/internal/imagetest"
	"github.com/diskimage-go/diskimage/internal/peer"
)

// makeVMDKs makes VMDK images of every kind that the reference writes in the
// current folder, from disk.raw, and returns their names.
func makeVMDKs(t *testing.T) []string {
	t.Helper()
	img := func(args string) { t.Helper(); peer.Run(t, "qemu-img", strings.Fields(args)...) }
	io := func(name string, commands ...string) {
		t.Helper()
		args := []string{"-f", "vmdk"}
		for _, c := range commands {
			args = append(args, "-c", c)
		}
		peer.Run(t, "qemu-io", append(args, name)...)
	}
	write(t, "disk.raw", diskBytes(3<<20))
	require.NoError(t, os.Truncate("disk.raw", 5<<20))
	require.NoError(t, os.Mkdir("sub", 0o777))
	var names []string
	for _, subformat := range []string{"monolithicSparse", "monolithicFlat", "twoGbMaxExtentSparse", "twoGbMaxExtentFlat", "streamOptimized"} {
		names = append(names, subformat+".vmdk", "sub/"+subformat+".vmdk")
		img("convert -f raw -O vmdk -o subformat=" + subformat + " disk.raw " + subformat + ".vmdk")
		img("create -q -f vmdk -o adapter_type=lsilogic,compat6,subformat=" + subformat + " sub/" + subformat + ".vmdk 1M")
		if subformat != "streamOptimized" {
			img("create -q -f vmdk -o subformat=" + subformat + " large-" + subformat + ".vmdk 5G")
			io("large-"+subformat+".vmdk", "write -P 3 1M 200k", "write -P 4 2147450880 128k", "write 4G 64k", "write 5368643584 64k")
			names = append(names, "large-"+subformat+".vmdk")
		}
	}
	img("create -q -f vmdk -o zeroed_grain=on zeroed.vmdk 4M")
	io("zeroed.vmdk", "write -z 512k 256k", "write 0 200k", "write 900k 64k")
	img("create -q -f vmdk -b monolithicSparse.vmdk -F vmdk -o zeroed_grain=on over.vmdk")
	io("over.vmdk", "write -P 5 512k 100k", "write -z 64k 64k")
	img("create -q -f vmdk -b ../over.vmdk -F vmdk sub/top.vmdk")
	io("sub/top.vmdk", "write -P 6 100k 1M")
	write(t, "mixed.vmdk", descriptorOf("custom",
		`RW 4194304 SPARSE "large-twoGbMaxExtentSparse-s001.vmdk"`,
		`RW 10240 FLAT "monolithicFlat-flat.vmdk" 0`,
		`RW 2048 FLAT "disk.raw" 100`))
	p := strings.Replace(string(contents(t, "mixed.vmdk")), `"custom"`, `"twoGbMaxExtentSparse"`, 1) // custom is not read by the reference
	write(t, "mixed.vmdk", []byte(p))
	write(t, "vmfs.vmdk", descriptorOf("vmfs", `RW 10240 VMFS "monolithicFlat-flat.vmdk"`))
	return append(names, "zeroed.vmdk", "over.vmdk", "sub/top.vmdk", "mixed.vmdk", "vmfs.vmdk")
}

// descriptorOf returns a descriptor with these extent lines.
func descriptorOf(createType string, lines ...string) []byte {
	return fmt.Appendf(nil, "# Disk DescriptorFile\nversion=1\nCID=fffffffe\nparentCID=ffffffff\ncreateType=%q\n\n# Extent description\n%s\n",
		createType, strings.Join(lines, "\n"))
}

func TestVMDKAsReference(t *testing.T) {
	inFolder(t)
	t.Setenv(envExternal, "any")
	for _, name := range makeVMDKs(t) {
		for _, verb := range []string{
			"info", "info --output=json", "info --output=json --backing-chain", "map", "map --output=json",
			"map -s 1000 -l 1000000 --output json", "check", "check --output=json", "check -q", "measure -O qcow2", "measure -O raw --output=json",
		} {
			sameAsReference(t, append(strings.Fields(verb), name)...)
		}
	}
	for _, args := range []string{
		"compare disk.raw monolithicSparse.vmdk", "compare monolithicFlat.vmdk streamOptimized.vmdk", "compare -s twoGbMaxExtentFlat.vmdk twoGbMaxExtentSparse.vmdk",
		"compare over.vmdk monolithicSparse.vmdk", "compare -s over.vmdk monolithicSparse.vmdk", "compare zeroed.vmdk over.vmdk", "compare sub/top.vmdk over.vmdk",
		"compare -f vmdk -F raw vmfs.vmdk disk.raw", "compare mixed.vmdk large-twoGbMaxExtentFlat.vmdk",
		"info --backing-chain sub/top.vmdk", "info -f vmdk disk.raw", "info twoGbMaxExtentSparse-s001.vmdk", "map monolithicFlat-flat.vmdk",
		"convert -O qcow2 -l 1 monolithicSparse.vmdk target", "map -s 4G -l 1M --output=json large-twoGbMaxExtentFlat.vmdk", "check nothing.vmdk",
	} {
		sameAsReference(t, strings.Fields(args)...)
	}
}

// TestVMDKConverts has what the reference makes converted.
func TestVMDKConverts(t *testing.T) {
	inFolder(t)
	t.Setenv(envExternal, "own")
	for _, name := range makeVMDKs(t) {
		if strings.HasPrefix(name, "large") || name == "mixed.vmdk" || strings.HasPrefix(name, "sub/") {
			continue
		}
		peer.Run(t, "qemu-img", "convert", "-O", "raw", name, "theirs.raw")
		for _, how := range []string{"-O raw", "-O qcow2", "-O qcow2 -c", "-O qcow2 -S 0", "-O qcow2 -o cluster_size=4k -c"} {
			succeed(t, append(strings.Fields("convert -q --verify "+how), name, "ours")...)
			peer.Run(t, "qemu-img", "compare", "-q", "-F", "raw", "ours", "theirs.raw")
		}
	}
}

// Grains are moved into clusters, verified or, if it is asked for, trusted.
func TestGrainsAreMoved(t *testing.T) {
	inFolder(t)
	write(t, "disk.raw", diskBytes(3<<20))
	peer.Run(t, "qemu-img", "convert", "-f", "raw", "-O", "vmdk", "-o", "subformat=streamOptimized", "disk.raw", "stream.vmdk")
	r := command(t, "convert", "-O", "qcow2", "-c", "--progress=json", "stream.vmdk", "moved.qcow2")
	require.Zero(t, r.code, r.stderr)
	require.Contains(t, r.stderr, `"moved": 1572864, "unverified": 0,`)
	peer.Run(t, "qemu-img", "compare", "-q", "moved.qcow2", "disk.raw")
	peer.Run(t, "qemu-img", "check", "-q", "moved.qcow2")

	// The checksum of a grain of text is wrong.
	p := contents(t, "stream.vmdk")
	at := bytes.Index(p, binary.LittleEndian.AppendUint64(nil, 128))
	for p[at+12] != 0x78 {
		at += 1 + bytes.Index(p[at+1:], binary.LittleEndian.AppendUint64(nil, 128))
	}
	p[at+12+int(binary.LittleEndian.Uint32(p[at+8:]))-1] ^= 1
	write(t, "damaged.vmdk", p)
	for _, how := range []string{"-O raw", "-O qcow2", "-O qcow2 -c"} {
		r = command(t, append(strings.Fields("convert "+how), "damaged.vmdk", "out")...)
		require.Equal(t, 1, r.code)
		require.Contains(t, r.stderr, "0x10000")
		require.NoFileExists(t, "out")
	}
}

// A descriptor's files are opened if they may be; whoever is refused is told
// what allows it.
func TestVMDKExternal(t *testing.T) {
	inFolder(t)
	write(t, "disk.raw", diskBytes(1<<20))
	write(t, "flat.vmdk", descriptorOf("monolithicFlat", `RW 2048 FLAT "disk.raw" 0`))
	write(t, "passwd.vmdk", descriptorOf("monolithicFlat", `RW 1 FLAT "/etc/passwd" 0`))
	for _, verb := range []string{"info", "map", "check", "convert -O qcow2", "compare disk.raw", "measure -O qcow2"} {
		words := strings.Fields(verb)
		args := append(words, "flat.vmdk")
		if words[0] == "convert" {
			args = append(args, "out")
		}
		r := command(t, args...)
		require.NotZero(t, r.code, verb)
		require.Contains(t, r.stderr, "--allow-external allows files in the image's own folder", verb)
		r = command(t, append([]string{words[0], "--allow-external"}, args[1:]...)...)
		require.Zero(t, r.code, "%s: %s", verb, r.stderr)
		args[len(words)] = "passwd.vmdk"
		r = command(t, append([]string{words[0], "--allow-external"}, args[1:]...)...)
		require.NotZero(t, r.code, verb)
		require.Contains(t, r.stderr, "/etc/passwd", verb)
	}
	// What the image says of itself is told all the same.
	r := command(t, "info", "flat.vmdk")
	require.Contains(t, r.stdout, "create type: monolithicFlat")
	require.Contains(t, r.stdout, "filename: disk.raw")
	require.NotContains(t, listing(t), "out2")
}

// TestVMDKBetterThanReference holds what the reference gets wrong in silence.
func TestVMDKBetterThanReference(t *testing.T) {
	inFolder(t)
	t.Setenv(envExternal, "own")
	disk := diskBytes(3 << 20)
	write(t, "disk.raw", disk)
	read := func(name string) []byte {
		t.Helper()
		succeed(t, "convert", "-q", "-O", "raw", name, "out.raw")
		return contents(t, "out.raw")
	}

	// It leaves ZERO extents out, and what follows is shifted.
	write(t, "zero.vmdk", descriptorOf("custom", `RW 2048 FLAT "disk.raw" 0`, `RW 2048 ZERO`, `RW 2048 FLAT "disk.raw" 4096`))
	want := bytes.Clone(disk)
	clear(want[1<<20 : 2<<20])
	require.True(t, bytes.Equal(want, read("zero.vmdk")))
	require.Contains(t, succeed(t, "map", "--output=json", "zero.vmdk"), `{ "start": 1048576, "length": 1048576, "depth": 0, "present": true, "zero": true, "data": false}`)
	require.Contains(t, succeed(t, "info", "zero.vmdk"), "virtual size: 3 MiB")

	// And RDONLY ones: of such a disk nothing is left.
	write(t, "readonly.vmdk", descriptorOf("monolithicFlat", `RDONLY 6144 FLAT "disk.raw" 0`))
	require.True(t, bytes.Equal(disk, read("readonly.vmdk")))

	// Where an entry of the grain directory is lost it reads zeros, though the
	// redundant directory has it.
	peer.Run(t, "qemu-img", "convert", "-f", "raw", "-O", "vmdk", "disk.raw", "sparse.vmdk")
	p := contents(t, "sparse.vmdk")
	directory := binary.LittleEndian.Uint64(p[56:]) * 512
	binary.LittleEndian.PutUint32(p[directory:], 0xfffffff0)
	write(t, "damaged.vmdk", p)
	r := command(t, "convert", "-O", "raw", "damaged.vmdk", "out.raw")
	require.Zero(t, r.code, r.stderr)
	require.Contains(t, r.stderr, "redundant")
	require.True(t, bytes.Equal(disk, contents(t, "out.raw")))

	// A grain that was zeroed stays in the file: nothing refers to it.
	peer.Run(t, "qemu-img", "create", "-q", "-f", "vmdk", "-o", "zeroed_grain=on", "leak.vmdk", "1M")
	peer.Run(t, "qemu-io", "-f", "vmdk", "-c", "write 0 64k", "-c", "write -z 0 64k", "leak.vmdk")
	r = command(t, "check", "leak.vmdk")
	require.Equal(t, exitLeaks, r.code)
	require.Contains(t, r.stdout, "1 leaked clusters were found on the image.")
	require.Zero(t, reference(t, "check", "leak.vmdk").code)
}

// TestInfoLooksAtNothingElse holds that the size on disk, which is of all files
// of an image, tells nothing of those that it may not open.
func TestInfoLooksAtNothingElse(t *testing.T) {
	inFolder(t)
	write(t, "x.vmdk", []byte(imagetest.VMDKText{CreateType: "monolithicFlat", Extents: []string{`RW 128 FLAT "secret" 0`}}.String()))
	missing := command(t, "info", "x.vmdk")
	write(t, "secret", diskBytes(64<<10))
	require.Equal(t, 1, missing.code)
	require.Equal(t, missing, command(t, "info", "x.vmdk"))
	require.NotEqual(t, missing.stdout, succeed(t, "info", "--allow-external", "x.vmdk"))
}
