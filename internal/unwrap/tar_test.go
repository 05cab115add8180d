package unwrap_test

import (
	"archive/tar"
	"bytes"
	"io"
	"os"
	"path/filepath"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/internal/peer"
	"github.com/diskimage-go/diskimage/internal/unwrap"
)

type member struct {
	name, text string
	kind       byte
}

func tarOf(t testing.TB, members ...member) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, m := range members {
		h := &tar.Header{Name: m.name, Typeflag: m.kind, Size: int64(len(m.text)), Mode: 0o644}
		if m.kind == tar.TypeSymlink {
			h.Linkname = "/etc/passwd"
		}
		require.NoError(t, w.WriteHeader(h))
		_, err := w.Write([]byte(m.text))
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	return b.Bytes()
}

func untar(file io.Reader, name string) ([]byte, error) {
	r, err := unwrap.NewTar(file, name)
	if err != nil {
		return nil, err
	}
	p, err := io.ReadAll(iotest.HalfReader(r))
	if err != nil {
		return nil, err
	}
	if int64(len(p)) != r.Size() {
		return nil, io.ErrShortBuffer
	}
	return p, r.Finish()
}

func TestTar(t *testing.T) {
	disk := member{"disk.raw", string(content(3000)), tar.TypeReg}
	one := tarOf(t, member{"./", "", tar.TypeDir}, disk)
	two := tarOf(t, member{"readme", "text", tar.TypeReg}, disk, member{"last", "text", tar.TypeReg})
	link := tarOf(t, member{"disk.raw", "", tar.TypeSymlink})
	for _, c := range []struct {
		name   string
		file   []byte
		member string
		kind   diskimage.ErrorKind
		text   string
	}{
		{"one file", one, "", "", ""},
		{"one file, by name", one, "disk.raw", "", ""},
		{"several, by name", two, "disk.raw", "", ""},
		{"several", two, "", diskimage.ErrUnsupported, `member "disk.raw": the archive holds it besides "readme"`},
		{"another name", one, "disk.img", diskimage.ErrUnsupported, `holds no file "disk.img"`},
		{"nothing", tarOf(t), "", diskimage.ErrUnsupported, "holds no file"},
		{"a link", link, "", diskimage.ErrUnsupported, "not followed"},
		{"no archive", bytes.Repeat([]byte("text"), 300), "", diskimage.ErrCorrupt, "damaged"},
		{"cut in the file", one[:len(one)-2000], "", diskimage.ErrTruncated, `member "disk.raw": the archive ends too early`},
		{"cut in the header", one[:700], "", diskimage.ErrTruncated, "too early"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := untar(bytes.NewReader(c.file), c.member)
			if c.kind != "" {
				require.ErrorIs(t, err, c.kind)
				require.ErrorContains(t, err, c.text)
				return
			}
			require.NoError(t, err)
			require.Equal(t, disk.text, string(got))
		})
	}
	_, err := untar(io.MultiReader(bytes.NewReader(one[:800]), iotest.ErrReader(errDisk)), "")
	require.ErrorIs(t, err, errDisk)
}

// TestTarOfPeer reads what GNU tar makes of a file with holes, in each of its
// ways to store them.
func TestTarOfPeer(t *testing.T) {
	peer.Find(t, "tar")
	dir := t.TempDir()
	name := filepath.Join(dir, "disk.raw")
	require.NoError(t, os.WriteFile(name, content(100<<10), 0o600))
	f, err := os.OpenFile(name, os.O_WRONLY, 0)
	require.NoError(t, err)
	defer f.Close()
	for i := range int64(9) { // more pieces than a header holds
		_, err = f.WriteAt(content(5000), 1<<20*(i+1))
		require.NoError(t, err)
	}
	require.NoError(t, f.Truncate(12<<20))
	want, err := os.ReadFile(name)
	require.NoError(t, err)
	for _, format := range []string{"--format=oldgnu", "--format=gnu", "--format=posix --sparse-version=0.0", "--format=posix --sparse-version=0.1", "--format=posix --sparse-version=1.0", "--format=ustar --no-sparse"} {
		t.Run(format, func(t *testing.T) {
			args := []string{"-C", dir, "-S", "-cf", "-"}
			for _, o := range bytes.Fields([]byte(format)) {
				if string(o) == "--no-sparse" {
					args = append(args[:2], args[3:]...)
					continue
				}
				args = append(args, string(o))
			}
			file := peer.Run(t, "tar", append(args, "disk.raw")...)
			got, err := untar(bytes.NewReader([]byte(file)), "")
			require.NoError(t, err)
			require.True(t, bytes.Equal(want, got))
		})
	}
}
