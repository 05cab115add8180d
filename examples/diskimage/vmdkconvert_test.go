package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage/internal/peer"
)

var subformats = []string{"monolithicSparse", "streamOptimized", "monolithicFlat", "twoGbMaxExtentSparse", "twoGbMaxExtentFlat"}

// TestConvertToVMDK: every kind is read by the reference and back, and its
// length is known before.
func TestConvertToVMDK(t *testing.T) {
	peer.Find(t, "qemu-img")
	inFolder(t)
	t.Setenv(envExternal, "own")
	disk := diskBytes(5<<20 + 1000)
	write(t, "disk.raw", disk)
	disk = append(disk, make([]byte, -len(disk)&511)...)
	write(t, "padded.raw", disk)
	var how []string
	for _, kind := range subformats {
		how = append(how, "-o subformat="+kind, "-S 0 -o subformat="+kind, "-m 3 -o adapter_type=lsilogic,hwversion=13,toolsversion=10338,subformat="+kind)
	}
	how = append(how, "-c", "-c --level 9", "-o compat6,zeroed_grain -S 64k", "-c -o subformat=streamoptimized")
	for i, how := range how {
		t.Run(how, func(t *testing.T) {
			target := fmt.Sprintf("%d/image.vmdk", i)
			require.NoError(t, os.Mkdir(fmt.Sprint(i), 0o777))
			words := append(strings.Fields("-O vmdk "+how), "disk.raw")
			r := command(t, append(append([]string{"convert", "--verify"}, words...), target)...)
			require.Zero(t, r.code, r.stderr)
			require.Contains(t, r.stderr, "padded with zeros")
			require.Equal(t, strings.HasPrefix(how, "-c") && !strings.Contains(how, "subformat"), strings.Contains(r.stderr, "note: -c: the image is a streamOptimized one"))
			peer.Run(t, "qemu-img", "compare", "-f", "vmdk", "-F", "raw", target, "padded.raw")
			if !strings.Contains(how, "Flat") {
				require.Contains(t, succeed(t, "check", target), "No errors were found on the image.\n")
				require.Contains(t, peer.Run(t, "qemu-img", "check", target), "No errors were found on the image.\n")
			}
			succeed(t, "convert", target, "back.raw")
			require.True(t, bytes.Equal(disk, contents(t, "back.raw")))

			list, err := os.ReadDir(fmt.Sprint(i))
			require.NoError(t, err)
			length := int64(0)
			for _, e := range list {
				info, err := e.Info()
				require.NoError(t, err)
				length += info.Size()
			}
			if strings.Contains(how, "--level") || strings.Contains(how, "-S") || strings.Contains(how, "-m") {
				return // measure has none of them
			}
			var m struct{ Exact, Largest int64 }
			text := succeed(t, append([]string{"measure", "--exact", "--output=json"}, words...)...)
			require.NoError(t, json.Unmarshal([]byte(text), &m))
			longer := length - m.Exact // by one for each time that the file's name is in it, which measure takes for disk.vmdk
			require.True(t, longer == 0 || len(list) > 1 && longer == int64(len(list)-1), longer)
			require.LessOrEqual(t, m.Exact, m.Largest)
		})
	}
}

// A pipe takes the kinds of one file, and is told what it cannot take.
func TestVMDKToPipe(t *testing.T) {
	inFolder(t)
	write(t, "disk.raw", diskBytes(3<<20))
	for _, kind := range subformats {
		r := command(t, "convert", "-O", "vmdk", "-o", "subformat="+kind, "disk.raw", "-")
		if strings.HasPrefix(kind, "mono") && strings.HasSuffix(kind, "Sparse") || kind == "streamOptimized" {
			require.Zero(t, r.code, r.stderr)
			write(t, "disk.vmdk", []byte(r.stdout))
			peer.Run(t, "qemu-img", "compare", "-f", "vmdk", "-F", "raw", "disk.vmdk", "disk.raw")
			succeed(t, "convert", "-O", "vmdk", "-o", "subformat="+kind, "disk.raw", "disk.vmdk")
			require.True(t, r.stdout == string(contents(t, "disk.vmdk")), "a file of this name is the same")
			continue
		}
		require.Equal(t, 1, r.code)
		require.Contains(t, r.stderr, "a "+kind+" image consists of several files, which cannot go into one pipe; a streamOptimized or a monolithicSparse one can")
		require.Empty(t, r.stdout)
	}
	r := commandOn(t, bytes.NewReader(contents(t, "disk.raw")), "convert", "-f", "raw", "-O", "vmdk", "-", "out.vmdk")
	require.Equal(t, 1, r.code)
	require.Contains(t, r.stderr, "size: it has to be known")
}

func TestVMDKOptionsRefused(t *testing.T) {
	inFolder(t)
	write(t, "disk.raw", diskBytes(1<<20))
	for args, want := range map[string]string{
		"convert -c -O vmdk -o subformat=monolithicFlat disk.raw out":                     "a monolithicFlat image cannot be compressed: -c needs subformat=streamOptimized",
		"convert -c -O vmdk -o subformat=monolithicSparse disk.raw out":                   "a monolithicSparse image cannot be compressed",
		"convert -c -O vmdk --window 4k disk.raw out":                                     "--window is not for a VMDK",
		"convert -c -O vmdk -o subformat=streamOptimized --level 10 disk.raw out":         "not between 1 and 9",
		"convert -O vmdk --level 3 disk.raw out":                                          "need -c",
		"convert -O vmdk -o subformat=vmfs disk.raw out":                                  "invalid parameter value: vmfs",
		"convert -O vmdk -o hwversion=200 disk.raw out":                                   "not one of 1 to 99",
		"convert -O vmdk -o hwversion=x disk.raw out":                                     "'hwversion' expects a number",
		"convert -O vmdk -o toolsversion=x disk.raw out":                                  "'toolsversion' expects a number",
		"convert -O vmdk -o cluster_size=64k disk.raw out":                                "Invalid parameter 'cluster_size'",
		"convert -O vmdk -o subformat=monolithicFlat,zeroed_grain disk.raw out":           "Flat image can't enable zeroed grain",
		"convert -O vmdk -o compat6,hwversion=7 disk.raw out":                             "compat6 cannot be enabled with hwversion set",
		"convert -O vmdk -S 128k disk.raw out":                                            "option '-S' with 131072",
		"convert -O vmdk -o subformat=monolithicFlat -S 64k disk.raw out":                 "option '-S' with 65536",
		"convert -O vmdk -n disk.raw out":                                                 "-n writes into an existing raw file",
		"convert -O vmdk -B disk.raw -F raw disk.raw out":                                 "backing_file must be a vmdk image",
		"convert -O vmdk -o subformat=streamOptimized -B nothing -F vmdk -q disk.raw out": "nothing",
		"create -f vmdk -o adapter_type=scsi out 1M":                                      "invalid parameter value: scsi",
		"create -f vmdk out 0":                                                            "option size",
		"create -q -f vmdk -o subformat=twoGbMaxExtentSparse out 20T":                     "10240 of 10000 at most",
	} {
		r := command(t, strings.Fields(args)...)
		require.Equal(t, 1, r.code, args)
		require.Contains(t, r.stderr, want, args)
		require.Equal(t, 1, strings.Count(r.stderr, "\n"), args)
		require.Equal(t, []string{"disk.raw"}, listing(t), args)
	}
}

// TestVMDKSetTargets: none of a set's files is written over unless it is
// forced, and none that is read in any case.
func TestVMDKSetTargets(t *testing.T) {
	inFolder(t)
	t.Setenv(envExternal, "own")
	write(t, "disk.raw", diskBytes(3<<20))
	toFlat := strings.Fields("convert -q -O vmdk -o subformat=monolithicFlat")
	succeed(t, append(toFlat, "disk.raw", "a.vmdk")...)
	before := contents(t, "a.vmdk")
	for _, remove := range []string{"", "a.vmdk", "a-flat.vmdk"} {
		if remove != "" {
			require.NoError(t, os.Remove(remove))
		}
		r := command(t, append(toFlat, "disk.raw", "a.vmdk")...)
		require.Equal(t, 1, r.code)
		require.Regexp(t, `^diskimage: a(-flat)?\.vmdk: exists: an image of several files is written over others only with --force\n$`, r.stderr)
		if remove != "" {
			succeed(t, append(toFlat, "--force", "disk.raw", "a.vmdk")...)
		}
	}
	require.Equal(t, before, contents(t, "a.vmdk"), "the same disk, the same descriptor")
	require.Equal(t, []string{"a-flat.vmdk", "a.vmdk", "disk.raw"}, listing(t))

	for _, source := range []string{"a.vmdk", "a-flat.vmdk"} {
		r := command(t, append(toFlat, "--force", source, "a.vmdk")...)
		require.Equal(t, 1, r.code)
		require.Contains(t, r.stderr, ", which is read\n")
	}
	r := command(t, "convert", "-O", "raw", "a.vmdk", "a-flat.vmdk")
	require.Contains(t, r.stderr, "a-flat.vmdk: is the file a-flat.vmdk, which is read\n")
	require.NoError(t, os.Mkdir("b-flat.vmdk", 0o777))
	r = command(t, append(toFlat, "--force", "disk.raw", "b.vmdk")...)
	require.Contains(t, r.stderr, "b-flat.vmdk: is a folder")
	require.NoError(t, os.Remove("b-flat.vmdk"))

	// What stood there is whole when the source fails.
	require.NoError(t, os.WriteFile("broken.vmdk", contents(t, "a.vmdk")[:200], 0o666))
	r = command(t, append(toFlat, "--force", "-f", "vmdk", "broken.vmdk", "a.vmdk")...)
	require.Equal(t, 1, r.code)
	require.Equal(t, before, contents(t, "a.vmdk"))
	require.Equal(t, []string{"a-flat.vmdk", "a.vmdk", "broken.vmdk", "disk.raw"}, listing(t))
}

func TestCreateVMDKAsReference(t *testing.T) {
	peer.Find(t, "qemu-img")
	inFolder(t)
	t.Setenv(envExternal, "own")
	write(t, "base.raw", diskBytes(3<<20))
	peer.Run(t, "qemu-img", "convert", "-f", "raw", "-O", "vmdk", "base.raw", "base.vmdk")
	list := []string{"NAME 10M", "NAME 1000", "-o size=1T NAME", "-o compat6 NAME 1M", "-o hwversion=11 NAME 1M", "-o adapter_type=lsilogic NAME 100M",
		"-o zeroed_grain=on NAME 1M", "-o adapter_type=legacyESX,compat6=off,toolsversion=7,zeroed_grain=off NAME 3G", "-q NAME 1M",
		"-b base.vmdk -F vmdk NAME", "-b base.vmdk -F vmdk NAME 5M", "-o backing_file=base.vmdk,backing_fmt=vmdk,subformat=twoGbMaxExtentSparse,zeroed_grain=on NAME"}
	for _, kind := range subformats {
		list = append(list, "-o subformat="+kind+" NAME 5G", "-o adapter_type=buslogic,subformat="+kind+" NAME 2100M")
	}
	hidden := regexp.MustCompile(`"(parent-)?(cid)": \d+|"filename": "[^"]*"|"actual-size": \d+`)
	for i, args := range list {
		t.Run(args, func(t *testing.T) {
			name := fmt.Sprintf("image%d.vmdk", i)
			words := append([]string{"create", "-f", "vmdk"}, strings.Fields(strings.ReplaceAll(args, "NAME", name))...)
			r := command(t, words...)
			require.Zero(t, r.code, r.stderr)
			require.Contains(t, peer.Run(t, "qemu-img", "info", "--output=json", name), `"vmdk"`)
			ours := hidden.ReplaceAllString(peer.Run(t, "qemu-img", "info", "--output=json", name), "")
			if !strings.Contains(args, "Flat") {
				require.Contains(t, peer.Run(t, "qemu-img", "check", name), "No errors")
			}
			if strings.Contains(args, "base.vmdk") {
				peer.Run(t, "qemu-img", "compare", "base.vmdk", name) // it shows through
			}
			require.Equal(t, peer.Run(t, "qemu-img", words...), r.stdout)
			theirs := hidden.ReplaceAllString(peer.Run(t, "qemu-img", "info", "--output=json", name), "")
			require.Empty(t, cmp.Diff(theirs, ours))
		})
	}
	for _, args := range []string{
		"create -f vmdk -o help", "create -f vmdk -b base.vmdk -F vmdk -o subformat=monolithicFlat name 1M", "create -f vmdk -b base.vmdk -F raw name 1M",
		"create -f vmdk name", "create -f vmdk -b base.vmdk name 1M", "create -f vmdk -b nothing.vmdk -F vmdk name",
	} {
		ours, theirs := command(t, strings.Fields(args)...), reference(t, strings.Fields(args)...)
		require.Equal(t, theirs.code, ours.code, args)
		if theirs.code == 0 {
			require.True(t, strings.HasPrefix(theirs.stdout, ours.stdout), "%s: %s", args, ours.stdout)
		}
		_ = os.Remove("name")
	}
}

// TestVMDKChild: what is written over a parent is the source's own layer, and
// the parent is known by its CID.
func TestVMDKChild(t *testing.T) {
	peer.Find(t, "qemu-img")
	inFolder(t)
	t.Setenv(envExternal, "own")
	makeVMDKs(t)
	for _, how := range []string{"", ",zeroed_grain=on", ",subformat=twoGbMaxExtentSparse"} {
		succeed(t, "convert", "--verify", "--force", "-O", "vmdk", "-o", "adapter_type=lsilogic"+how, "-B", "monolithicSparse.vmdk", "-F", "vmdk", "over.vmdk", "thin.vmdk")
		words := []string{"compare", "over.vmdk", "thin.vmdk"}
		if strings.Contains(how, "zeroed_grain") { // else zeros are stored
			words = append(words, "-s")
		}
		peer.Run(t, "qemu-img", words...)
		require.Equal(t, "Images are identical.\n", succeed(t, "compare", "over.vmdk", "thin.vmdk"))
	}
	r := command(t, strings.Fields("convert -O vmdk -o subformat=streamOptimized -B monolithicSparse.vmdk -F vmdk over.vmdk thin.vmdk")...)
	require.Contains(t, r.stderr, "a streamOptimized image does not have one")
	r = command(t, strings.Fields("convert -O vmdk -o subformat=monolithicFlat -B monolithicSparse.vmdk -F vmdk over.vmdk thin.vmdk")...)
	require.Contains(t, r.stderr, "Flat image can't have backing file")
}
