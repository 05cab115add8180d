package fault

import (
	"io/fs"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage"
)

type failing struct{}

func (failing) ReadAt([]byte, int64) (int, error) { return 0, fs.ErrPermission }

func TestReadFull(t *testing.T) {
	src, p := strings.NewReader("0123456789"), make([]byte, 4)
	require.NoError(t, ReadFull("f", src, p, 6, "field"), "up to the end")
	require.Equal(t, "6789", string(p))

	err := ReadFull("f", src, p, 8, "field")
	require.ErrorIs(t, err, diskimage.ErrTruncated)
	require.EqualError(t, err, "f: field at 0x8: the file ends at 0xa, after 2 of 4 bytes")

	err = ReadFull("f", failing{}, p, 8, "field")
	require.ErrorIs(t, err, fs.ErrPermission)
	require.EqualError(t, err, "f: field: reading 4 bytes at 0x8: permission denied")
}

func TestWithin(t *testing.T) {
	err := New("f", diskimage.ErrCorrupt, 16, "entry 3", "%d is odd", 5)
	in := Within("f", err, "table %d", 7)
	require.ErrorIs(t, in, diskimage.ErrCorrupt)
	require.EqualError(t, in, "f: table 7: entry 3 at 0x10: 5 is odd")
	require.EqualError(t, err, "f: entry 3 at 0x10: 5 is odd", "it stays as it was")

	in = Within("f", fs.ErrPermission, "table %d", 7)
	require.ErrorIs(t, in, fs.ErrPermission)
	require.EqualError(t, in, "f: table 7: permission denied")
}
