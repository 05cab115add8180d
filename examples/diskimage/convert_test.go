package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage/internal/imagetest"
	"github.com/diskimage-go/diskimage/internal/peer"
)

// targets are the ways to write an image.
var targets = []string{
	"-O qcow2", "-O raw", "-O qcow2 -c", "-O qcow2 -c -o compression_type=zstd", "-O qcow2 -c --level 6", "-O qcow2 -c --window 32k --level 3", "-O qcow2 -c --window auto",
	"-O qcow2 -o compat=v2", "-O qcow2 -o compat=0.10 -c --level 1", "-O qcow2 -o cluster_size=512", "-Oqcow2 -ocluster_size=2M,refcount_bits=1 -c",
	"-O qcow2 -o refcount_bits=64,lazy_refcounts=on,preallocation=off", "-O qcow2 -S 0", "-O raw -S 0", "-O qcow2 -S 4k -m 3 -W", "-O qcow2 -S 512 -T none -U",
}

func TestConvertAndBack(t *testing.T) {
	inFolder(t)
	disk := diskBytes(5<<20 + 1000)
	write(t, "disk.raw", disk)
	digest := fmt.Sprintf("%x", sha256.Sum256(disk))
	for _, how := range targets {
		how = strings.ReplaceAll(how, "", "")
		t.Run(how, func(t *testing.T) {
			args := append([]string{"convert", "-q", "--verify", "--digest", "-t", "unsafe"}, strings.Fields(how)...)
			got := succeed(t, append(args, "disk.raw", "image")...)
			file := fmt.Sprintf("%x", sha256.Sum256(contents(t, "image")))
			require.Equal(t, digest+"  disk.raw (guest disk)\n"+digest+"  image (guest disk)\n"+file+"  image\n", got)
			succeed(t, "convert", "-q", "image", "back.raw")
			padded := (len(disk) + 511) &^ 511
			if strings.Contains(how, "raw") {
				padded = len(disk)
			}
			require.True(t, bytes.Equal(append(disk[:len(disk):len(disk)], make([]byte, padded-len(disk))...), contents(t, "back.raw")))
			if strings.Contains(how, "qcow2") {
				require.Contains(t, succeed(t, "check", "image"), "No errors were found on the image.\n")
			}
			require.Contains(t, succeed(t, "compare", "disk.raw", "image"), "Images are identical.\n")

			// The same to a pipe.
			require.True(t, bytes.Equal(contents(t, "image"), []byte(succeed(t, append(append([]string{"convert", "-q"}, strings.Fields(how)...), "disk.raw", "-")...))))
		})
	}
}

func TestConvertIsReadByReference(t *testing.T) {
	peer.Find(t, "qemu-img")
	inFolder(t)
	write(t, "disk.raw", diskBytes(5<<20))
	for _, how := range targets {
		how = strings.ReplaceAll(how, "", "")
		format := "qcow2"
		if strings.Contains(how, "raw") {
			format = "raw"
		}
		succeed(t, append(append([]string{"convert"}, strings.Fields(how)...), "disk.raw", "image")...)
		require.Equal(t, "Images are identical.\n", peer.Run(t, "qemu-img", "compare", "-f", "raw", "-F", format, "disk.raw", "image"), how)
		if format == "qcow2" {
			require.True(t, strings.HasPrefix(peer.Run(t, "qemu-img", "check", "image"), "No errors were found on the image.\n"), how)
		}
	}
}

func TestConvertEverySource(t *testing.T) {
	peer.Find(t, "qemu-img")
	inFolder(t)
	t.Setenv(envExternal, "own")
	for _, name := range makeImages(t) {
		if name == "huge.qcow2" {
			continue
		}
		for _, how := range []string{"-O raw", "-O qcow2 -c"} {
			succeed(t, append(append([]string{"convert", "--verify"}, strings.Fields(how)...), name, "image")...)
			require.Equal(t, "Images are identical.\n", peer.Run(t, "qemu-img", "compare", name, "image"), name)
		}
	}
	succeed(t, "convert", "-l", "first", "snapshots.qcow2", "image")
	peer.Run(t, "qemu-img", "convert", "-l", "first", "snapshots.qcow2", "theirs")
	require.True(t, bytes.Equal(contents(t, "theirs"), contents(t, "image")))
	succeed(t, "convert", "-l", "snapshot.id=1,snapshot.name=first", "snapshots.qcow2", "again")
	require.True(t, bytes.Equal(contents(t, "theirs"), contents(t, "again")))
	require.Contains(t, command(t, "convert", "-l", "snapshot.id=2,snapshot.name=first", "snapshots.qcow2", "again").stderr, "Can't find snapshot")

	// What the image is made of is not written over.
	for image, parts := range map[string][]string{"data.qcow2": {"data.qcow2", "data.raw"}, "top.qcow2": {"middle.qcow2", "snapshots.qcow2"}, "onraw.qcow2": {"disk.raw"}} {
		for _, part := range parts {
			r := command(t, "convert", image, part)
			require.Equal(t, 1, r.code, part)
			require.Equal(t, "diskimage: "+part+": is the file "+part+", which is read\n", r.stderr)
		}
	}
}

// TestBackingTarget converts only what the source's own layer holds, on what
// is below it, and disks that have nothing below on a base that is not theirs:
// what a guest sees stays the same.
func TestBackingTarget(t *testing.T) {
	peer.Find(t, "qemu-img")
	inFolder(t)
	t.Setenv(envExternal, "own")
	makeImages(t)
	succeed(t, "convert", "-O", "qcow2", "--verify", "-B", "middle.qcow2", "-F", "qcow2", "top.qcow2", "thin.qcow2")
	require.Equal(t, "Images are identical.\n", peer.Run(t, "qemu-img", "compare", "-s", "top.qcow2", "thin.qcow2"))

	write(t, "full.raw", bytes.Repeat([]byte{9}, 8<<20))
	zeros := imagetest.QCOW2{Clusters: []imagetest.Cluster{
		{Kind: imagetest.Packed, Data: bytes.Repeat([]byte{1}, 64<<10)}, {Kind: imagetest.Packed, Data: make([]byte, 64<<10)},
	}}
	write(t, "packed.qcow2", zeros.Build().Bytes) // a compressed cluster of zeros, which is moved or is not
	for _, source := range []string{"disk.raw", "plain.qcow2", "v2.qcow2", "extended.qcow2", "zlib.qcow2", "metadata.qcow2", "packed.qcow2"} {
		for _, how := range []string{"", " -c", " -o cluster_size=512", " -o cluster_size=2M", " -o compat=v2", " -c -o compat=v2"} {
			args := "convert --verify -O qcow2 -B full.raw -F raw" + how
			succeed(t, append(strings.Fields(args), source, "target")...)
			require.Equal(t, "Images are identical.\n", peer.Run(t, "qemu-img", "compare", source, "target"), "%s %s", args, source)
			require.True(t, strings.HasPrefix(peer.Run(t, "qemu-img", "check", "target"), "No errors"))
		}
	}

	for args, want := range map[string]string{
		"-B none.raw -F raw top.qcow2":         "Could not open 'none.raw'",
		"-B disk.raw -F qcow2 top.qcow2":       "declared qcow2, content is no qcow2",
		"-B sub/base.qcow2 -F qcow2 top.qcow2": "the backing file 'sub/base.qcow2' has 1048576 bytes, fewer than the 6291456 that the source has below",
	} {
		r := command(t, append(append([]string{"convert", "-O", "qcow2"}, strings.Fields(args)...), "refused")...)
		require.Equal(t, 1, r.code, args)
		require.Contains(t, r.stderr, want)
		require.NoFileExists(t, "refused")
	}
}

func TestStandardInput(t *testing.T) {
	inFolder(t)
	disk := diskBytes(3<<20 + 512)
	write(t, "disk.raw", disk)
	succeed(t, "convert", "-O", "qcow2", "disk.raw", "want.qcow2")

	for _, format := range []string{"", "raw"} { // a pipe
		r := commandOn(t, bytes.NewReader(disk), "convert", "-f", format, "-O", "qcow2", "-", "piped.qcow2")
		require.Zero(t, r.code, r.stderr)
		require.True(t, bytes.Equal(contents(t, "want.qcow2"), contents(t, "piped.qcow2")))
	}
	file, err := os.Open("want.qcow2") // a file
	require.NoError(t, err)
	defer file.Close()
	r := commandOn(t, file, "convert", "-", "back.raw")
	require.Zero(t, r.code, r.stderr)
	require.True(t, bytes.Equal(disk, contents(t, "back.raw")))
	r = commandOn(t, file, "convert", "-O", "qcow2", "-", "-") // twice
	require.Zero(t, r.code, r.stderr)
	require.Equal(t, string(contents(t, "want.qcow2")), r.stdout)
	r = commandOn(t, file, "info", "--output=json", "-")
	require.Zero(t, r.code, r.stderr)
	require.Contains(t, r.stdout, `"format": "qcow2"`)

	for _, tc := range []struct{ args, want string }{
		{"convert -O qcow2 - out", "qcow2: where its data is, its tables tell"},
		{"convert -f raw -O qcow2 - out", "declared raw, content is qcow2"},
		{"convert -f qcow2 -O qcow2 - out", "--spool"},
		{"convert -f vmdk -O qcow2 - out", "declared vmdk, content is qcow2"},
		{"convert -f raw --raw-anyway -O qcow2 - -", "--spool"},
		{"convert -n -f raw --raw-anyway - out", "how large the disk in it is shows only at its end"},
		{"convert -l 1 -f raw --raw-anyway - out", "no snapshots"},
		{"convert --spool nowhere - out", "nowhere"},
		{"info -", "standard input is a pipe"},
		{"map -", "--spool DIR"},
		{"check -", "--spool DIR"},
		{"measure -O qcow2 -", "--spool DIR"},
		{"compare - disk.raw", "standard input is a pipe"},
	} {
		r := commandOn(t, bytes.NewReader(contents(t, "want.qcow2")), strings.Fields(tc.args)...)
		require.NotZero(t, r.code, tc.args)
		require.Contains(t, r.stderr, tc.want, tc.args)
		require.NoFileExists(t, "out")
	}
	r = commandOn(t, bytes.NewReader(contents(t, "want.qcow2")), "convert", "-f", "raw", "--raw-anyway", "-", "copy")
	require.Zero(t, r.code, r.stderr)
	require.True(t, bytes.Equal(contents(t, "want.qcow2"), contents(t, "copy")))
}

func TestInPlace(t *testing.T) {
	inFolder(t)
	disk := diskBytes(2 << 20)
	write(t, "disk.raw", disk)
	write(t, "target", bytes.Repeat([]byte{0xee}, 3<<20))
	before, err := os.Stat("target")
	require.NoError(t, err)
	succeed(t, "convert", "-n", "disk.raw", "target")
	after, err := os.Stat("target")
	require.NoError(t, err)
	require.True(t, os.SameFile(before, after))
	got := contents(t, "target")
	require.True(t, bytes.Equal(disk, got[:len(disk)]))
	require.True(t, bytes.Equal(bytes.Repeat([]byte{0xee}, 1<<20), got[len(disk):]), "what lies behind the disk stays")

	write(t, "target", make([]byte, 2<<20))
	succeed(t, "convert", "-n", "--target-is-zero", "disk.raw", "target")
	require.True(t, bytes.Equal(disk, contents(t, "target")))

	write(t, "target", make([]byte, 1<<20))
	r := command(t, "convert", "-n", "disk.raw", "target")
	require.Equal(t, 1, r.code)
	require.Contains(t, r.stderr, "output file is smaller than input file")
	require.True(t, bytes.Equal(make([]byte, 1<<20), contents(t, "target")))
}

// TestTargetsRefused holds that what must not be overwritten is not, by
// whatever name it goes.
func TestTargetsRefused(t *testing.T) {
	inFolder(t)
	disk := diskBytes(1 << 20)
	write(t, "disk.raw", disk)
	succeed(t, "create", "-q", "-f", "qcow2", "-b", "disk.raw", "-F", "raw", "top.qcow2")
	top := contents(t, "top.qcow2")
	require.NoError(t, os.Link("disk.raw", "hard"))
	require.NoError(t, os.Symlink("disk.raw", "soft"))
	require.NoError(t, os.Mkdir("folder", 0o777))
	absolute, err := filepath.Abs("disk.raw")
	require.NoError(t, err)
	open, err := os.Open("disk.raw")
	require.NoError(t, err)
	defer open.Close()
	cases := map[string]string{
		"disk.raw": "is read", "./folder/../disk.raw": "is read", "hard": "is read", "soft": "is read", absolute: "is read",
		"folder": "is a folder", "missing/target": "no such file",
	}
	if _, err := os.Stat("/proc/self/fd"); err == nil {
		cases[fmt.Sprintf("/proc/self/fd/%d", open.Fd())] = "is read"
		cases["/dev/null"] = "is a character device"
	}
	makeFIFO(t, cases)
	before := listing(t)
	for name, want := range cases {
		for _, source := range []string{"disk.raw", "top.qcow2"} {
			r := command(t, "convert", "-O", "qcow2", "--allow-external", source, name)
			require.Equal(t, 1, r.code, name)
			require.Contains(t, r.stderr, want, name)
			require.Equal(t, before, listing(t), name)
		}
	}
	require.True(t, bytes.Equal(disk, contents(t, "disk.raw")))
	require.True(t, bytes.Equal(top, contents(t, "top.qcow2")))

	// Any other link is followed, and that is said.
	write(t, "old", []byte("old"))
	require.NoError(t, os.Remove("soft"))
	require.NoError(t, os.Symlink("old", "soft"))
	r := command(t, "convert", "disk.raw", "soft")
	require.Zero(t, r.code, r.stderr)
	require.Equal(t, "diskimage: note: soft is a symbolic link: what it leads to, old, was written\n", r.stderr)
	require.True(t, bytes.Equal(disk, contents(t, "old")))
	link, err := os.Readlink("soft")
	require.NoError(t, err)
	require.Equal(t, "old", link)
}

func TestOptionsRefused(t *testing.T) {
	inFolder(t)
	write(t, "disk.raw", diskBytes(1<<20))
	for args, want := range map[string]string{
		"convert -r 1M disk.raw out":                                       "option '-r' is not supported",
		"convert --bitmaps disk.raw out":                                   "option '--bitmaps' is not supported",
		"convert --image-opts disk.raw out":                                "option '--image-opts' is not supported",
		"convert --object x disk.raw out":                                  "option '--object' is not supported",
		"convert -O ova disk.raw out":                                      "format ova cannot be written, only qcow2, raw, vmdk and vpc can",
		"convert -O qcow2 -o preallocation=full disk.raw out":              "preallocation=full is not supported",
		"convert -O qcow2 -o extended_l2=on disk.raw out":                  "extended_l2=on is not supported",
		"convert -O qcow2 -o data_file=x disk.raw out":                     "option 'data_file' is not supported",
		"convert -O qcow2 -o encrypt.format=luks disk.raw out":             "option 'encrypt.format' is not supported",
		"convert -O qcow2 -o nonsense=1 disk.raw out":                      "Invalid parameter 'nonsense'",
		"convert -O qcow2 -o cluster_size=3 disk.raw out":                  "Cluster size must be a power of two",
		"convert -O qcow2 -o compat=4 disk.raw out":                        "does not accept value '4'",
		"convert -O qcow2 -o size=1G disk.raw out":                         "option 'size' is not supported",
		"convert -O qcow2 -o compression_type=zstd disk.raw out":           "needs -c",
		"convert -O qcow2 -o compat=v2,compression_type=zstd disk.raw out": "compatibility level 1.1",
		"convert -O qcow2 --level 3 disk.raw out":                          "need -c",
		"convert -O qcow2 -c --level 10 disk.raw out":                      "between 1 and 9",
		"convert -O qcow2 -c --window 8k disk.raw out":                     "none of auto, 4k and 32k",
		"convert -O qcow2 --trust-compressed disk.raw out":                 "needs -O qcow2 -c",
		"convert -O qcow2 -c --trust-compressed --digest disk.raw out":     "a digest and a verification need the data",
		"convert -O qcow2 -c --trust-compressed disk.raw out":              "only the grains of a VMDK image",
		"convert -O qcow2 -S 128k disk.raw out":                            "option '-S' with 131072 is not supported",
		"convert -O qcow2 -o cluster_size=512 -S 4k disk.raw out":          "option '-S' with 4096 is not supported",
		"convert -S 512 disk.raw out":                                      "option '-S' with 512 is not supported",
		"convert -O qcow2 -n disk.raw out":                                 "-n writes into an existing raw file",
		"convert -C -S 4k disk.raw out":                                    "Cannot enable copy offloading",
		"convert -O qcow2 -B disk.raw disk.raw out":                        "requires explicit backing format",
		"convert -O qcow2 -S 0 -B disk.raw -F raw disk.raw out":            "-S 0 allocates everything",
		"convert -O qcow2 --digest -B disk.raw -F raw disk.raw out":        "--digest and --block-hash are of the whole disk",
		"convert --verify disk.raw -":                                      "cannot be read back",
		"convert --progress=xml disk.raw out":                              "--progress: xml is not json",
		"convert disk.raw disk.raw out":                                    "2 source images",
		"check -r all disk.raw":                                            "option '-r' is not supported",
		"create -f ova out 1M":                                             "format ova cannot be written",
		"measure --exact -c disk.raw":                                      "-c needs --exact and -O qcow2 or vmdk",
	} {
		r := command(t, strings.Fields(args)...)
		require.Equal(t, 1, r.code, args)
		require.Contains(t, r.stderr, want, args)
		require.Equal(t, 1, strings.Count(r.stderr, "\n"), args)
		require.Equal(t, []string{"disk.raw"}, listing(t), args)
	}
}

func TestProgress(t *testing.T) {
	inFolder(t)
	write(t, "disk.raw", diskBytes(8<<20))
	out := succeed(t, "convert", "-p", "--verify", "-O", "qcow2", "disk.raw", "out")
	require.True(t, strings.HasPrefix(out, "    (0.00/100%)\r"), "%q", out)
	require.True(t, strings.HasSuffix(out, "    (100.00/100%)\r\n"), "%q", out)
	require.Equal(t, 1, strings.Count(out, "(100.00"))

	r := command(t, "convert", "--progress=json", "-O", "qcow2", "disk.raw", "-")
	require.Zero(t, r.code)
	var phases []string
	for line := range strings.Lines(r.stderr) {
		var event struct {
			Event, Phase string
			Done, Total  int64
			Size         int64
		}
		require.NoError(t, json.Unmarshal([]byte(line), &event), line)
		if event.Event == "report" {
			require.EqualValues(t, 8<<20, event.Size)
			continue
		}
		require.Equal(t, "progress", event.Event)
		require.LessOrEqual(t, event.Done, event.Total)
		if n := len(phases); n == 0 || phases[n-1] != event.Phase {
			phases = append(phases, event.Phase)
		}
	}
	require.Equal(t, []string{"planning", "converting"}, phases)
	require.Contains(t, r.stderr, `"event": "report"`)
}

func TestMeasureExactly(t *testing.T) {
	inFolder(t)
	write(t, "disk.raw", diskBytes(5<<20))
	for _, how := range []string{"-O qcow2", "-O qcow2 -c", "-O qcow2 -o cluster_size=4k,compat=v2", "-O raw"} {
		words := strings.Fields(how)
		succeed(t, append(append([]string{"convert"}, words...), "disk.raw", "out")...)
		var m struct{ Exact, Largest, Required int64 }
		text := succeed(t, append(append([]string{"measure", "--exact", "--output=json"}, words...), "disk.raw")...)
		require.NoError(t, json.Unmarshal([]byte(text), &m))
		require.EqualValues(t, len(contents(t, "out")), m.Exact, how)
		require.LessOrEqual(t, m.Exact, m.Largest, how)
	}
}

// TestBlockHash: the hash of a block of zeros is the one in blkhash's own tests.
func TestBlockHash(t *testing.T) {
	inFolder(t)
	write(t, "disk.raw", make([]byte, 64<<10))
	const hash = "8ab067ab7939a3d4f40cbb118956c07c06aeae2d075d6e0a2ebbb94bd42832af"
	require.Equal(t, hash+"  disk.raw (guest disk)\n", succeed(t, "convert", "--block-hash", "-O", "qcow2", "disk.raw", "target"))
	require.Contains(t, command(t, "convert", "--block-hash", "disk.raw", "-").stderr, hash+"  disk.raw (guest disk)\n")
}
