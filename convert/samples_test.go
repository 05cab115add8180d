package convert_test

import (
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/convert"
	"github.com/diskimage-go/diskimage/internal/disktest"
	"github.com/stretchr/testify/require"
)

const testdata = "../testdata"

// A sample is a row of the table in testdata/README.md: what the reference
// says of one of the images there, or of a snapshot in it.
type sample struct {
	file     string
	snapshot string
	size     int64
	content  string // SHA-256 of the guest disk, or why it is refused
	commands string
}

// samples reads both tables of testdata/README.md: the images, and the
// SHA-256 of each file.
func samples(t *testing.T) (images []sample, files map[string]string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(testdata, "README.md"))
	require.NoError(t, err)
	files = map[string]string{}
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		if !strings.HasPrefix(line, "| ") || cells[0] == "file" {
			continue
		}
		switch len(cells) {
		case 5:
			size, err := strconv.ParseInt(cells[2], 10, 64)
			require.NoError(t, err, "%s", line)
			images = append(images, sample{cells[0], cells[1], size, cells[3], cells[4]})
		case 3:
			files[cells[0]] = cells[2]
		default:
			require.Fail(t, "a line of "+testdata+"/README.md is of neither table", line)
		}
	}
	require.Greater(t, len(images), 40)
	return images, files
}

// unpack returns a folder that holds every sample under its own name.
func unpack(t *testing.T) string {
	t.Helper()
	_, files := samples(t)
	dir := t.TempDir()
	for name, want := range files {
		in, err := os.Open(filepath.Join(testdata, name))
		require.NoError(t, err)
		defer in.Close()
		sum := sha256.New()
		r := io.TeeReader(in, sum)
		base, packed := strings.CutSuffix(name, ".gz")
		if packed {
			r, err = gzip.NewReader(r)
			require.NoError(t, err)
		}
		out, err := os.Create(filepath.Join(dir, base))
		require.NoError(t, err)
		_, err = io.Copy(out, r)
		require.NoError(t, err)
		require.NoError(t, out.Close())
		_, err = io.Copy(sum, in)
		require.NoError(t, err)
		require.Equal(t, want, hex.EncodeToString(sum.Sum(nil)), "%s is not the file that its table tells of", name)
	}
	return dir
}

// open opens a sample in the folder where unpack put it.
func (s sample) open(ctx context.Context, dir string, opener diskimage.Opener) (diskimage.VirtualDisk, error) {
	name := filepath.Join(dir, strings.TrimSuffix(s.file, ".gz"))
	return convert.OpenFile(ctx, name, convert.OpenOptions{Opener: opener, Snapshot: s.snapshot})
}

func (s sample) String() string { return strings.TrimSpace(s.file + " " + s.snapshot) }

// TestSamples opens every image of testdata and holds what is read against
// what the reference read.
func TestSamples(t *testing.T) {
	dir := unpack(t)
	opener, err := convert.NewDirOpener(dir)
	require.NoError(t, err)
	defer opener.Close()
	images, _ := samples(t)
	for _, s := range images {
		t.Run(s.String(), func(t *testing.T) {
			d, err := s.open(t.Context(), dir, opener)
			if s.content == "refused: encrypted" {
				require.ErrorIs(t, err, diskimage.ErrEncrypted)
				return
			}
			require.NoError(t, err)
			defer d.Close()
			require.Equal(t, s.size, d.Size())
			content := make([]byte, s.size)
			n, err := d.ReadAt(content, 0)
			if err != io.EOF {
				require.NoError(t, err)
			}
			require.Equal(t, len(content), n)
			sum := sha256.Sum256(content)
			require.Equal(t, s.content, hex.EncodeToString(sum[:]))
			if !testing.Short() {
				disktest.Conform(t, d, content)
			}
		})
	}
}

// namesOthers matches the samples that name other files.
var namesOthers = regexp.MustCompile(`^(overlay|data-file|flat|split)`)

// TestSamplesOpenNothingElse holds that images which name other files are
// refused without an opener, and all others need none.
func TestSamplesOpenNothingElse(t *testing.T) {
	dir := unpack(t)
	images, _ := samples(t)
	refused := 0
	for _, s := range images {
		t.Run(s.String(), func(t *testing.T) {
			d, err := s.open(t.Context(), dir, nil)
			switch {
			case s.content == "refused: encrypted":
				require.ErrorIs(t, err, diskimage.ErrEncrypted)
			case namesOthers.MatchString(s.file):
				require.ErrorIs(t, err, diskimage.ErrExternal)
				refused++
			default:
				require.NoError(t, err)
				require.NoError(t, d.Close())
			}
		})
	}
	require.Equal(t, 12, refused)
}
