package vhd

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/internal/disktest"
	"github.com/diskimage-go/diskimage/internal/peer"
)

// TestWriterAgainstPeers holds that QEMU, libvhdi and 7-Zip read what is
// written as what it was made of.
func TestWriterAgainstPeers(t *testing.T) {
	peer.Find(t, "qemu-img")
	peer.Find(t, "vhdiinfo")
	peer.Find(t, "7z")
	peer.Find(t, systemPython)
	for name, o := range map[string]WriterOptions{
		"dynamic":   {},
		"512k":      {BlockSize: 512 << 10},
		"4k":        {BlockSize: 4096},
		"fixed":     {Type: Fixed},
		"geometric": {Geometric: true},
		"azure":     {Azure: true},
		"zeros":     {AllocateZeros: true},
	} {
		for _, size := range []int64{512, 2<<20 - 512, 2 << 20, 2<<20 + 512, 7<<20 + 1024} {
			t.Run(fmt.Sprintf("%s/%d", name, size), func(t *testing.T) {
				if testing.Short() && size > 4<<20 {
					t.Skip("the larger ones")
				}
				t.Parallel()
				guest := patchwork(uint64(size), size)
				o := o // the others run at the same time
				o.Size = size
				file := write(t, o, guest)
				path := save(t, "disk.vhd", file)
				d := open(t, file, Options{})
				want := append(bytes.Clone(guest), make([]byte, d.Size()-size)...)
				disktest.Conform(t, d, want)
				require.NoError(t, d.CheckMap())

				flat := save(t, "disk.raw", want)
				peer.Run(t, "qemu-img", "compare", "-f", "vpc", "-F", "raw", path, flat)
				require.Contains(t, peer.Run(t, "qemu-img", "info", "-f", "vpc", "--output=json", path), fmt.Sprintf(`"virtual-size": %d,`, d.Size()))
				info := peer.Run(t, "vhdiinfo", path)
				require.Contains(t, info, fmt.Sprintf("(%d bytes)", d.Size()))
				if size > 4<<20 {
					sum := sha256.Sum256(want)
					require.Equal(t, hex.EncodeToString(sum[:])+"\n", peer.Run(t, systemPython, "-c", libvhdiDigest, path))
				}
				out := filepath.Join(t.TempDir(), "out")
				peer.Run(t, "7z", "x", "-y", "-tvhd", "-o"+out, path)
				unpacked, err := filepath.Glob(filepath.Join(out, "*"))
				require.NoError(t, err)
				require.Len(t, unpacked, 1)
				got, err := os.ReadFile(unpacked[0])
				require.NoError(t, err)
				require.True(t, bytes.Equal(want, got), "7-Zip reads other bytes")
			})
		}
	}
}

// TestWriterSameBytes holds that what an output can do does not change the
// image: a file that reads as zeros where nothing was written, and one that
// does not, which gets every byte in order but for the front.
func TestWriterSameBytes(t *testing.T) {
	guest := patchwork(3, 9<<20)
	clear(guest[2<<20 : 6<<20])
	for name, o := range map[string]WriterOptions{
		"dynamic": {}, "256k": {BlockSize: 256 << 10}, "fixed": {Type: Fixed}, "all": {AllocateZeros: true},
		"differencing": {Type: Differencing, Parent: &Parent{Name: "base.vhd", ID: [16]byte{1}}},
	} {
		t.Run(name, func(t *testing.T) {
			o.Size = int64(len(guest))
			file := write(t, o, guest)
			for _, skip := range []func(int64) bool{nil, func(off int64) bool { return off >= 2<<20 && off < 6<<20 }} {
				if skip != nil && (o.AllocateZeros || o.Type == Differencing) {
					continue // zeros are not nothing
				}
				r := &recorder{ordered: true}
				w, err := NewWriter(r, o)
				require.NoError(t, err)
				r.prefix = w.Prefix()
				require.NoError(t, drive(w, guest, skip))
				require.Empty(t, r.breaches)
				require.Equal(t, -1, bytes.IndexByte(r.written, 0), "a byte is never written")
				require.True(t, bytes.Equal(file, r.bytes))
			}
			other := bytes.Clone(guest)
			other[7<<20] ^= 1
			require.NotEqual(t, open(t, file, Options{SkipExternal: true}).Info().UniqueID,
				open(t, write(t, o, other), Options{SkipExternal: true}).Info().UniqueID, "another content, another identifier")
		})
	}
}

// TestWriterDifferencing holds that a differencing disk shows its parent where
// it has nothing, hides it with zeros where it says so, and that libvhdi knows
// both for a pair.
func TestWriterDifferencing(t *testing.T) {
	peer.Find(t, "vhdiinfo")
	peer.Find(t, systemPython)
	base := patchwork(1, 5<<20)
	baseFile := write(t, WriterOptions{}, base)
	parent := open(t, baseFile, Options{})

	r := &recorder{zeros: true}
	w, err := NewWriter(r, WriterOptions{Type: Differencing, Size: 5 << 20, Parent: &Parent{Name: "base.vhd", ID: parent.f.uniqueID}})
	require.NoError(t, err)
	r.prefix = w.Prefix()
	top := bytes.Clone(base)
	b := w.NewBatch()
	b.Reset(0, diskimage.BatchSize)
	copy(top[64<<10:], "what is new in the disk above")
	clear(top[1<<20 : 1<<20+64<<10])
	b.Blocks = []diskimage.Block{
		{Off: 64 << 10, Len: 4096, Data: top[64<<10 : 68<<10]},
		{Off: 1 << 20, Len: 64 << 10, Kind: diskimage.Zero},
	}
	require.NoError(t, w.Encode(b))
	require.NoError(t, w.Place(b))
	require.NoError(t, w.Store(context.Background(), b))
	require.NoError(t, w.Finish(context.Background()))
	require.Empty(t, r.breaches)

	d := open(t, r.bytes, Options{Opener: files{"base.vhd": baseFile}})
	disktest.Conform(t, d, top)
	require.NoError(t, d.CheckMap())
	require.Empty(t, d.Notes())
	e, err := d.NextExtent(1 << 20)
	require.NoError(t, err)
	require.Equal(t, 0, e.Depth, "zeros that were said are this disk's")
	sum := sha256.Sum256(top)
	require.Equal(t, hex.EncodeToString(sum[:])+"\n", peer.Run(t, systemPython, "-c", libvhdiDigest, save(t, "top.vhd", r.bytes), save(t, "base.vhd", baseFile)))
	info := peer.Run(t, "vhdiinfo", save(t, "top.vhd", r.bytes))
	require.Contains(t, info, "Differential")
	require.Contains(t, info, parent.Info().UniqueID)
	require.Contains(t, info, "base.vhd")
}

// systemPython is the one that Debian's python3-libvhdi is for.
const systemPython = "/usr/bin/python3"

// libvhdiDigest prints the SHA-256 of the guest disk as libvhdi reads it, with
// its parent if there is one.
const libvhdiDigest = `
import hashlib, pyvhdi, sys
disk, parent = pyvhdi.file(), pyvhdi.file()
disk.open(sys.argv[1])
if len(sys.argv) > 2:
    parent.open(sys.argv[2])
    disk.set_parent(parent)
left, digest = disk.get_media_size(), hashlib.sha256()
while left:
    data = disk.read_buffer(min(left, 1 << 20))
    digest.update(data)
    left -= len(data)
print(digest.hexdigest())
`

func TestWriterOptions(t *testing.T) {
	for name, c := range map[string]struct {
		o    WriterOptions
		kind diskimage.ErrorKind
	}{
		"negative size":        {WriterOptions{Size: -1}, diskimage.ErrUnsupported},
		"too large":            {WriterOptions{Size: MaxSize + 1}, diskimage.ErrLimit},
		"far too large":        {WriterOptions{Size: math.MaxInt64}, diskimage.ErrLimit},
		"too many blocks":      {WriterOptions{Size: 16<<30 + 512, BlockSize: 4096}, diskimage.ErrLimit},
		"type":                 {WriterOptions{Type: 5}, diskimage.ErrUnsupported},
		"block size":           {WriterOptions{BlockSize: 3 << 20}, diskimage.ErrUnsupported},
		"large blocks":         {WriterOptions{BlockSize: 4 << 20}, diskimage.ErrUnsupported},
		"small blocks":         {WriterOptions{BlockSize: 2048}, diskimage.ErrUnsupported},
		"blocks of fixed":      {WriterOptions{Type: Fixed, BlockSize: 2 << 20}, diskimage.ErrUnsupported},
		"azure dynamic":        {WriterOptions{Azure: true, Type: Dynamic}, diskimage.ErrUnsupported},
		"azure by geometry":    {WriterOptions{Azure: true, Geometric: true}, diskimage.ErrUnsupported},
		"no parent":            {WriterOptions{Type: Differencing}, diskimage.ErrUnsupported},
		"parent of dynamic":    {WriterOptions{Parent: &Parent{Name: "x"}}, diskimage.ErrUnsupported},
		"parent without name":  {WriterOptions{Type: Differencing, Parent: &Parent{}}, diskimage.ErrUnsupported},
		"long name of parent":  {WriterOptions{Type: Differencing, Parent: &Parent{Name: string(make([]byte, 257))}}, diskimage.ErrUnsupported},
		"all of differencing":  {WriterOptions{Type: Differencing, Parent: &Parent{Name: "x"}, AllocateZeros: true}, diskimage.ErrUnsupported},
		"time before the time": {WriterOptions{Time: time.Date(1999, 12, 31, 23, 59, 59, 0, time.UTC)}, diskimage.ErrUnsupported},
		"time after it":        {WriterOptions{Time: time.Date(2137, 1, 1, 0, 0, 0, 0, time.UTC)}, diskimage.ErrUnsupported},
	} {
		_, err := NewWriter(&recorder{}, c.o)
		require.ErrorIs(t, err, c.kind, name)
	}
	_, err := NewWriter(&recorder{}, WriterOptions{Size: MaxSize})
	require.NoError(t, err)
}

// TestWriterSizes holds what becomes of sizes that the format, or who asked,
// cannot have.
func TestWriterSizes(t *testing.T) {
	for _, c := range []struct {
		o    WriterOptions
		size int64
		note string
	}{
		{WriterOptions{Size: 1000}, 1024, "no multiple of 512"},
		{WriterOptions{Size: 1024}, 1024, ""},
		{WriterOptions{Size: 10 << 20, Geometric: true}, 10514432, "a geometry"}, // as qemu-img 7.2 has it
		{WriterOptions{Size: 10514432, Geometric: true}, 10514432, ""},
		{WriterOptions{Size: 1 << 40, Geometric: true}, 1 << 40, ""}, // beyond all geometries
		{WriterOptions{Size: 10<<20 + 512, Azure: true}, 11 << 20, "Azure"},
		{WriterOptions{Size: 10 << 20, Azure: true}, 10 << 20, ""},
	} {
		w, err := NewWriter(&recorder{zeros: true}, c.o)
		require.NoError(t, err)
		require.Equal(t, c.size, w.Size(), "%+v", c.o)
		if c.note == "" {
			require.Empty(t, w.Notes())
		} else {
			require.Len(t, w.Notes(), 1)
			require.Contains(t, w.Notes()[0].Text, c.note)
		}
	}
}

// TestGeometryOfPeer holds the padded sizes against what qemu-img makes of them.
func TestGeometryOfPeer(t *testing.T) {
	peer.Find(t, "qemu-img")
	dir := t.TempDir()
	for i, size := range []int64{512, 68 << 10, 1 << 20, 10 << 20, 504 << 20, 2<<30 + 512, 8 << 30, 33 << 30, 100 << 30, 136363130880, 136899993600, 200 << 30} {
		name := filepath.Join(dir, fmt.Sprint(i))
		peer.Run(t, "qemu-img", "create", "-q", "-f", "vpc", name, fmt.Sprint(size))
		file, err := os.ReadFile(name)
		require.NoError(t, err)
		want := open(t, file, Options{})
		w, err := NewWriter(&recorder{zeros: true}, WriterOptions{Size: size, Geometric: true})
		require.NoError(t, err)
		require.Equal(t, want.Size(), w.Size(), size)
		require.Equal(t, want.Info().Geometry, w.footer.geometry, size)
		require.Equal(t, want.Info().Creator, string(w.footer.creator[:]))
	}
}

// TestWriterFaults holds that no failed write goes unnoticed.
func TestWriterFaults(t *testing.T) {
	guest := patchwork(5, 5<<20)
	for _, o := range []WriterOptions{{}, {Type: Fixed}} {
		o.Size = int64(len(guest))
		for k := 1; ; k++ {
			r := &recorder{failAt: k}
			w, err := NewWriter(r, o)
			require.NoError(t, err)
			err = drive(w, guest, nil)
			if err == nil {
				require.Less(t, r.writes, k)
				break
			}
			require.ErrorIs(t, err, os.ErrDeadlineExceeded)
			require.NoError(t, w.Abort())
		}
	}
}

// TestWriterMisuse holds that whoever breaks the rules gets an error.
func TestWriterMisuse(t *testing.T) {
	data := make([]byte, diskimage.BatchSize)
	data[0], data[len(data)-1] = 1, 1
	for name, b := range map[string]diskimage.Batch{
		"batch not aligned":  {Off: 4096, Len: 4096},
		"batch too long":     {Off: 0, Len: diskimage.BatchSize + 1},
		"block not aligned":  {Len: 8192, Blocks: []diskimage.Block{{Off: 512, Len: 4096, Data: data[:4096]}}},
		"block beyond":       {Off: 4 << 20, Len: 4096, Blocks: []diskimage.Block{{Off: 4 << 20, Len: 4096, Data: data[:4096]}}},
		"data beyond":        {Off: 2 << 20, Len: 1 << 20, Blocks: []diskimage.Block{{Off: 2 << 20, Len: 2 << 20, Data: data}}},
		"blocks overlap":     {Len: 8192, Blocks: []diskimage.Block{{Len: 8192, Data: data[:8192]}, {Off: 4096, Len: 4096, Data: data[:4096]}}},
		"length of data":     {Len: 8192, Blocks: []diskimage.Block{{Len: 8192, Data: data[:4096]}}},
		"compressed data":    {Len: 8192, Blocks: []diskimage.Block{{Len: 4096, Enc: diskimage.Deflate, Data: data[:10]}}},
		"block out of batch": {Len: 2 << 20, Blocks: []diskimage.Block{{Off: 2 << 20, Len: 4096, Data: data[:4096]}}},
	} {
		w, err := NewWriter(&recorder{}, WriterOptions{Size: 3 << 20})
		require.NoError(t, err)
		own := w.NewBatch()
		b.Plan = own.Plan
		require.Error(t, w.Encode(&b), name)
		require.Error(t, w.Encode(&diskimage.Batch{}), "another writer's batch")
		require.Error(t, w.Place(&diskimage.Batch{}), "another writer's batch")
		require.Error(t, w.Store(context.Background(), &diskimage.Batch{}), "another writer's batch")
	}
	w, err := NewWriter(&recorder{}, WriterOptions{Size: 3 << 20})
	require.NoError(t, err)
	b := w.NewBatch()
	b.Reset(2<<20, 1<<20)
	require.NoError(t, w.Encode(b))
	require.NoError(t, w.Place(b))
	b.Reset(0, 2<<20)
	require.NoError(t, w.Encode(b))
	require.Error(t, w.Place(b), "backwards")
	require.NoError(t, w.Abort())
	require.Error(t, w.Finish(context.Background()), "after Abort")
}

// TestMeasure holds that images are as large as was said beforehand.
func TestMeasure(t *testing.T) {
	const size = 9<<20 + 512
	for _, o := range []WriterOptions{{}, {BlockSize: 4096}, {BlockSize: 512 << 10}, {Type: Fixed}, {AllocateZeros: true}, {Azure: true},
		{Type: Differencing, Parent: &Parent{Name: "base.vhd"}}} {
		for _, data := range []int64{0, 1, 5 << 20, size} {
			guest := bytes.Repeat([]byte{1}, int(data))
			o.Size = size
			r := &recorder{zeros: true}
			w, err := NewWriter(r, o)
			require.NoError(t, err)
			r.prefix = w.Prefix()
			if o.AllocateZeros {
				guest = append(guest, make([]byte, size-data)...)
			}
			require.NoError(t, drive(w, guest, nil))
			required, fully, err := Measure(size, data, o)
			require.NoError(t, err)
			require.EqualValues(t, len(r.bytes), required, "%+v with %d bytes", o, data)
			if data == size || o.AllocateZeros {
				require.Equal(t, fully, required)
			}
		}
	}
	_, _, err := Measure(MaxSize+1, 0, WriterOptions{})
	require.ErrorIs(t, err, diskimage.ErrLimit)
}
