package main

import (
	"crypto/sha256"
	"fmt"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage/internal/peer"
)

// TestSidecar: what is written beside the target names its files, and their
// digests are theirs.
func TestSidecar(t *testing.T) {
	inFolder(t)
	require.NoError(t, os.Mkdir("to", 0o700))
	write(t, "disk.raw", diskBytes(3<<20+512))
	sum := func(name string) string { return fmt.Sprintf("%x", sha256.Sum256(contents(t, name))) }
	for how, files := range map[string][]string{
		"-Oqcow2": {"it"}, "-Oraw": {"it"}, "-Ovpc": {"it"},
		"-osubformat=twoGbMaxExtentSparse": {"it", "it-s001"}, "-osubformat=monolithicFlat": {"it", "it-flat"},
	} {
		args := []string{"convert", "--sidecar", "--force", how}
		if how[1] == 'o' {
			args = append(args, "-Ovmdk")
		}
		want := ""
		require.Empty(t, succeed(t, append(args, "disk.raw", "to/it")...), how)
		for _, name := range files {
			want += sum("to/"+name) + "  " + name + "\n"
		}
		require.Equal(t, want, string(contents(t, "to/it.sha256")), how)
		if peer.Has("sha256sum") {
			require.NoError(t, os.Chdir("to"))
			peer.Run(t, "sha256sum", "-c", "--strict", "it.sha256")
			require.NoError(t, os.Chdir(".."))
		}
		got := succeed(t, append(append(args, "--digest"), "disk.raw", "to/it")...)
		printed := sum("disk.raw") + "  disk.raw (guest disk)\n"
		for _, name := range files {
			printed += sum("to/"+name) + "  to/" + name + "\n"
		}
		require.Equal(t, printed, got, how)
	}

	// A name that would break its line, as sha256sum escapes it.
	require.Contains(t, succeed(t, "convert", "--sidecar", "--digest", "disk.raw", "a\\b\n"), "\n\\"+sum("disk.raw")+`  a\\b\n`+"\n")
	require.Equal(t, "\\"+sum("disk.raw")+`  a\\b\n`+"\n", string(contents(t, "a\\b\n.sha256")))

	// Into a pipe, in one pass.
	r := command(t, "convert", "--digest", "-Oqcow2", "disk.raw", "-")
	require.Zero(t, r.code)
	write(t, "piped", []byte(r.stdout))
	require.Equal(t, sum("disk.raw")+"  disk.raw (guest disk)\n"+sum("piped")+"  -\n", r.stderr)
}

func TestSidecarRefused(t *testing.T) {
	inFolder(t)
	write(t, "disk.raw", diskBytes(1<<20))
	write(t, "existing", diskBytes(1<<20))
	write(t, "target.sha256", diskBytes(1<<20))
	for _, args := range [][]string{{"disk.raw", "-"}, {"-n", "disk.raw", "existing"}} {
		r := command(t, append([]string{"convert", "--sidecar"}, args...)...)
		require.Equal(t, 1, r.code)
		require.Contains(t, r.stderr, "--sidecar")
	}
	r := command(t, "convert", "--sidecar", "-f", "raw", "target.sha256", "target")
	require.Equal(t, 1, r.code)
	require.Contains(t, r.stderr, "which is read")
	require.NoError(t, os.Mkdir("other.sha256", 0o700))
	r = command(t, "convert", "--sidecar", "disk.raw", "other")
	require.Equal(t, 1, r.code)
	require.Contains(t, r.stderr, "is a folder")
	require.Equal(t, []string{"disk.raw", "existing", "other.sha256", "target.sha256"}, listing(t))
}
