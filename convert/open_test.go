package convert

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/internal/peer"
	"github.com/diskimage-go/diskimage/qcow2"
	"github.com/diskimage-go/diskimage/raw"
	"github.com/stretchr/testify/require"
)

// A layer is a small QCOW2 image of 1 MiB that may name others.
type layer struct {
	backing, format string
	dataFile        string
	fill            byte // of guest cluster 0, if not 0
}

const layerSize = 1 << 20

// bytes returns the image: header, refcount table, refcount block, L1 table,
// L2 table and one data cluster.
func (l layer) bytes() []byte {
	const cluster = 65536
	p := make([]byte, 6*cluster)
	be := binary.BigEndian
	copy(p, qcow2Head)
	be.PutUint32(p[20:], 16) // cluster_bits
	be.PutUint64(p[24:], layerSize)
	be.PutUint32(p[36:], 1) // l1_size
	be.PutUint64(p[40:], 3*cluster)
	be.PutUint64(p[48:], 1*cluster) // refcount table
	be.PutUint32(p[56:], 1)
	be.PutUint32(p[96:], 4) // refcount_order
	be.PutUint32(p[100:], 112)
	at := 112
	extension := func(kind uint32, s string) {
		be.PutUint32(p[at:], kind)
		be.PutUint32(p[at+4:], uint32(len(s)))
		copy(p[at+8:], s)
		at += 8 + (len(s)+7)/8*8
	}
	if l.format != "" {
		extension(0xe2792aca, l.format)
	}
	if l.dataFile != "" {
		be.PutUint64(p[72:], 1<<2)
		extension(0x44415441, l.dataFile)
	}
	at += 8 // the end
	if l.backing != "" {
		be.PutUint64(p[8:], uint64(at))
		be.PutUint32(p[16:], uint32(len(l.backing)))
		copy(p[at:], l.backing)
	}
	be.PutUint64(p[1*cluster:], 2*cluster)
	used := 4
	if l.fill != 0 {
		used = 6
		be.PutUint64(p[3*cluster:], 4*cluster|1<<63)
		be.PutUint64(p[4*cluster:], 5*cluster|1<<63)
		copy(p[5*cluster:], bytes.Repeat([]byte{l.fill}, cluster))
		if l.dataFile != "" {
			used = 5
			be.PutUint64(p[4*cluster:], 1<<63) // guest and host offsets are the same
		}
	}
	for i := range used {
		be.PutUint16(p[2*cluster+2*i:], 1)
	}
	return p[:used*cluster]
}

func put(t *testing.T, p []byte, path ...string) string {
	t.Helper()
	name := filepath.Join(path...)
	require.NoError(t, os.MkdirAll(filepath.Dir(name), 0o777))
	require.NoError(t, os.WriteFile(name, p, 0o666))
	return name
}

// firstByte reads the guest's first byte, and closes the disk.
func firstByte(t *testing.T, d diskimage.VirtualDisk) byte {
	t.Helper()
	var p [1]byte
	_, err := d.ReadAt(p[:], 0)
	require.NoError(t, err)
	require.NoError(t, d.Close())
	return p[0]
}

func TestOpenFile(t *testing.T) {
	ctx, dir := context.Background(), t.TempDir()
	image := put(t, layer{fill: 'q'}.bytes(), dir, "image")
	disk := put(t, file(513, 0, "\xeb\x63\x90"), dir, "disk")

	d, err := OpenFile(ctx, image, OpenOptions{})
	require.NoError(t, err)
	require.IsType(t, (*qcow2.Disk)(nil), d)
	require.Equal(t, QCOW2, FormatOf(d))
	require.Empty(t, diskimage.NotesOf(d))
	require.EqualValues(t, layerSize, d.Size())
	require.EqualValues(t, 'q', firstByte(t, d))

	d, err = OpenFile(ctx, disk, OpenOptions{})
	require.NoError(t, err)
	require.IsType(t, (*raw.Disk)(nil), d)
	require.Equal(t, Raw, FormatOf(d))
	require.EqualValues(t, 513, d.Size())
	require.EqualValues(t, 0xeb, firstByte(t, d))
	_, err = d.ReadAt(make([]byte, 1), 0)
	require.ErrorIs(t, err, os.ErrClosed)

	// As raw, the image's own bytes, and what looked otherwise is noted.
	_, err = OpenFile(ctx, image, OpenOptions{Format: Raw})
	require.ErrorIs(t, err, diskimage.ErrFormat)
	d, err = OpenFile(ctx, image, OpenOptions{Format: Raw, RawAnyway: true})
	require.NoError(t, err)
	require.Len(t, diskimage.NotesOf(d), 1)
	require.EqualValues(t, 'Q', firstByte(t, d))

	// The same of what stays a QCOW2 image.
	polyglot := layer{}.bytes()
	copy(polyglot[32768:], isoHead)
	d, err = Open(ctx, source(polyglot), OpenOptions{Format: QCOW2})
	require.NoError(t, err)
	require.Contains(t, fmt.Sprint(diskimage.NotesOf(d)), "ISO 9660")

	_, err = OpenFile(ctx, disk, OpenOptions{Snapshot: "1"})
	require.ErrorIs(t, err, diskimage.ErrUnsupported)
	_, err = OpenFile(ctx, image, OpenOptions{Snapshot: "none"})
	require.Error(t, err)

	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	_, err = OpenFile(cancelled, image, OpenOptions{})
	require.ErrorIs(t, err, context.Canceled)
}

// A failed Open leaves the source to its caller, OpenFile closes its own.
func TestOpenClosesOnlyItsOwn(t *testing.T) {
	p := layer{backing: "x", format: "raw"}.bytes()
	src := &closeCounter{Reader: bytes.NewReader(p)}
	_, err := Open(context.Background(), diskimage.NewSource(src, int64(len(p))), OpenOptions{})
	require.ErrorIs(t, err, diskimage.ErrExternal)
	require.Zero(t, src.closed)
	d, err := Open(context.Background(), diskimage.NewSource(src, int64(len(p))), OpenOptions{SkipExternal: true})
	require.NoError(t, err)
	require.NoError(t, d.Close())
	require.Equal(t, 1, src.closed)
}

type closeCounter struct {
	*bytes.Reader
	closed int
}

func (c *closeCounter) Close() error { c.closed++; return nil }

func TestOpenFileRefusesWhatIsNoFile(t *testing.T) {
	dir := t.TempDir()
	loop := filepath.Join(dir, "loop")
	require.NoError(t, os.Symlink(loop, loop))
	for name, want := range map[string]string{
		dir:                            "is a folder",
		loop:                           "",
		filepath.Join(dir, "missing"):  "",
		filepath.Join(dir, "a\x00b"):   "",
		os.DevNull:                     "is a character device",
		put(t, nil, dir, "empty"):      "the file is empty",
		put(t, nil, dir, "sub", "any"): "the file is empty",
	} {
		_, err := OpenFile(context.Background(), name, OpenOptions{})
		require.Error(t, err, name)
		require.ErrorContains(t, err, want)
	}
}

// Names that QEMU would follow are refused, by whoever made the image, and
// even if a guest made it inside its raw disk.
func TestExternalIsRefusedByDefault(t *testing.T) {
	for name, l := range map[string]layer{
		"absolute":  {backing: "/etc/passwd", format: "raw"},
		"undecl":    {backing: "/etc/passwd"},
		"relative":  {backing: "../../../etc/passwd", format: "raw"},
		"json":      {backing: `json:{"driver":"file","filename":"/etc/passwd"}`, format: "raw"},
		"nbd":       {backing: "nbd://127.0.0.1:1/", format: "raw"},
		"data file": {dataFile: "/etc/passwd"},
		"data json": {dataFile: `json:{"driver":"file","filename":"/etc/passwd"}`},
	} {
		disk := make([]byte, 4<<20)
		copy(disk, l.bytes())
		_, err := Open(context.Background(), source(disk), OpenOptions{})
		require.ErrorIs(t, err, diskimage.ErrExternal, name)
	}
}

// What qemu-img makes opens as what it is.
func TestOpenPeersImages(t *testing.T) {
	dir := t.TempDir()
	content := bytes.Repeat([]byte("\x00\x01data"), 100_000)
	disk := put(t, content, dir, "disk.raw")
	for _, format := range []Format{Raw, QCOW2, VMDK, VHD} {
		name := filepath.Join(dir, "image."+format.String())
		peer.Run(t, "qemu-img", "convert", "-f", "raw", "-O", format.String(), disk, name)
		d, err := OpenFile(context.Background(), name, OpenOptions{})
		require.NoError(t, err)
		require.Equal(t, format, FormatOf(d))
		got, err := io.ReadAll(io.NewSectionReader(d, 0, int64(len(content))))
		require.NoError(t, err)
		require.True(t, bytes.Equal(content, got), format)
		require.NoError(t, d.Close())
	}
	for format, arg := range map[string]string{"vmdk": "subformat=monolithicFlat", "vdi": "static=on", "vhdx": "subformat=dynamic", "qed": "", "parallels": ""} {
		name := filepath.Join(dir, "other."+format)
		args := []string{"create", "-q", "-f", format}
		if arg != "" {
			args = append(args, "-o", arg)
		}
		peer.Run(t, "qemu-img", append(args, name, "1M")...)
		_, err := OpenFile(context.Background(), name, OpenOptions{})
		require.Error(t, err, format)
		_, err = OpenFile(context.Background(), name, OpenOptions{Format: QCOW2})
		require.ErrorIs(t, err, diskimage.ErrFormat, format)
	}
}

func ExampleOpenFile() {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	name := filepath.Join(dir, "disk.img")
	if err := os.WriteFile(name, make([]byte, 1<<20), 0o666); err != nil {
		panic(err)
	}

	disk, err := OpenFile(context.Background(), name, OpenOptions{})
	if err != nil {
		panic(err)
	}
	defer disk.Close()
	fmt.Println(FormatOf(disk), disk.Size())
	for e, err := range diskimage.Extents(disk, 0, disk.Size()) {
		fmt.Println(e.Off, e.Len, e.Kind, err)
	}
	// Output:
	// raw 1048576
	// 0 1048576 data <nil>
}
