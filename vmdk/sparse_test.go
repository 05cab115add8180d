package vmdk

import (
	"encoding/binary"
	"io"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage/internal/notes"
	"github.com/diskimage-go/diskimage/internal/pagecache"
)

// A hugeFile is a file of zeros with something at its start.
type hugeFile struct {
	start []byte
	size  int64
}

func (f hugeFile) Size() int64 { return f.size }

func (f hugeFile) ReadAt(p []byte, off int64) (int, error) {
	if left := f.size - off; int64(len(p)) > left {
		return 0, io.EOF
	}
	clear(p)
	if off < int64(len(f.start)) {
		copy(p, f.start[off:])
	}
	return len(p), nil
}

// TestLastSectorOfAll: behind the last grain that an entry can name the count
// of sectors starts again at 0, which is no grain.
func TestLastSectorOfAll(t *testing.T) {
	h := soundHeader()
	h.flags, h.capacity = flagNewLineTest, 1024
	file := append(h.encode(), make([]byte, 127*sectorSize)...)
	le := binary.LittleEndian
	le.PutUint32(file[h.gdOffset*sectorSize:], 27)
	le.PutUint32(file[27*sectorSize:], 1<<32-128)
	s, err := newSparse(partFile{src: hugeFile{file, 4 << 40}, pages: pagecache.New(1 << 20), notes: &notes.List{}})
	require.NoError(t, err)
	m, err := s.locate(0, s.size())
	require.NoError(t, err)
	require.Equal(t, mapping{state: plain, n: 64 << 10, host: 2<<40 - 64<<10}, m)
	m, err = s.locate(64<<10, s.size()-64<<10)
	require.NoError(t, err)
	require.Equal(t, mapping{state: absent, n: s.size() - 64<<10, host: -1}, m)
	require.NoError(t, s.checkMap())
}
