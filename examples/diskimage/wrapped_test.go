package main

import (
	"bytes"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage/internal/imagetest"
	"github.com/diskimage-go/diskimage/internal/peer"
)

// TestWrapped converts what is compressed or in an archive: by its name, from a
// pipe if that is asked for, and from a copy.
func TestWrapped(t *testing.T) {
	inFolder(t)
	disk := diskBytes(3<<20 + 512)
	write(t, "disk.raw", disk)
	require.NoError(t, os.Mkdir("spool", 0o700))
	succeed(t, "convert", "-O", "qcow2", "disk.raw", "disk.qcow2")
	succeed(t, "convert", "-O", "vmdk", "-o", "subformat=streamOptimized", "disk.raw", "disk.vmdk")
	for _, name := range []string{"disk.raw", "disk.vmdk", "disk.qcow2"} {
		packed := imagetest.Gzip(imagetest.Tar(imagetest.Member{Name: name, Data: contents(t, name)}))
		write(t, name+".tar.gz", packed)
		write(t, "named.img", packed)
		for _, args := range [][]string{{name + ".tar.gz"}, {"--unwrap", "named.img"}, {"--unwrap", "-"}, {"--unwrap", "--disk", name, "named.img"}, {"--spool=spool", name + ".tar.gz"}, {"--spool=spool", "--unwrap", "-"}} {
			args = append(append([]string{"convert", "--digest"}, args...), "target")
			r := commandOn(t, bytes.NewReader(packed), args...)
			if name == "disk.qcow2" && args[2] != "--spool=spool" {
				require.Equal(t, 1, r.code, args)
				require.Contains(t, r.stderr, "--spool")
				continue
			}
			require.Zero(t, r.code, "%q: %s", args, r.stderr)
			require.True(t, bytes.Equal(disk, contents(t, "target")), args)
			require.NoError(t, os.Remove("target"))
		}
		require.Contains(t, succeed(t, "compare", "--spool=spool", name+".tar.gz", "disk.raw"), "Images are identical.")
		require.Contains(t, succeed(t, "info", "--spool=spool", name+".tar.gz"), "virtual size: 3 MiB")
		if r := command(t, "check", "--spool=spool", name+".tar.gz"); name == "disk.raw" {
			require.Equal(t, exitUncheckable, r.code, r.stderr)
		} else {
			require.Zero(t, r.code, r.stderr)
			require.Contains(t, r.stdout, "No errors were found on the image.")
		}
		require.Contains(t, command(t, "check", name+".tar.gz").stderr, "--spool")
		f, err := os.Open("named.img")
		require.NoError(t, err)
		for _, source := range []string{"named.img", "-"} { // the file that it is
			r := commandOn(t, f, "convert", "--unwrap", source, "named.img")
			require.Equal(t, 1, r.code)
			if name != "disk.qcow2" {
				require.Contains(t, r.stderr, "which is read")
			}
			require.Equal(t, packed, contents(t, "named.img"))
		}
		require.NoError(t, f.Close())
		r := command(t, "convert", "named.img", "target")
		require.Equal(t, 1, r.code)
		require.Contains(t, r.stderr, "content is gzip")
	}
	left, err := os.ReadDir("spool")
	require.NoError(t, err)
	require.Empty(t, left)
}

// TestGoogleExport reads what Google Compute Engine has exported, a tar.gz that
// GNU tar makes of disk.raw with its holes left out.
func TestGoogleExport(t *testing.T) {
	peer.Find(t, "tar")
	inFolder(t)
	disk := append(diskBytes(1<<20), make([]byte, 7<<20)...)
	f, err := os.Create("disk.raw")
	require.NoError(t, err)
	defer f.Close()
	_, err = f.Write(disk[:1<<20])
	require.NoError(t, err)
	require.NoError(t, f.Truncate(int64(len(disk))))
	peer.Run(t, "tar", "--format=oldgnu", "-Sczf", "image.tar.gz", "disk.raw")
	succeed(t, "convert", "-O", "qcow2", "image.tar.gz", "disk.qcow2")
	require.Contains(t, succeed(t, "compare", "disk.raw", "disk.qcow2"), "Images are identical.")
}
