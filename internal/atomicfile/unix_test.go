//go:build linux || darwin || freebsd

package atomicfile

import (
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

func mode(t *testing.T, name string) fs.FileMode {
	t.Helper()
	info, err := os.Stat(name)
	require.NoError(t, err)
	return info.Mode()
}

// TestMode: that of the file replaced, whatever the umask; or 0666 less it.
func TestMode(t *testing.T) {
	dir := t.TempDir()
	plain := filepath.Join(dir, "plain")
	require.NoError(t, os.WriteFile(plain, nil, 0o666)) // the kernel's own idea of the umask
	f := create(t, filepath.Join(dir, "new"), Options{})
	require.NoError(t, f.Commit())
	require.Equal(t, mode(t, plain), mode(t, f.Target()))

	f = create(t, filepath.Join(dir, "private"), Options{Perm: 0o600})
	require.NoError(t, f.Commit())
	require.Equal(t, fs.FileMode(0o600), mode(t, f.Target()))

	for _, want := range []fs.FileMode{0o600, 0o640, 0o777, 0o666} {
		require.NoError(t, os.Chmod(f.Target(), want))
		f = create(t, f.Target(), Options{Perm: 0o644})
		require.Equal(t, want, mode(t, f.Name()), "before it is complete")
		require.NoError(t, f.Commit())
		require.Equal(t, want, mode(t, f.Target()))
	}
}

func TestOwner(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root gives files away")
	}
	name := filepath.Join(t.TempDir(), "a")
	require.NoError(t, os.WriteFile(name, nil, 0o640))
	require.NoError(t, os.Chown(name, 1234, 4321))
	f := create(t, name, Options{})
	require.NoError(t, f.Commit())
	info, err := os.Stat(name)
	require.NoError(t, err)
	st := info.Sys().(*syscall.Stat_t)
	require.Equal(t, [2]uint32{1234, 4321}, [2]uint32{st.Uid, st.Gid})
	require.Equal(t, fs.FileMode(0o640), info.Mode())
}

func TestReadOnlyFileIsNotReplaced(t *testing.T) {
	if os.Getuid() == 0 {
		t.Skip("root may write all files")
	}
	name := filepath.Join(t.TempDir(), "a")
	require.NoError(t, os.WriteFile(name, []byte("old"), 0o444))
	_, err := Create(name, Options{})
	require.ErrorIs(t, err, fs.ErrPermission)
}

// TestSymbolicLinks are followed, and stay.
func TestSymbolicLinks(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	require.NoError(t, err)
	at := func(n string) string { return filepath.Join(dir, n) }
	require.NoError(t, os.MkdirAll(at("real/deep"), 0o777))
	require.NoError(t, os.WriteFile(at("real/file"), []byte("old"), 0o666))
	require.NoError(t, os.Symlink("real/deep", at("folder")))
	for _, tt := range []struct{ link, to, want string }{
		{"one", "real/file", "real/file"},
		{"two", "one", "real/file"},
		{"absolute", at("real/file"), "real/file"},
		{"real/deep/up", "../file", "real/file"},
		{"dangling", "real/new", "real/new"},
		{"dots", "folder/../by-dots", "real/by-dots"}, // folder/.. is real, not dir
	} {
		t.Run(tt.link, func(t *testing.T) {
			require.NoError(t, os.Symlink(tt.to, at(tt.link)))
			f := create(t, at(tt.link), Options{})
			require.True(t, f.Resolved())
			require.Equal(t, at(tt.want), f.Target())
			require.Equal(t, filepath.Dir(f.Target()), filepath.Dir(f.Name()), "on the target's file system")
			put(t, f, "new "+tt.link)
			require.NoError(t, f.Commit())
			require.Equal(t, "new "+tt.link, content(t, at(tt.want)))
			to, err := os.Readlink(at(tt.link))
			require.NoError(t, err)
			require.Equal(t, tt.to, to)
		})
	}
	// Through a folder that is a link: the name is the caller's own.
	f := create(t, at("folder/x"), Options{})
	require.False(t, f.Resolved())
	require.NoError(t, f.Commit())
	require.FileExists(t, at("real/deep/x"))

	require.NoError(t, os.Symlink("loop", at("loop")))
	_, err = Create(at("loop"), Options{})
	require.ErrorIs(t, err, syscall.ELOOP)
	require.NoError(t, os.Symlink("nowhere/x", at("lost")))
	_, err = Create(at("lost"), Options{})
	require.ErrorIs(t, err, fs.ErrNotExist)
	_, err = Create(at("folder"), Options{})
	require.ErrorContains(t, err, "is a folder")
}

func TestRefusedOnUnix(t *testing.T) {
	dir := t.TempDir()
	fifo, sock := filepath.Join(dir, "fifo"), filepath.Join(dir, "sock")
	require.NoError(t, syscall.Mkfifo(fifo, 0o666))
	l, err := net.Listen("unix", sock)
	require.NoError(t, err)
	defer l.Close()
	for name, what := range map[string]string{fifo: "is a FIFO", sock: "is a socket", "/dev/null": "is a character device"} {
		_, err := Create(name, Options{Force: true})
		require.ErrorContains(t, err, what)
		var pe *fs.PathError
		require.ErrorAs(t, err, &pe)
		require.Equal(t, name, pe.Path)
	}
}
