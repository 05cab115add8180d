package spool_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"testing/iotest"

	"github.com/diskimage-go/diskimage/internal/spool"
	"github.com/stretchr/testify/require"
)

// names returns what is in a folder.
func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	var all []string
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return all
}

func TestFill(t *testing.T) {
	dir := t.TempDir()
	for _, size := range []int{0, 1, 4096, 1<<20 - 1, 5<<20 + 123} {
		want := make([]byte, size)
		rand.NewChaCha8([32]byte{byte(size)}).Read(want)
		for off := 0; off < size; off += 40000 { // also at the end
			clear(want[off:min(size, off+30000)])
		}
		for _, r := range []io.Reader{bytes.NewReader(want), iotest.HalfReader(bytes.NewReader(want)), iotest.DataErrReader(bytes.NewReader(want))} {
			f, err := spool.Fill(t.Context(), r, dir)
			require.NoError(t, err)
			require.EqualValues(t, size, f.Size())
			got, err := io.ReadAll(io.NewSectionReader(f, 0, f.Size()))
			require.NoError(t, err)
			require.True(t, bytes.Equal(want, got))
			require.NoError(t, f.Changed())
			if runtime.GOOS != "windows" {
				require.Empty(t, names(t, dir), "it has no name")
			}
			require.NoError(t, f.Close())
			require.Empty(t, names(t, dir))
		}
	}
}

// TestZerosAreHoles: a copy takes no more space than its data.
func TestZerosAreHoles(t *testing.T) {
	const size = 64 << 20
	r := io.MultiReader(io.LimitReader(endless{}, size), bytes.NewReader([]byte("end")))
	f, err := spool.Fill(t.Context(), r, t.TempDir())
	require.NoError(t, err)
	defer f.Close()
	end, hole, err := f.NextRange(0)
	require.NoError(t, err)
	if !hole {
		t.Skip("the file system does not tell holes")
	}
	require.EqualValues(t, size, end)
}

// endless is zeros without an end.
type endless struct{}

func (endless) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestFillFails(t *testing.T) {
	dir := t.TempDir()
	broken := errors.New("broken")
	_, err := spool.Fill(t.Context(), io.MultiReader(bytes.NewReader(make([]byte, 3<<20)), iotest.ErrReader(broken)), dir)
	require.ErrorIs(t, err, broken)
	require.Empty(t, names(t, dir))

	_, err = spool.Fill(t.Context(), iotest.ErrReader(io.ErrUnexpectedEOF), dir)
	require.ErrorIs(t, err, io.ErrUnexpectedEOF, "of a decompressor")

	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(broken)
	_, err = spool.Fill(ctx, endless{}, dir)
	require.ErrorIs(t, err, broken)
	require.Empty(t, names(t, dir))

	_, err = spool.Fill(t.Context(), bytes.NewReader(nil), filepath.Join(dir, "nowhere"))
	require.ErrorIs(t, err, fs.ErrNotExist)
	var path *fs.PathError
	require.ErrorAs(t, err, &path)
}
