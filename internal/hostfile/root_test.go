package hostfile

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestOpenIn(t *testing.T) {
	dir := t.TempDir()
	in := filepath.Join(dir, "in")
	require.NoError(t, os.Mkdir(in, 0o777))
	write(t, filepath.Join(in, "disk"), []byte("hello"))
	write(t, filepath.Join(dir, "outside"), []byte("hello"))
	require.NoError(t, os.Symlink("../outside", filepath.Join(in, "link")))
	root, err := os.OpenRoot(in)
	require.NoError(t, err)
	defer root.Close()

	f, err := OpenIn(root, "disk")
	require.NoError(t, err)
	require.EqualValues(t, 5, f.Size())
	require.NoError(t, f.Close())

	for _, name := range []string{"missing", ".", "..", "../outside", "link", filepath.Join(in, "disk")} {
		_, err := OpenIn(root, name)
		require.Error(t, err, name)
	}
}
