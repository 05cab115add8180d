package vhd

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/internal/peer"
)

// TestLargeAgainstPeers holds that QEMU and libvhdi find in disks of up to 2040
// GiB what was written at their ends and at the borders of blocks, and that ours
// finds what QEMU wrote there.
func TestLargeAgainstPeers(t *testing.T) {
	peer.Find(t, "qemu-img")
	peer.Find(t, "qemu-io")
	peer.Find(t, systemPython)
	for _, size := range []int64{127 << 30, 136899993600 + 512, MaxSize} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			places := []int64{0, 2<<20 - 512, 2 << 20, 100 << 30, size - 512}
			dir := t.TempDir()
			name := filepath.Join(dir, "disk.vhd")
			file, err := os.Create(name)
			require.NoError(t, err)
			defer file.Close()
			w, err := NewWriter(filled{file}, WriterOptions{Size: size})
			require.NoError(t, err)
			b := w.NewBatch()
			for i := 0; i < len(places); {
				start := places[i] &^ (diskimage.BatchSize - 1)
				b.Reset(start, min(diskimage.BatchSize, size-start))
				clear(b.Buf)
				for ; i < len(places) && places[i]-start < diskimage.BatchSize; i++ {
					copy(b.Buf[places[i]-start:], bytes.Repeat([]byte{byte(i + 1)}, 512))
				}
				b.Blocks = append(b.Blocks, diskimage.Block{Off: start, Len: b.Len, Data: b.Buf[:b.Len]})
				require.NoError(t, w.Encode(b))
				require.NoError(t, w.Place(b))
				require.NoError(t, w.Store(t.Context(), b))
			}
			require.NoError(t, w.Finish(t.Context()))
			requireAt(t, name, size, places)
			args := []string{"-r", "-f", "vpc"}
			for i, off := range places {
				args = append(args, "-c", fmt.Sprintf("read -P %d %d 512", i+1, off))
			}
			require.NotContains(t, peer.Run(t, "qemu-io", append(args, name)...), "failed")
			require.Equal(t, fmt.Sprintln(size, "1 2 3 4 5"), peer.Run(t, systemPython, append([]string{"-c", libvhdiPeek, name}, texts(places)...)...))

			theirs := filepath.Join(dir, "theirs.vhd")
			peer.Run(t, "qemu-img", "create", "-q", "-f", "vpc", "-o", "force_size", theirs, fmt.Sprint(size))
			args = []string{"-f", "vpc"}
			for i, off := range places {
				args = append(args, "-c", fmt.Sprintf("write -P %d %d 512", i+1, off))
			}
			peer.Run(t, "qemu-io", append(args, theirs)...)
			requireAt(t, theirs, size, places)
		})
	}
}

// filled is a new file.
type filled struct{ *os.File }

func (filled) ZeroFilled() bool { return true }

func texts(numbers []int64) (all []string) {
	for _, n := range numbers {
		all = append(all, fmt.Sprint(n))
	}
	return all
}

// requireAt asserts that an image's disk has 1 in its sector at the first place,
// 2 at the second and so on, and that it is sound.
func requireAt(t *testing.T, name string, size int64, places []int64) {
	t.Helper()
	file, err := os.Open(name)
	require.NoError(t, err)
	info, err := file.Stat()
	require.NoError(t, err)
	d, err := Open(t.Context(), diskimage.NewSource(file, info.Size()), Options{})
	require.NoError(t, err)
	defer d.Close()
	require.Equal(t, size, d.Size())
	require.NoError(t, d.CheckMap())
	require.Empty(t, d.Notes())
	var p [512]byte
	for i, off := range places {
		_, err := d.ReadAt(p[:], off)
		require.NoError(t, err)
		require.Equal(t, bytes.Repeat([]byte{byte(i + 1)}, 512), p[:], "at %d", off)
	}
	res, err := Check(t.Context(), diskimage.NewSource(file, info.Size()), CheckOptions{})
	require.NoError(t, err)
	require.Zero(t, res.Corruptions+res.Leaks+res.CheckErrors)
	require.EqualValues(t, 4, res.Allocated)
}

// libvhdiPeek prints the disk's size and the first byte at each of the places.
const libvhdiPeek = `
import pyvhdi, sys
disk = pyvhdi.file()
disk.open(sys.argv[1])
print(disk.get_media_size(), *(disk.read_buffer_at_offset(512, int(at))[511] for at in sys.argv[2:]))
`
