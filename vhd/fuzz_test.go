package vhd

import (
	"bytes"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/internal/disktest"
	"github.com/diskimage-go/diskimage/internal/imagetest"
	"github.com/diskimage-go/diskimage/internal/peer"
)

// FuzzFooter holds that what decodes encodes to itself, but for reserved bytes.
func FuzzFooter(f *testing.F) {
	f.Add(imagetest.VHDBase().Bytes[:footerLen])
	f.Fuzz(func(t *testing.T, p []byte) {
		if len(p) != footerLen || inspect(p) != sound {
			return
		}
		a := decodeFooter(p)
		b := a.encode()
		require.Equal(t, sound, inspect(b))
		require.Equal(t, a, decodeFooter(b))
	})
}

// FuzzHeader does the same with dynamic disk headers, and reads the parent's
// names that they lead to in the rest of the bytes.
func FuzzHeader(f *testing.F) {
	v := imagetest.VHD{Size: 64 << 10, BlockSize: 64 << 10, Blocks: make([]imagetest.VHDBlock, 1),
		Locators: []imagetest.VHDLocator{{Platform: "W2ru", Name: imagetest.UTF16(`.\a.vhd`)}, {Platform: "MacX", Name: []byte("file:///a.vhd")}}}
	f.Add(v.Build().Bytes[footerLen:])
	f.Fuzz(func(t *testing.T, p []byte) {
		if len(p) < headerLen || len(p) > 64<<10 {
			return
		}
		h := decodeHeader(p, 0)
		require.Equal(t, h, decodeHeader(h.encode(), 0))
		names := h.readParentNames(source(p), &footers{footer: &footer{}, end: int64(len(p))})
		require.LessOrEqual(t, len(names), locators+1)
		candidates(names)
	})
}

// FuzzOpen opens anything, as it is or with the checksums made right so that
// the header is reached, and holds it against the laws of [examine].
func FuzzOpen(f *testing.F) {
	for _, c := range imagetest.VHDCases() {
		f.Add(c.Build(), false)
		f.Add(c.Build(), true)
	}
	f.Fuzz(func(t *testing.T, file []byte, seal bool) {
		if seal {
			file = sealed(file)
		}
		examine(t, file)
	})
}

// FuzzDamage does the same to small sound images of which fields are changed:
// every four bytes of edits say a field, what is done to it, and with which
// number or other field.
func FuzzDamage(f *testing.F) {
	images := damageable()
	for i := range images {
		f.Add(byte(i), []byte("\x00\x00\x00\x00"), true, false)
		f.Add(byte(i), []byte("\x00\x10\x02\x0c\x00\x20\x04\x21"), true, true)
	}
	f.Fuzz(func(t *testing.T, i byte, edits []byte, seal, both bool) {
		examine(t, edited(images[int(i)%len(images)], edits, seal, both))
	})
}

// FuzzAgainstPeer holds what the changed images show against QEMU, but for what
// QEMU does its own way: it opens no parents, ignores sector bitmaps, believes
// the footer's copy first, looks for data of blocks below 4096 bytes in the place
// of their bitmaps, takes the geometry's size even if it is the smaller one, and
// cuts a disk to whole sectors.
func FuzzAgainstPeer(f *testing.F) {
	peer.Find(f, "qemu-img")
	images := damageable()
	for i := range images {
		f.Add(byte(i), []byte("\x00\x03\x02\x0c"), true)
	}
	f.Fuzz(func(t *testing.T, i byte, edits []byte, seal bool) {
		file := edited(images[int(i)%len(images)], edits, seal, true)
		d, err := Open(t.Context(), source(file), Options{})
		if err != nil || d.f.otherDamaged || d.f.differ || d.h != nil && d.blockSize < 4096 || max(d.size, d.f.geometry.Size(), int64(d.f.currentSize)) > 8<<20 || d.CheckMap() != nil { // QEMU goes by either size
			return
		}
		for i, entry := range d.table {
			if entry != unusedEntry {
				if bits, err := d.bitmaps.get(d, int64(i), int64(entry)*sectorSize); err != nil || bits.bits != nil {
					return
				}
			}
		}
		want := make([]byte, d.Size())
		_, err = d.ReadAt(want, 0)
		require.NoError(t, err)
		image := save(t, "image.vhd", file)
		flat := image + ".raw"
		if _, code := peer.Try(t, "qemu-img", "convert", "-f", "vpc", "-O", "raw", image, flat); code != 0 {
			return
		}
		got, err := os.ReadFile(flat)
		require.NoError(t, err)
		if len(got) != len(want)&^(sectorSize-1) {
			require.EqualValues(t, d.f.geometry.Size(), len(got))
		}
		n := min(len(got), len(want))
		require.True(t, bytes.Equal(want[:n], got[:n]))
	})
}

// examine holds what opens against the laws. CheckMap lets nothing pass that
// the walk refuses, but for a bitmap; Check finds whatever either refuses. The
// extents say what ReadAt reads, in pieces from anywhere, and the extent from
// anywhere is a part of the one that a walk finds. What is salvaged has extents
// all along.
func examine(t *testing.T, file []byte) {
	const most = 4000 // extents
	base := imagetest.VHDBase().Bytes
	opener := files{"base.vhd": base}
	for _, salvage := range []bool{false, true} {
		d, err := Open(t.Context(), source(file), Options{Salvage: salvage, Opener: opener})
		if err != nil {
			continue
		}
		mapErr := d.CheckMap()
		all, walkErr := walk(d, most)
		if salvage {
			require.NoError(t, walkErr)
		} else {
			if mapErr == nil && walkErr != nil {
				require.ErrorContains(t, walkErr, "sector bitmap")
			}
			res, err := Check(t.Context(), source(file), CheckOptions{Opener: opener})
			require.NoError(t, err)
			if mapErr != nil || walkErr != nil {
				require.Positive(t, res.Corruptions, "%v %v", mapErr, walkErr)
			}
		}
		if len(all) == 0 {
			continue
		}
		layers := [][]byte{file, base}
		rnd := rand.New(rand.NewPCG(uint64(len(file)), uint64(crc32.ChecksumIEEE(file))))
		for range 20 {
			i := rnd.IntN(len(all))
			off := all[i].Off + rnd.Int64N(all[i].Len)
			e, err := d.NextExtent(off)
			require.NoError(t, err)
			require.NoError(t, disktest.Check(e, off, d.Size()))
			n := min(e.Len, all[i].End()-off)
			require.Equal(t, all[i].Clip(off, n), e.Clip(off, n))

			got := bytes.Repeat([]byte{0xa5}, rnd.IntN(10_000))
			want := make([]byte, 0, len(got))
			for _, e := range all[i:] {
				e = e.Clip(max(e.Off, off), int64(len(got)-len(want)))
				switch {
				case e.Len <= 0:
				case e.Kind != diskimage.Data:
					want = append(want, make([]byte, e.Len)...)
				case e.Host >= 0:
					want = append(want, layers[e.Depth][e.Host:][:e.Len]...)
				}
				if e.Kind == diskimage.Data && e.Host < 0 || len(want) == len(got) {
					break // what cannot be read ends it
				}
			}
			read, err := d.ReadAt(got, off)
			require.GreaterOrEqual(t, read, 0)
			require.True(t, bytes.Equal(want, got[:read]), "%d bytes at %d of %+v", len(got), off, all[i])
			if len(want) < len(got) && len(all) < most {
				require.Error(t, err)
			}
		}
	}
}
