package vmdk

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/internal/zero"
)

// A streamOptimized image is walked from marker to marker, as a product reads
// it from a network: grains ascend and inflate with the standard library,
// tables say where they were, the directory where the tables were, the footer
// where the directory was, and then the stream ends.
func TestWriterStreamLayout(t *testing.T) {
	const size = 100<<20 + 512 // whose last table has one grain
	guest := make([]byte, size)
	copy(guest, guestData(300<<10, defaultGrainSize, allSoft, 1))
	copy(guest[31<<20:], guestData(2<<20, defaultGrainSize, mixed, 2))
	guest[size-1] = 1 // and nothing from 64 to 96 MiB
	img := build(t, WriterOptions{Subformat: StreamOptimized}, guest)

	le := binary.LittleEndian
	head, err := decodeSparseHeader(img[:sectorSize])
	require.NoError(t, err)
	require.Equal(t, uint64(gdAtEnd), head.gdOffset)
	text := bytes.TrimRight(img[sectorSize:21*sectorSize], "\x00")
	d, err := parseDescriptor(text, sectorSize)
	require.NoError(t, err)
	require.EqualValues(t, size/sectorSize, d.sectors())
	require.True(t, zero.Is(img[sectorSize+len(text):128*sectorSize]))

	got := make([]byte, size+defaultGrainSize)
	table := map[int64]uint32{} // sectors of the grains since the last table, by grain
	var tables []uint32
	var directory, last int64 = 0, -1
	at := int64(128 * sectorSize)
	for {
		m := decodeMarker(img[at:])
		if m.size > 0 {
			require.Greater(t, int64(m.val), last)
			last = int64(m.val)
			z, err := zlib.NewReader(bytes.NewReader(img[at+12:][:m.size]))
			require.NoError(t, err)
			data, err := io.ReadAll(z)
			require.NoError(t, err)
			require.Len(t, data, defaultGrainSize)
			copy(got[last*sectorSize:], data)
			table[last/128] = uint32(at / sectorSize)
			end := at + 12 + int64(m.size)
			at = roundUp(end, sectorSize)
			require.True(t, zero.Is(img[end:at]))
			continue
		}
		require.True(t, zero.Is(img[at+16:at+sectorSize]))
		at += sectorSize
		data := img[at:][:m.val*sectorSize]
		switch m.kind {
		case markerGT:
			require.Len(t, data, gtBytes)
			first := last / 128 &^ (numGTEsPerGT - 1)
			for i := range int64(numGTEsPerGT) {
				require.Equal(t, table[first+i], le.Uint32(data[i*4:]), "grain %d", first+i)
			}
			clear(table)
			for int64(len(tables)) < first/numGTEsPerGT {
				tables = append(tables, 0)
			}
			tables = append(tables, uint32(at/sectorSize))
		case markerGD:
			require.Empty(t, table)
			for i := range len(data) / 4 {
				want := uint32(0)
				if i < len(tables) {
					want = tables[i]
				}
				require.Equal(t, want, le.Uint32(data[i*4:]), i)
			}
			directory = at / sectorSize
		case markerFooter:
			foot, err := decodeSparseHeader(data)
			require.NoError(t, err)
			require.EqualValues(t, directory, foot.gdOffset)
			head.gdOffset = foot.gdOffset
			require.Equal(t, head, foot)
		}
		at += int64(len(data))
		if m.kind == markerEOS {
			break
		}
	}
	require.Len(t, img, int(at))
	require.Len(t, tables, 4)
	require.Zero(t, tables[2])
	require.True(t, bytes.Equal(guest, got[:size]))
}

// The header is that of VMware's own export, but for the room that the
// descriptor has.
func TestWriterHeaderAsProducts(t *testing.T) {
	dir := os.Getenv("DISKIMAGE_SAMPLES")
	if dir == "" {
		t.Skip("DISKIMAGE_SAMPLES does not name a folder with images")
	}
	for name, o := range map[string]WriterOptions{
		"iotest-version3.vmdk":  {Size: 16 << 30, Subformat: StreamOptimized},
		"monolithicSparse.vmdk": {Size: 10 << 20},
	} {
		f, err := os.Open(filepath.Join(dir, name))
		require.NoError(t, err)
		defer f.Close()
		theirs := make([]byte, sectorSize)
		_, err = io.ReadFull(f, theirs)
		require.NoError(t, err)
		r := record(t, o)
		_, err = drive(r, o, nil, 1, 0)
		require.NoError(t, err)
		binary.LittleEndian.PutUint64(theirs[offDescriptorSize:], embeddedSectors)
		require.Equal(t, theirs, r.whole(t)[:sectorSize], name)
	}
}

// A monolithicSparse image has the same tables twice, and the grains in the
// order in which they came.
func TestWriterSparseLayout(t *testing.T) {
	const size = 40 << 20
	guest := make([]byte, size)
	guest[0], guest[5<<20], guest[39<<20] = 1, 2, 3
	img := build(t, WriterOptions{}, guest)
	h, err := readHeader(source(img))
	require.NoError(t, err)
	require.Len(t, img, int(h.overHead+3*128)*sectorSize)
	entry := func(gd uint64, grain int) uint32 {
		table := binary.LittleEndian.Uint32(img[gd*sectorSize+uint64(grain)/512*4:])
		return binary.LittleEndian.Uint32(img[int(table)*sectorSize+grain%512*4:])
	}
	for grain := range size >> 16 {
		want := map[int]uint32{0: 128, 5 << 4: 256, 39 << 4: 384}[grain]
		require.Equal(t, want, entry(h.gdOffset, grain), grain)
		require.Equal(t, want, entry(h.rgdOffset, grain), grain)
	}
	for i, b := range []byte{1, 2, 3} {
		require.Equal(t, b, img[(128+128*i)*sectorSize])
	}
}

// Zeros are stored if that is asked for; with a parent those that are said, as
// zeroed grains or else as data.
func TestWriterZeros(t *testing.T) {
	const size = 3 << 20
	for _, c := range []struct {
		o      WriterOptions
		grains int   // that take space
		zeroed []int // entries of 1
	}{
		{WriterOptions{}, 1, nil},
		{WriterOptions{ZeroedGrains: true}, 1, nil},
		{WriterOptions{AllocateZeros: true}, 32, nil},
		{WriterOptions{ParentHint: "p"}, 4, nil},
		{WriterOptions{ParentHint: "p", AllocateZeros: true}, 4, nil},
		{WriterOptions{ParentHint: "p", ZeroedGrains: true}, 1, []int{5, 6, 7}},
		{WriterOptions{Subformat: StreamOptimized}, 1, nil},
		{WriterOptions{Subformat: StreamOptimized, AllocateZeros: true}, 32, nil},
	} {
		c.o.Size = size
		r := record(t, c.o)
		w, err := NewWriter(r, c.o)
		require.NoError(t, err)
		b := w.NewBatch()
		b.Reset(0, diskimage.BatchSize)
		b.Buf[4<<16] = 1
		b.Blocks = append(b.Blocks,
			diskimage.Block{Off: 4 << 16, Len: 2 << 16, Data: b.Buf[4<<16 : 6<<16]}, // the second of zeros
			diskimage.Block{Off: 6 << 16, Len: 2 << 16, Kind: diskimage.Zero})
		step(t, w, b)
		require.NoError(t, w.Finish(t.Context()))

		img := r.whole(t)
		h, err := readHeader(source(img))
		require.NoError(t, err)
		require.Equal(t, c.o.ZeroedGrains, h.zeroedGTE() && h.version == 2)
		gt := int64(binary.LittleEndian.Uint32(img[h.gdOffset*sectorSize:])) * sectorSize
		grains, zeroed := 0, []int(nil)
		for i := range numGTEsPerGT {
			switch binary.LittleEndian.Uint32(img[gt+int64(i)*4:]) {
			case 0:
			case 1:
				zeroed = append(zeroed, i)
			default:
				grains++
			}
		}
		require.Equal(t, c.grains, grains, "%+v", c.o)
		require.Equal(t, c.zeroed, zeroed, "%+v", c.o)
	}
}

// The descriptor says what the options say.
func TestWriterDescriptor(t *testing.T) {
	img := build(t, WriterOptions{Adapter: LSILogic, HWVersion: 13, ToolsVersion: "12", CID: 0xabc, FileName: "ä.vmdk",
		ParentHint: "below.vmdk", ParentCID: 0x1234}, make([]byte, 3<<20))
	text := string(img[sectorSize:][:embeddedSectors*sectorSize])
	for _, line := range []string{
		`CID=00000abc`, `parentCID=00001234`, `parentFileNameHint="below.vmdk"`, `createType="monolithicSparse"`,
		`RW 6144 SPARSE "ä.vmdk"`, `ddb.adapterType = "lsilogic"`, `ddb.virtualHWVersion = "13"`, `ddb.toolsVersion = "12"`,
	} {
		require.Contains(t, text, "\n"+line+"\n")
	}

	w, err := NewWriter(discard{}, WriterOptions{Size: 1000})
	require.NoError(t, err)
	require.Len(t, w.Notes(), 1)
	require.Equal(t, "vmdk: the disk's size, 1000 bytes, is no multiple of 512: padded with zeros to 1024", w.Notes()[0].String())
	require.Contains(t, string(w.descriptor(nil).emit()), "\n"+`createType="monolithicSparse"`+"\n")
	require.True(t, strings.HasPrefix(text, "# Disk DescriptorFile\n"))
}
