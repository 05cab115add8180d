package atomicfile

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func put(t *testing.T, f *File, s string) {
	t.Helper()
	_, err := f.WriteAt([]byte(s), 0)
	require.NoError(t, err)
}

func content(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	require.NoError(t, err)
	return string(b)
}

// entries returns the names in a folder.
func entries(t *testing.T, dir string) []string {
	t.Helper()
	list, err := os.ReadDir(dir)
	require.NoError(t, err)
	var names []string
	for _, e := range list {
		names = append(names, e.Name())
	}
	return names
}

func create(t *testing.T, name string, o Options) *File {
	t.Helper()
	f, err := Create(name, o)
	require.NoError(t, err)
	t.Cleanup(func() { f.Abort() })
	return f
}

func TestNewFile(t *testing.T) {
	for _, o := range []Options{{}, {Unsynced: true}} {
		dir := t.TempDir()
		name := filepath.Join(dir, "disk.qcow2")
		f := create(t, name, o)
		require.Equal(t, name, f.Target())
		require.False(t, f.Resolved())
		require.False(t, f.Replaces())
		require.False(t, f.InPlace())
		require.True(t, f.ZeroFilled())

		list := entries(t, dir)
		require.Len(t, list, 1)
		require.Regexp(t, `^\.disk\.qcow2\.diskimage-[0-9a-f]{8}\.tmp$`, list[0])
		require.Equal(t, filepath.Join(dir, list[0]), f.Name())

		put(t, f, "0123456789")
		require.NoError(t, f.Truncate(5))
		p := make([]byte, 5)
		_, err := f.ReadAt(p, 0)
		require.NoError(t, err)
		require.Equal(t, "01234", string(p))
		require.NoError(t, f.Sync())
		require.NoError(t, f.Commit())
		require.Equal(t, []string{"disk.qcow2"}, entries(t, dir))
		require.Equal(t, "01234", content(t, name))
		require.Equal(t, name, f.Name())

		require.NoError(t, f.Abort(), "after Commit it does nothing")
		require.NoError(t, f.Commit(), "a second one does nothing")
		require.Equal(t, "01234", content(t, name))
	}
}

func TestAbortLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "a")
	f := create(t, name, Options{})
	put(t, f, "x")
	require.NoError(t, f.Abort())
	require.NoError(t, f.Abort())
	require.Empty(t, entries(t, dir))
	require.NoError(t, f.Commit(), "after Abort it does nothing")
	require.Empty(t, entries(t, dir))
}

// TestOldFileIsWholeUntilCommit, by whatever name it is known.
func TestOldFileIsWholeUntilCommit(t *testing.T) {
	dir := t.TempDir()
	name, other := filepath.Join(dir, "a"), filepath.Join(dir, "hard")
	require.NoError(t, os.WriteFile(name, []byte("old"), 0o666))
	require.NoError(t, os.Link(name, other))
	f := create(t, name, Options{})
	require.True(t, f.Replaces())
	put(t, f, "new")
	require.Equal(t, "old", content(t, name))
	require.NoError(t, f.Sync())
	require.Equal(t, "old", content(t, name))
	require.NoError(t, f.Commit())
	require.Equal(t, "new", content(t, name))
	require.Equal(t, "old", content(t, other))

	f = create(t, name, Options{})
	put(t, f, "newer")
	require.NoError(t, f.Abort())
	require.Equal(t, "new", content(t, name))
	require.ElementsMatch(t, []string{"a", "hard"}, entries(t, dir))
}

// TestLeftovers: those of this target that nobody holds are removed, and
// nothing else is.
func TestLeftovers(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "a")
	keep := []string{
		".b.diskimage-01234567.tmp",    // another target's
		".a.diskimage-0123456.tmp",     // too short
		".a.diskimage-012345678.tmp",   // too long
		".a.diskimage-0123456x.tmp",    // no number
		".a.diskimage-01234567.tmp.gz", // something else
		"a.diskimage-01234567.tmp",
		".a.diskimage-",
	}
	gone := []string{".a.diskimage-01234567.tmp", ".a.diskimage-ffffffff.tmp"}
	for _, n := range append(gone, keep...) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, n), []byte("crash"), 0o666))
	}
	folder := ".a.diskimage-0000000f.tmp"
	require.NoError(t, os.Mkdir(filepath.Join(dir, folder), 0o777))
	keep = append(keep, folder)

	running := create(t, name, Options{})
	put(t, running, "running")
	keep = append(keep, filepath.Base(running.Name()))
	require.ElementsMatch(t, keep, entries(t, dir))

	second := create(t, name, Options{}) // another conversion to the same target
	put(t, second, "second")
	require.ElementsMatch(t, append(keep, filepath.Base(second.Name())), entries(t, dir))

	require.NoError(t, running.Commit())
	require.Equal(t, "running", content(t, name))
	require.NoError(t, second.Commit())
	require.Equal(t, "second", content(t, name), "the last one wins")
	require.Len(t, entries(t, dir), len(keep))
}

// TestManyAtOnce: makers that clean up after each other do not take each
// other's files.
func TestManyAtOnce(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "a")
	done := make(chan error)
	const makers = 8
	for range makers {
		go func() {
			for range 30 {
				f, err := Create(name, Options{Unsynced: true})
				if err == nil {
					_, err = f.WriteAt([]byte("whole"), 0)
				}
				if err == nil {
					err = f.Commit()
				}
				if err != nil {
					done <- err
					return
				}
			}
			done <- nil
		}()
	}
	for range makers {
		require.NoError(t, <-done)
	}
	require.Equal(t, []string{"a"}, entries(t, dir))
	require.Equal(t, "whole", content(t, name))
}

func TestLongNames(t *testing.T) {
	dir := t.TempDir()
	for _, base := range []string{strings.Repeat("x", 255), strings.Repeat("ü", 127), strings.Repeat("x", longestName+1)} {
		name := filepath.Join(dir, base)
		f := create(t, name, Options{})
		require.True(t, isTemp(filepath.Base(f.Name()), tempPrefix(name)))
		require.True(t, strings.ToValidUTF8(f.Name(), "?") == f.Name())
		put(t, f, base)
		require.NoError(t, f.Commit())
		require.Equal(t, base, content(t, name))
	}
	// Two names that are cut alike are not each other's.
	require.NotEqual(t, tempPrefix(strings.Repeat("x", 250)+"a"), tempPrefix(strings.Repeat("x", 250)+"b"))
}

func TestRefused(t *testing.T) {
	dir := t.TempDir()
	_, err := Create(dir, Options{})
	require.ErrorContains(t, err, "is a folder")
	for _, name := range []string{"", filepath.Join(dir, "new") + string(filepath.Separator)} {
		_, err = Create(name, Options{})
		require.ErrorContains(t, err, "is not the name of a file", "%q", name)
	}
	_, err = Create(filepath.Join(dir, "none", "a"), Options{})
	require.ErrorIs(t, err, fs.ErrNotExist)
	file := filepath.Join(dir, "file")
	require.NoError(t, os.WriteFile(file, nil, 0o666))
	_, err = Create(filepath.Join(file, "a"), Options{})
	require.Error(t, err)
	_, err = Create(filepath.Join(dir, "b"), Options{Perm: fs.ModeSetuid | 0o755})
	require.ErrorContains(t, err, "Perm")
	require.Equal(t, []string{"file"}, entries(t, dir))
}

// TestCommitFails: a folder has taken the name meanwhile. Nothing is left but
// that.
func TestCommitFails(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "a")
	f := create(t, name, Options{})
	put(t, f, "x")
	require.NoError(t, os.Mkdir(name, 0o777))
	require.NoError(t, os.WriteFile(filepath.Join(name, "old"), []byte("old"), 0o666))
	var le *os.LinkError
	require.ErrorAs(t, f.Commit(), &le)
	require.Equal(t, []string{"a"}, entries(t, dir))
	require.Equal(t, "old", content(t, filepath.Join(name, "old")))
}

// TestCommitFailsToClose keeps the old file: the open file is gone, as after
// an error that only closing tells.
func TestCommitFailsToClose(t *testing.T) {
	for _, unsynced := range []bool{false, true} {
		dir := t.TempDir()
		name := filepath.Join(dir, "a")
		require.NoError(t, os.WriteFile(name, []byte("old"), 0o666))
		f := create(t, name, Options{Unsynced: unsynced})
		put(t, f, "new")
		require.NoError(t, f.OS().Close())
		require.ErrorIs(t, f.Commit(), os.ErrClosed)
		require.Equal(t, "old", content(t, name))
		require.Equal(t, []string{"a"}, entries(t, dir))
	}
}

func TestTempFileIsGone(t *testing.T) {
	name := filepath.Join(t.TempDir(), "a")
	f := create(t, name, Options{})
	if err := os.Remove(f.Name()); err != nil {
		t.Skip(err) // an open file cannot be removed on Windows
	}
	require.True(t, errors.Is(f.Commit(), fs.ErrNotExist))
}

// TestLargeFile: what is written early, by several at once, is what was asked
// for.
func TestLargeFile(t *testing.T) {
	for _, unsynced := range []bool{false, true} {
		f := create(t, filepath.Join(t.TempDir(), "a"), Options{Unsynced: unsynced})
		const piece, pieces = 1 << 20, 2*writeBack>>20 + 3
		done := make(chan error)
		for i := range pieces {
			go func() {
				_, err := f.WriteAt(bytes.Repeat([]byte{byte(i + 1)}, piece), int64(i)*piece)
				done <- err
			}()
		}
		for range pieces {
			require.NoError(t, <-done)
		}
		require.NoError(t, f.Commit())
		got, err := os.ReadFile(f.Target())
		require.NoError(t, err)
		require.Len(t, got, piece*pieces)
		for i := range pieces {
			require.Equal(t, piece, bytes.Count(got[i*piece:(i+1)*piece], []byte{byte(i + 1)}))
		}
	}
}
