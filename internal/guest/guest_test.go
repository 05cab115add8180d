package guest

import (
	"io"
	"io/fs"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestReadAt reads a disk of ten bytes in runs of three, of which the last
// cannot be read unless that is mended.
func TestReadAt(t *testing.T) {
	const disk = "0123456789"
	broken := true
	run := func(p []byte, off int64) (int, error) {
		if off >= 9 && broken {
			return 1, fs.ErrPermission
		}
		return copy(p, disk[off:min(off/3*3+3, 10)]), nil
	}
	for _, c := range []struct {
		off  int64
		n    int
		want string
		err  error
	}{
		{0, 9, "012345678", nil},
		{2, 2, "23", nil},
		{4, 5, "45678", nil},
		{3, 0, "", nil},
		{7, 3, "78", fs.ErrPermission},
		{7, 30, "78", fs.ErrPermission},
		{10, 0, "", nil},
		{10, 1, "", io.EOF},
		{1 << 62, 1, "", io.EOF},
	} {
		p := make([]byte, c.n)
		n, err := ReadAt("f", 10, p, c.off, run)
		require.Equal(t, c.err, err)
		require.Equal(t, c.want, string(p[:n]))
	}
	broken = false
	p := make([]byte, 30)
	n, err := ReadAt("f", 10, p, 1, run)
	require.Equal(t, io.EOF, err)
	require.Equal(t, disk[1:], string(p[:n]))
	_, err = ReadAt("f", 10, p, -1, run)
	require.EqualError(t, err, "f: reading at the negative offset -1")
}
