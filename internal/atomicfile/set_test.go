package atomicfile

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// makeSet starts a set with the main file "d" and so many others, "d-1" and so
// on, that all hold text.
func makeSet(dir, text string, others int, o Options) (*Set, error) {
	s, err := CreateSet(filepath.Join(dir, "d"), o)
	if err != nil {
		return nil, err
	}
	for i := 1; i <= others && err == nil; i++ {
		var f *File
		if f, err = s.Create(fmt.Sprintf("d-%d", i)); err == nil {
			_, err = f.WriteAt([]byte(text), 0)
		}
	}
	if err == nil {
		_, err = s.Main().WriteAt([]byte(text), 0)
	}
	if err != nil {
		s.Abort()
		return nil, err
	}
	return s, nil
}

func commitSet(t *testing.T, dir, text string, others int, o Options) {
	t.Helper()
	s, err := makeSet(dir, text, others, o)
	require.NoError(t, err)
	require.NoError(t, s.Commit())
}

func TestSet(t *testing.T) {
	for _, o := range []Options{{}, {Unsynced: true}} {
		dir := t.TempDir()
		s, err := makeSet(dir, "one", 3, o)
		require.NoError(t, err)
		list := entries(t, dir)
		require.Len(t, list, 4)
		for _, name := range list {
			require.Regexp(t, `^\.d(-\d)?\.diskimage-[0-9a-f]{8}\.tmp$`, name)
		}
		require.NoError(t, s.Commit())
		require.Equal(t, []string{"d", "d-1", "d-2", "d-3"}, entries(t, dir))
		for _, name := range entries(t, dir) {
			require.Equal(t, "one", content(t, filepath.Join(dir, name)))
		}
		require.NoError(t, s.Abort(), "after Commit it does nothing")
		require.NoError(t, s.Commit())

		// Another only if it is forced, by whichever file there is.
		_, err = makeSet(dir, "two", 3, o)
		require.ErrorIs(t, err, ErrExists)
		require.NoError(t, os.Remove(filepath.Join(dir, "d")))
		_, err = makeSet(dir, "two", 3, o)
		require.ErrorIs(t, err, ErrExists)
		require.Equal(t, []string{"d-1", "d-2", "d-3"}, entries(t, dir))
		o.Force = true
		commitSet(t, dir, "two", 2, o)
		commitSet(t, dir, "two", 2, o)
		require.Equal(t, []string{"d", "d-1", "d-2", "d-3"}, entries(t, dir))
		require.Equal(t, "two", content(t, filepath.Join(dir, "d-2")))
		require.Equal(t, "one", content(t, filepath.Join(dir, "d-3")), "not of this set: left alone")
	}
}

func TestSetAborted(t *testing.T) {
	dir := t.TempDir()
	commitSet(t, dir, "old", 2, Options{})
	s, err := makeSet(dir, "new", 3, Options{Force: true})
	require.NoError(t, err)
	require.NoError(t, s.Abort())
	require.NoError(t, s.Abort())
	require.NoError(t, s.Commit(), "after Abort it does nothing")
	require.Equal(t, []string{"d", "d-1", "d-2"}, entries(t, dir))
	require.Equal(t, "old", content(t, filepath.Join(dir, "d-1")))
}

func TestSetRefused(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, "folder"), 0o777))
	for _, o := range []Options{{}, {Force: true}} {
		_, err := CreateSet(filepath.Join(dir, "folder"), o)
		require.ErrorContains(t, err, "is a folder")
		s, err := CreateSet(filepath.Join(dir, "d"), o)
		require.NoError(t, err)
		for _, base := range []string{"", ".", "..", "../x", "folder/x", "/x", "d"} {
			_, err := s.Create(base)
			require.Error(t, err, "%q", base)
		}
		_, err = s.Create("folder")
		require.ErrorContains(t, err, "is a folder")
		_, err = s.Create("d-1")
		require.NoError(t, err)
		_, err = s.Create("d-1")
		require.ErrorContains(t, err, "already")
		require.NoError(t, s.Abort())
		require.Equal(t, []string{"folder"}, entries(t, dir))
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink("nothing", link); err != nil {
		t.Skip(err)
	}
	_, err := CreateSet(link, Options{Force: true})
	require.ErrorContains(t, err, "is a symbolic link")
}

// TestSetMeanwhile: what came to stand there since the set was started is not
// overwritten either.
func TestSetMeanwhile(t *testing.T) {
	for _, name := range []string{"d", "d-2"} {
		dir := t.TempDir()
		s, err := makeSet(dir, "new", 3, Options{})
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte("other"), 0o666))
		require.ErrorIs(t, s.Commit(), ErrExists)
		require.Equal(t, []string{name}, entries(t, dir))
		require.Equal(t, "other", content(t, filepath.Join(dir, name)))
	}
}

// TestSetCommitFails at each of its files: closed too early, or without its
// temporary file when it is renamed.
func TestSetCommitFails(t *testing.T) {
	for at := range 4 {
		dir := t.TempDir()
		commitSet(t, dir, "old", 3, Options{})
		s, err := makeSet(dir, "new", 3, Options{Force: true})
		require.NoError(t, err)
		require.NoError(t, s.files()[at].f.Close())
		require.ErrorIs(t, s.Commit(), os.ErrClosed)
		for _, name := range entries(t, dir) {
			require.Equal(t, "old", content(t, filepath.Join(dir, name)))
		}
		require.Len(t, entries(t, dir), 4)

		for _, force := range []bool{false, true} {
			dir := t.TempDir()
			if force {
				commitSet(t, dir, "old", 3, Options{})
			}
			s, err := makeSet(dir, "new", 3, Options{Force: force})
			require.NoError(t, err)
			if err := os.Remove(s.files()[at].temp); err != nil {
				t.Skip(err) // an open file cannot be removed on Windows
			}
			err = s.Commit()
			require.ErrorIs(t, err, fs.ErrNotExist)
			require.NoFileExists(t, filepath.Join(dir, "d"))
			for _, name := range entries(t, dir) {
				require.Equal(t, "old", content(t, filepath.Join(dir, name)))
			}
			if force {
				require.ErrorContains(t, err, "is removed")
			} else {
				require.Empty(t, entries(t, dir))
			}
		}
	}
}

const envSetChild = "DISKIMAGE_TEST_SET"

// TestSetKilled: whenever the program dies, the main file that is there is of
// one set with all others, and the next run clears up.
func TestSetKilled(t *testing.T) {
	if dir := os.Getenv(envSetChild); dir != "" { // the program that is killed
		for n := 0; ; n++ {
			s, err := makeSet(dir, fmt.Sprint(n), 4, Options{Force: true, Unsynced: n%2 == 0})
			require.NoError(t, err)
			require.NoError(t, s.Commit())
		}
	}
	dir, kills := t.TempDir(), 30
	if testing.Short() {
		kills = 5
	}
	whole := 0
	for i := range kills {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestSetKilled$")
		cmd.Env = append(os.Environ(), envSetChild+"="+dir)
		before, err := os.Stat(filepath.Join(dir, "d"))
		if err != nil {
			before = nil
		}
		require.NoError(t, cmd.Start())
		require.Eventually(t, func() bool { // it is at work
			now, err := os.Stat(filepath.Join(dir, "d"))
			return err == nil && (before == nil || !os.SameFile(before, now))
		}, time.Minute, time.Millisecond)
		time.Sleep(time.Duration(i) * 1373 * time.Microsecond)
		require.NoError(t, cmd.Process.Kill())
		require.Error(t, cmd.Wait())
		want, err := os.ReadFile(filepath.Join(dir, "d"))
		if err != nil {
			require.ErrorIs(t, err, fs.ErrNotExist)
			continue
		}
		whole++
		for i := 1; i <= 4; i++ {
			require.Equal(t, string(want), content(t, filepath.Join(dir, fmt.Sprintf("d-%d", i))))
		}
	}
	require.Positive(t, whole)
	commitSet(t, dir, "last", 4, Options{Force: true})
	require.Equal(t, []string{"d", "d-1", "d-2", "d-3", "d-4"}, entries(t, dir))
}
