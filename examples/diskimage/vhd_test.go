package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage/internal/imagetest"
	"github.com/diskimage-go/diskimage/internal/peer"
)

// makeVHDs makes VHD images of every kind that the reference writes in the
// current folder, from disk.raw, and returns their names.
func makeVHDs(t *testing.T) []string {
	t.Helper()
	img := func(args string) { t.Helper(); peer.Run(t, "qemu-img", strings.Fields(args)...) }
	write(t, "disk.raw", diskBytes(3<<20))
	require.NoError(t, os.Truncate("disk.raw", 9<<20))
	require.NoError(t, os.Mkdir("sub", 0o777))
	var names []string
	for _, kind := range []string{"dynamic", "fixed"} {
		img("convert -f raw -O vpc -o subformat=" + kind + " disk.raw " + kind + ".vhd")
		img("convert -f raw -O vpc -o force_size,subformat=" + kind + " disk.raw sub/" + kind + ".vhd")
		img("convert -f raw -S 0 -O vpc -o force_size,subformat=" + kind + " disk.raw full-" + kind + ".vhd")
		img("create -q -f vpc -o subformat=" + kind + " large-" + kind + ".vhd 5G")
		peer.Run(t, "qemu-io", "-f", "vpc", "-c", "write -P 3 1M 200k", "-c", "write -P 4 2147450880 128k", "-c", "write 5368643584 64k", "large-"+kind+".vhd")
		names = append(names, kind+".vhd", "sub/"+kind+".vhd", "full-"+kind+".vhd", "large-"+kind+".vhd")
	}
	img("create -q -f vpc empty.vhd 0")
	img("create -q -f vpc -o force_size huge.vhd 2040G")
	return append(names, "empty.vhd", "huge.vhd")
}

func TestVHDAsReference(t *testing.T) {
	peer.Find(t, "qemu-img")
	inFolder(t)
	for _, name := range makeVHDs(t) {
		declared := []string{"-f", "vpc"} // which the reference needs for a fixed one
		for _, verb := range []string{
			"info", "info --output=json", "info --output=json --backing-chain", "map", "map --output=json",
			"map -s 1000 -l 1000000 --output json", "measure -O qcow2", "measure -O raw --output=json",
		} {
			words := strings.Fields(verb)
			ours, _ := sameAsReference(t, append(append(words[:1:1], declared...), append(words[1:], name)...)...)
			told := command(t, append(words, name)...)
			require.Equal(t, ours, told, "told by the content")
			told = command(t, append(append(words[:1:1], "-f", "vhd"), append(words[1:], name)...)...)
			require.Equal(t, ours, told, "the alias")
		}
		require.Equal(t, 63, reference(t, "check", "-f", "vpc", name).code)
		require.Contains(t, succeed(t, "check", name), "No errors were found on the image.\n")
		require.Contains(t, succeed(t, "check", "--output=json", name), `"check-errors": 0`)
		require.Contains(t, succeed(t, "check", "-f", "vhd", "--output=json", name), `"format": "vpc"`)
	}
	for _, args := range []string{
		"compare sub/dynamic.vhd disk.raw", "compare -s sub/dynamic.vhd disk.raw", "compare dynamic.vhd full-dynamic.vhd", "compare -s dynamic.vhd full-dynamic.vhd",
		"compare -f vpc -F vpc fixed.vhd full-fixed.vhd", "compare -f vpc -F raw sub/fixed.vhd disk.raw", "compare -f vpc -F vpc large-fixed.vhd large-dynamic.vhd",
		"compare dynamic.vhd disk.raw", "info -f vpc disk.raw", "map -s 4G -l 1M --output=json large-dynamic.vhd",
		"convert -O qcow2 -l 1 dynamic.vhd target", "check nothing.vhd", "convert -c -O vpc disk.raw target", "convert -O vpc -B dynamic.vhd disk.raw target",
	} {
		sameAsReference(t, strings.Fields(args)...)
	}
}

// TestVHDConverts has what the reference makes converted, without a word of
// what it is.
func TestVHDConverts(t *testing.T) {
	peer.Find(t, "qemu-img")
	inFolder(t)
	for _, name := range makeVHDs(t) {
		if name == "huge.vhd" || name == "empty.vhd" || strings.HasPrefix(name, "large") {
			continue
		}
		peer.Run(t, "qemu-img", "convert", "-f", "vpc", "-O", "raw", name, "theirs.raw")
		for _, how := range []string{"-O raw", "-O qcow2", "-O qcow2 -c", "-O vmdk -c", "-O vpc -o subformat=fixed,force_size"} {
			succeed(t, append(strings.Fields("convert -q --verify "+how), name, "ours")...)
			format := strings.Fields(how)[1]
			peer.Run(t, "qemu-img", "compare", "-q", "-f", format, "-F", "raw", "ours", "theirs.raw")
		}
	}
}

// TestVHDSizeRule: whoever knows better than the image's maker says so.
func TestVHDSizeRule(t *testing.T) {
	inFolder(t)
	write(t, "image.vhd", imagetest.VHDBase().Bytes)
	for rule, size := range map[string]int{"auto": 65536, "current": 65536, "geometry": 34816} {
		succeed(t, "convert", "--size-rule="+rule, "image.vhd", "out.raw")
		require.Len(t, contents(t, "out.raw"), size, rule)
		require.Contains(t, succeed(t, "info", "--size-rule", rule, "--output=json", "image.vhd"), fmt.Sprintf(`"virtual-size": %d,`, size))
	}
	r := command(t, "info", "--size-rule=nonsense", "image.vhd")
	require.Equal(t, 1, r.code)
	require.Equal(t, "diskimage: --size-rule: nonsense is none of auto, current and geometry\n", r.stderr)
}

// TestVHDProducts has images of real products told and converted.
func TestVHDProducts(t *testing.T) {
	dir := os.Getenv("DISKIMAGE_SAMPLES")
	if dir == "" {
		t.Skip("DISKIMAGE_SAMPLES names no folder of images")
	}
	inFolder(t)
	at := func(name string) string { return filepath.Join(dir, name) }
	for name, digest := range map[string]string{
		"ntfs-fixed.vhd":        "cd81fade3878f1b2957f1ece168201876bdf4e90c9b30f60c2f232eba5fea76c",
		"ntfs-dynamic.vhd":      "8b10b52e3d1e76075d05a5101a6536b9fa8376a5b8f7c22f502d0987d165c876",
		"ntfs-parent.vhd":       "c91d1766dd4b3327f33a082cbf958d3566dd84a3d71c2473a5ae6155e53171de",
		"ntfs-differential.vhd": "b7922a46a6b08fa4f4fc0c51a25d5587d1d49f15cfade45ca740dd07110ae144",
	} {
		for _, how := range []string{"-O raw", "-O qcow2 -c", "-O vpc -o force_size", "-O vpc -o azure"} {
			words := append([]string{"convert", "--allow-external", "--verify", "--digest"}, strings.Fields(how)...)
			require.Contains(t, succeed(t, append(words, at(name), "out")...), digest+"  "+at(name)+" (guest disk)\n"+digest+"  out (guest disk)\n", how)
		}
		require.Contains(t, succeed(t, "check", "--allow-external", at(name)), "No errors were found on the image.\n")
		if name != "ntfs-differential.vhd" { // of which the reference knows no parent
			for _, verb := range []string{"map", "map --output=json"} {
				words := strings.Fields(verb)
				sameAsReference(t, append(append(words, "-f", "vpc"), at(name))...)
			}
			require.Contains(t, succeed(t, "info", at(name)), "file format: vpc\n")
			// Both sizes, of which the reference tells one.
			require.Contains(t, succeed(t, "info", at(name)), "Format specific information:\n    creator: win \n    current size: 4194304\n    geometry size: 4177920\n    size rule: current\n")
		}
	}

	// The differencing pair.
	r := command(t, "convert", at("ntfs-differential.vhd"), "target")
	require.Equal(t, 1, r.code)
	require.Contains(t, r.stderr, "ntfs-parent.vhd\": "+refusal().Error())
	require.NoFileExists(t, "target")
	chain := succeed(t, "info", "--allow-external", "--backing-chain", at("ntfs-differential.vhd"))
	require.Contains(t, chain, "backing file: ntfs-parent.vhd (actual path: "+at("ntfs-parent.vhd")+")\nbacking file format: vpc\n")
	require.Equal(t, 2, strings.Count(chain, "file format: vpc\n")-strings.Count(chain, "backing file format: vpc\n"))
	require.Contains(t, succeed(t, "map", "--allow-external", "--output=json", at("ntfs-differential.vhd")), `"depth": 1`)

	// Virtual PC's disk is as large as the larger of two sizes, or as one is told.
	r = command(t, "info", at("virtualpc-dynamic.vhd"))
	require.Contains(t, r.stdout, "(136365211648 bytes)")
	require.Contains(t, r.stderr, "its geometry covers 136363130880")
	require.Contains(t, succeed(t, "info", "--size-rule", "geometry", at("virtualpc-dynamic.vhd")), "(136363130880 bytes)")
	require.Equal(t, reference(t, "map", "--output=json", at("virtualpc-dynamic.vhd")).stdout, succeed(t, "map", "--size-rule=geometry", "--output=json", at("virtualpc-dynamic.vhd")))
}

// TestVHDBetterThanReference holds what the reference gets wrong in silence.
func TestVHDBetterThanReference(t *testing.T) {
	peer.Find(t, "qemu-img")
	inFolder(t)
	disk := diskBytes(3 << 20)
	write(t, "disk.raw", disk)
	peer.Run(t, "qemu-img", "convert", "-f", "raw", "-O", "vpc", "-o", "force_size", "disk.raw", "good.vhd")
	good := contents(t, "good.vhd")
	read := func() []byte {
		t.Helper()
		succeed(t, "convert", "-q", "-O", "raw", "image.vhd", "out.raw")
		return contents(t, "out.raw")
	}

	// Sectors whose bit is clear hold nothing, whatever lies there.
	p := bytes.Clone(good)
	p[2048] = 0x7f // the first sector of the first block: its bitmap is where its data is not
	write(t, "image.vhd", p)
	want := bytes.Clone(disk)
	clear(want[:512])
	require.True(t, bytes.Equal(want, read()))

	// The footer at the end is enough.
	p = bytes.Clone(good)
	clear(p[:512])
	write(t, "image.vhd", p)
	require.True(t, bytes.Equal(disk, read()))
	require.NotZero(t, reference(t, "info", "-f", "vpc", "image.vhd").code)
	require.Equal(t, exitCorrupt, command(t, "check", "image.vhd").code)

	// A fixed disk's footer is no part of the disk.
	peer.Run(t, "qemu-img", "convert", "-f", "raw", "-O", "vpc", "-o", "force_size,subformat=fixed", "disk.raw", "image.vhd")
	require.True(t, bytes.Equal(disk, read()))
	peer.Run(t, "qemu-img", "convert", "-O", "raw", "image.vhd", "theirs.raw")
	require.Len(t, contents(t, "theirs.raw"), len(disk)+512)
	r := command(t, "convert", "-f", "raw", "image.vhd", "target")
	require.Equal(t, "diskimage: Could not open 'image.vhd': declared raw, content is vpc (--raw-anyway takes its bytes for the disk's)\n", r.stderr)
	for _, words := range [][]string{{"-f", "raw", "--raw-anyway", "image.vhd"}, {"--spool", ".", "--raw-anyway", "-f", "raw", "-"}} {
		require.Zero(t, commandOn(t, bytes.NewReader(contents(t, "image.vhd")), append(append([]string{"convert"}, words...), "ours.raw")...).code)
		require.True(t, bytes.Equal(contents(t, "image.vhd"), contents(t, "ours.raw")))
	}
	for _, words := range [][]string{{"--spool", ".", "-"}, {"-"}, {"-f", "vpc", "-"}} {
		require.NoError(t, os.Remove("ours.raw"))
		require.Zero(t, commandOn(t, bytes.NewReader(contents(t, "image.vhd")), append(append([]string{"convert"}, words...), "ours.raw")...).code)
		require.True(t, bytes.Equal(disk, contents(t, "ours.raw")))
	}
	r = commandOn(t, bytes.NewReader(contents(t, "image.vhd")), "convert", "-f", "raw", "-", "target")
	require.Contains(t, r.stderr, "the stream ends as vpc does")
	require.NoFileExists(t, "target")
}
