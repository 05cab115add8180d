package convert

import (
	"bytes"
	"crypto/sha256"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/raw"
)

// TestFileDigest: what is said of the files that were written is what is in
// them, be it a file, several, an output or a pipe.
func TestFileDigest(t *testing.T) {
	d := patchworkDisk(31, 5<<20+512)
	for name, o := range limitTargets() {
		if testing.Short() && o.QCOW2.Compression != diskimage.Plain {
			continue
		}
		o.FileDigest, o.VMDK.FileName, o.Workers, o.Unsynced = true, "disk.vmdk", 3, true
		dir := t.TempDir()
		var last Progress
		o.Progress = func(p Progress) { last = p }
		rep, err := ToFile(t.Context(), filepath.Join(dir, "disk.vmdk"), d, o)
		require.NoError(t, err, name)
		all := int64(0)
		for _, f := range rep.Files {
			all += f.Size
		}
		require.Equal(t, Progress{Hashing, all, all}, last, name)
		require.Len(t, rep.Files, len(names(t, dir)), name)
		require.Equal(t, "disk.vmdk", rep.Files[0].Name)
		for i, f := range rep.Files {
			require.True(t, i < 2 || rep.Files[i-1].Name < f.Name, name)
			require.Equal(t, sumOf(t, filepath.Join(dir, f.Name)), f, name)
		}
		if o.several() {
			continue
		}
		file := WrittenFile{"", rep.Files[0].Size, rep.Files[0].SHA256}

		var out memOutput
		rep, err = ToOutput(t.Context(), &out, d, o)
		require.NoError(t, err, name)
		require.Equal(t, []WrittenFile{file}, rep.Files, name)
		_, err = ToOutput(t.Context(), new(lawOutput), d, o)
		require.ErrorIs(t, err, errNoFileDigest, name)

		var pipe bytes.Buffer
		rep, err = ToWriter(t.Context(), &pipe, d, o)
		require.NoError(t, err, name)
		require.Equal(t, []WrittenFile{file}, rep.Files, name)
		require.EqualValues(t, file.Size, pipe.Len(), name)
	}

	var pipe bytes.Buffer
	rep, err := StreamToWriter(t.Context(), &pipe, raw.NewStream(bytes.NewReader(d.content), -1), Options{FileDigest: true, Digest: true})
	require.NoError(t, err)
	require.Equal(t, []WrittenFile{{"", d.Size(), rep.Digest}}, rep.Files)

	rep, err = ToFile(t.Context(), filepath.Join(t.TempDir(), "disk"), d, Options{})
	require.NoError(t, err)
	require.Empty(t, rep.Files)
}

func sumOf(t *testing.T, name string) WrittenFile {
	p, err := os.ReadFile(name)
	require.NoError(t, err)
	sum := sha256.Sum256(p)
	return WrittenFile{filepath.Base(name), int64(len(p)), sum[:]}
}
