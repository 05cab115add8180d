package main

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage/internal/imagetest"
)

// TestHostilePackages holds that the verbs judge a package alike: one line that
// says what is wrong, and nothing left behind.
func TestHostilePackages(t *testing.T) {
	for _, c := range imagetest.OVACases() {
		t.Run(c.ID+" "+c.Name, func(t *testing.T) {
			inFolder(t)
			file := c.Build()
			write(t, "x.ova", file)
			before := listing(t)
			for _, verb := range []string{"convert -O qcow2 x.ova target", "convert x.ova -", "info x.ova", "check x.ova", "map x.ova", "measure x.ova"} {
				r := command(t, strings.Fields(verb)...)
				reads := strings.HasPrefix(verb, "convert") || strings.HasPrefix(verb, "check")
				if c.Kind == "" || c.Stage == imagetest.AtAttest && !reads {
					require.Zero(t, r.code, "%s: %s", verb, r.stderr)
					os.Remove("target")
					continue
				}
				require.NotZero(t, r.code, verb)
				require.Equal(t, before, listing(t), verb)
				require.Contains(t, r.stderr, c.Field, verb)
				if c.Stage == imagetest.AtOpen { // else check makes a finding of it
					require.Contains(t, r.stderr, "x.ova", verb)
				}
				require.Equal(t, 1, strings.Count(without(r.stderr, "diskimage: note: "), "\n"), "%s: %s", verb, r.stderr)
			}
			require.True(t, bytes.Equal(file, contents(t, "x.ova")))

			r := commandOn(t, bytes.NewReader(file), "convert", "-O", "qcow2", "--spool", ".", "-", "target")
			require.Equal(t, c.Kind == "", r.code == 0, r.stderr)
			if c.Kind != "" {
				require.Contains(t, r.stderr, c.Field)
				require.Equal(t, before, listing(t))
			}
		})
	}
}

// TestCheckPackage checks disks of each format where there are digests to be
// held against what was checked.
func TestCheckPackage(t *testing.T) {
	inFolder(t)
	write(t, "disk.raw", diskBytes(1<<20))
	for format, uri := range map[string]string{"qcow2": imagetest.URIQCOW2, "vmdk": imagetest.URIStream, "vpc": "http://technet.microsoft.com/en-us/library/bb676673.aspx"} {
		succeed(t, "convert", "-O", format, "disk.raw", "disk")
		write(t, "x.ova", imagetest.OVA{Digest: "SHA256", Disks: []imagetest.PackedDisk{{Name: "disk", Data: contents(t, "disk"), URI: uri, Capacity: 1 << 20}}}.Build())
		require.Contains(t, succeed(t, "check", "x.ova"), "No errors were found on the image.", format)
	}
}

func TestDiskOfPackage(t *testing.T) {
	inFolder(t)
	first, second := diskBytes(1<<20), diskBytes(3<<20)
	write(t, "x.ova", imagetest.OVA{Digest: "SHA256", Disks: []imagetest.PackedDisk{
		{Name: "first.img", Data: first, URI: imagetest.URIRaw, Capacity: 1 << 20},
		{Name: "\u202egmi.evil", Data: second, URI: imagetest.URIRaw, Capacity: 3 << 20},
	}}.Build())
	for disk, want := range map[string][]byte{"1": first, "first.img": first, "2": second, "vmdisk2": second} {
		require.Empty(t, succeed(t, "convert", "--disk", disk, "x.ova", "target"))
		require.True(t, bytes.Equal(want, contents(t, "target")))
		require.Contains(t, succeed(t, "compare", "--disk", disk, "x.ova", "target"), "Images are identical.")
		require.Contains(t, succeed(t, "compare", "--b-disk="+disk, "target", "x.ova"), "Images are identical.")
		require.Contains(t, succeed(t, "info", "--disk", disk, "x.ova"), fmt.Sprintf("(%d bytes)", len(want)))
	}
	r := command(t, "convert", "x.ova", "none")
	require.Equal(t, 1, r.code)
	require.Equal(t, "diskimage: Could not open 'x.ova': ova: the package has several disks, one has to be chosen: "+
		`1 ("first.img", 1048576 bytes), 2 ("\u202egmi.evil", 3145728 bytes)`+"\n", r.stderr)
	require.Contains(t, command(t, "convert", "--disk=1", "target", "none").stderr, "this is no OVA")
	require.Contains(t, command(t, "info", "-f", "raw", "x.ova").stderr, "declared raw, content is ova")

	require.Equal(t, `image: x.ova
file format: raw
virtual size: 1 MiB (1048576 bytes)
Package:
    format: ova
    disks:
        [0]:
            number: 1
            id: vmdisk1
            filename: first.img
            virtual size: 1048576
            format: http://en.wikipedia.org/wiki/Byte
            compressed: false
        [1]:
            number: 2
            id: vmdisk2
            filename: "\u202egmi.evil"
            virtual size: 3145728
            format: http://en.wikipedia.org/wiki/Byte
            compressed: false
`, without(succeed(t, "info", "--disk=1", "x.ova"), "disk size:"))
	require.Contains(t, succeed(t, "info", "--output=json", "--disk=1", "x.ova"), `"package": {`)
}

// without returns the lines that do not start so.
func without(text, start string) string {
	var kept strings.Builder
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, start) {
			kept.WriteString(line)
		}
	}
	return kept.String()
}

// TestCompressedDiskOfPackage reads a disk that is compressed in its package
// front to back, from a file too, or from a copy.
func TestCompressedDiskOfPackage(t *testing.T) {
	inFolder(t)
	content := diskBytes(3 << 20)
	write(t, "disk.raw", content)
	succeed(t, "convert", "-q", "-O", "qcow2", "disk.raw", "disk.qcow2")
	succeed(t, "convert", "-q", "-O", "vmdk", "-o", "subformat=streamOptimized", "disk.raw", "disk.vmdk")
	for name, uri := range map[string]string{"disk.raw": imagetest.URIRaw, "disk.qcow2": imagetest.URIQCOW2, "disk.vmdk": imagetest.URIStream} {
		file := imagetest.OVA{Digest: "SHA256", ManifestLast: true, Disks: []imagetest.PackedDisk{
			{Name: name, Data: contents(t, name), URI: uri, Capacity: 3 << 20, Gzip: true}}}.Build()
		write(t, "x.ova", file)
		require.NoError(t, os.Mkdir("spool", 0o777))
		for _, spooled := range []bool{false, true} {
			for _, source := range []string{"x.ova", "-"} {
				args := []string{"convert", source, "target"}
				if spooled {
					args = append(args, "--spool=spool")
				}
				r := commandOn(t, bytes.NewReader(file), args...)
				if name == "disk.qcow2" && !spooled {
					require.Equal(t, 1, r.code, args)
					require.Contains(t, r.stderr, "--spool")
					continue
				}
				require.Zero(t, r.code, "%q: %s", args, r.stderr)
				require.True(t, bytes.Equal(content, contents(t, "target")), args)
				require.NoError(t, os.Remove("target"))
			}
		}
		require.Contains(t, succeed(t, "compare", "--spool=spool", "x.ova", "disk.raw"), "Images are identical.")
		require.NotContains(t, succeed(t, "map", "--output=json", "--spool=spool", "x.ova"), `"offset"`)
		require.NoError(t, os.Remove("spool"), "nothing is left in it")
		require.Contains(t, command(t, "convert", "x.ova", "./x.ova").stderr, "x.ova")
		require.True(t, bytes.Equal(file, contents(t, "x.ova")))
	}
}

// TestMapOfPackage holds that offsets are those in the package.
func TestMapOfPackage(t *testing.T) {
	inFolder(t)
	file := imagetest.OVA{Disks: []imagetest.PackedDisk{{Name: "disk.raw", Data: bytes.Repeat([]byte("disk"), 1024), URI: imagetest.URIRaw, Capacity: 4096}}}.Build()
	write(t, "x.ova", file)
	want := fmt.Sprintf(`[{ "start": 0, "length": 4096, "depth": 0, "present": true, "zero": false, "data": true, "offset": %d}]`, bytes.Index(file, []byte("diskdisk")))
	require.Equal(t, want, strings.TrimSpace(strings.ReplaceAll(succeed(t, "map", "--output=json", "x.ova"), "\n", "")))
}

// TestProductPackage reads what VirtualBox exported, packed as it would be.
func TestProductPackage(t *testing.T) {
	dir := os.Getenv("DISKIMAGE_SAMPLES")
	if dir == "" {
		t.Skip("DISKIMAGE_SAMPLES is not set")
	}
	ovf, disk := contents(t, dir+"/ubuntu.2.0.ovf"), contents(t, dir+"/ubuntu.2.0-disk1.vmdk")
	inFolder(t)
	m := []imagetest.Member{{Name: "ubuntu.2.0.ovf", Data: ovf}, {Name: "ubuntu.2.0-disk1.vmdk", Data: disk}}
	write(t, "x.ova", imagetest.Tar(append(m, imagetest.Member{Name: "ubuntu.2.0.mf", Data: imagetest.Manifest("SHA1", m...)})...))
	write(t, "disk.vmdk", disk)
	require.Contains(t, succeed(t, "info", "x.ova"), "file format: vmdk\nvirtual size: 8 GiB (8589934592 bytes)\n")
	r := command(t, "convert", "-O", "qcow2", "x.ova", "target")
	require.Zero(t, r.code, r.stderr)
	require.Empty(t, r.stderr)
	succeed(t, "convert", "-q", "-O", "qcow2", "disk.vmdk", "other")
	require.True(t, bytes.Equal(contents(t, "other"), contents(t, "target")))
}
