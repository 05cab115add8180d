package vhd

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/internal/disktest"
	"github.com/diskimage-go/diskimage/internal/imagetest"
	"github.com/diskimage-go/diskimage/internal/peer"
)

// A flipped is an image of which single bits are flipped.
type flipped struct {
	image   *imagetest.VHDImage
	sealed  bool // also what has checksums, in the footer and its copy at once, with the checksums made right
	changes map[string]string
	silent  bool // those are not told by a note
}

// flippedImages returns small images of every kind. Their changes are the bits
// that lead to another disk since no rule of the format is broken: by stretch,
// the numbers of the bits, of which 8 are a byte's and the lowest comes first.
//
// Of a dynamic disk these are bits of sector bitmaps, which hide a sector: it
// reads as zeros, with a note. That all sectors are hidden is an error if there
// are data. In a differencing disk a sector that is hidden is the parent's, and
// one that is not hidden any more is not.
func flippedImages(t *testing.T) map[string]flipped {
	const size = 3 * 4096
	content := noise(size)
	base := imagetest.VHDBase()
	locators := []imagetest.VHDLocator{
		{Platform: "W2ru", Name: imagetest.UTF16(`.\base.vhd`)}, {Platform: "MacX", Name: []byte("file:///d/base.vhd")},
	}
	built := func(blockSize int64, locators []imagetest.VHDLocator, blocks ...imagetest.VHDBlock) *imagetest.VHDImage {
		return imagetest.VHD{Size: int64(len(blocks)) * blockSize, BlockSize: blockSize, Blocks: blocks, Locators: locators, ParentID: [16]byte{1, 2, 3, 4}}.Build()
	}
	packed := []imagetest.VHDBlock{{Data: content[:4096]}, {}, {Data: content[4096:8192], Bits: []byte{0b11000110}}}
	single := []imagetest.VHDBlock{{Data: content[:512]}, {}, {Data: content[512:1024]}}
	written := func(o WriterOptions) *imagetest.VHDImage {
		guest := bytes.Clone(content)
		clear(guest[4096:8192])
		o.Size = size
		return dissect(write(t, o, guest))
	}
	parent := &Parent{Name: "base.vhd", ID: [16]byte{1, 2, 3, 4}}
	require.Equal(t, parent.ID, open(t, base.Bytes, Options{}).UniqueID())

	smaller := map[string]string{"sealed footer": "436-437"}       // the current size
	elsewhere := map[string]string{"sealed header": "176 186-191"} // the table is sought where it is padded, and all entries are unused
	two := map[string]string{"bitmap 0": "0-7", "bitmap 2": "0-7"}
	return map[string]flipped{
		"fixed":            {image: imagetest.VHD{Size: size, Fixed: content}.Build(), sealed: true, changes: smaller},
		"old":              {image: imagetest.VHD{Size: size, Fixed: content, Old: true}.Build(), sealed: true, changes: smaller},
		"dynamic":          {image: built(4096, nil, packed...), sealed: true, changes: merged(smaller, elsewhere, two)},
		"dynamic, old":     {image: imagetest.VHD{Size: size, BlockSize: 4096, Blocks: packed, Old: true}.Build(), changes: two},
		"dynamic, written": {image: written(WriterOptions{BlockSize: 4096}), changes: two},
		"dynamic, sectors": {image: built(512, nil, single...)},
		"dynamic, 2 MiB":   {image: written(WriterOptions{BlockSize: 2 << 20}), changes: map[string]string{"bitmap 0": "0-7 16-23"}},
		"differencing":     {image: built(4096, locators, packed...), sealed: true, silent: true, changes: merged(smaller, elsewhere, two)},
		"differencing, written": {image: written(WriterOptions{Type: Differencing, Parent: parent, BlockSize: 4096}), silent: true,
			changes: merged(two, map[string]string{"bitmap 1": "0-7"})},
		"differencing, sectors": {image: built(512, locators, single...), silent: true},
		"differencing, 2 MiB": {image: written(WriterOptions{Type: Differencing, Parent: parent, BlockSize: 2 << 20}), silent: true,
			changes: map[string]string{"bitmap 0": "0-23"}},
	}
}

// noise returns bytes that do not repeat.
func noise(n int) []byte {
	rnd := rand.New(rand.NewPCG(3, 1))
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(rnd.Uint32())
	}
	return p
}

// dissect returns where things lie in a dynamic or differencing image.
func dissect(file []byte) *imagetest.VHDImage {
	be := binary.BigEndian
	m := &imagetest.VHDImage{Bytes: file, Footer: int64(len(file)) - footerLen, Header: footerLen, Table: footerLen + headerLen}
	for i := range be.Uint32(file[m.Header+offMaxTableEntries:]) {
		entry := be.Uint32(file[m.Table+int64(i)*4:])
		if entry == unusedEntry {
			entry = 0
		}
		m.Blocks = append(m.Blocks, int64(entry)*sectorSize)
	}
	return m
}

// A stretch is a part of an image file, by name.
type stretch struct {
	name string
	bits int
	flip func(at int, mask byte)
}

// stretches returns all of an image but its data and what pads its tables.
func (f flipped) stretches() []stretch {
	m := f.image
	at := func(name string, off int64, n uint32) stretch {
		return stretch{name, int(n) * 8, func(at int, mask byte) { m.Bytes[off+int64(at)] ^= mask }}
	}
	sealed := func(name string, n uint32, set func(func([]byte))) stretch {
		return stretch{name, int(n) * 8, func(at int, mask byte) { set(func(p []byte) { p[at] ^= mask }) }}
	}
	end := uint32(int64(len(m.Bytes)) - m.Footer)
	all := []stretch{at("footer", m.Footer, end)}
	if f.sealed {
		all = append(all, sealed("sealed footer", end, m.SetFooter))
	}
	if m.Header == 0 {
		return all
	}
	all = append(all, at("copy", 0, footerLen), at("header", m.Header, headerLen), at("table", m.Table, uint32(len(m.Blocks))*4))
	if f.sealed {
		all = append(all, sealed("sealed header", headerLen, m.SetHeader))
	}
	h := decodeHeader(m.Bytes[m.Header:], m.Header)
	for i, l := range h.locators {
		if l.length > 0 {
			all = append(all, at(fmt.Sprintf("locator %d", i), int64(l.offset), l.length))
		}
	}
	for i, off := range m.Blocks {
		if off > 0 {
			all = append(all, at(fmt.Sprintf("bitmap %d", i), off, (h.blockSize/sectorSize+7)/8))
		}
	}
	return all
}

// TestBitFlips flips each bit of what describes an image, one at a time. The
// image is refused, at the latest when all of it is read, or shows the same
// disk, but for the changes that are listed. Check finds what converting
// refuses.
func TestBitFlips(t *testing.T) {
	disktest.Alone(t)
	opener := files{"base.vhd": imagetest.VHDBase().Bytes}
	for name, f := range flippedImages(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			want := look(t, f.image.Bytes, opener, view{})
			require.NotNil(t, want.guest)
			var changes map[string]string
			for _, s := range f.stretches() {
				var changed []int
				for bit := range s.bits {
					s.flip(bit/8, 1<<(bit%8))
					if got := look(t, f.image.Bytes, opener, want); got.guest != nil && !bytes.Equal(got.guest, want.guest) {
						changed = append(changed, bit)
						if strings.HasPrefix(s.name, "bitmap") {
							require.Equal(t, f.silent, !got.told, "%s bit %d", s.name, bit)
						}
					}
					s.flip(bit/8, 1<<(bit%8))
				}
				if changed != nil {
					changes = merged(changes, map[string]string{s.name: ranges(changed)})
				}
			}
			require.Equal(t, f.changes, changes)
		})
	}
}

// TestBitFlipsOfPeer holds that the images that are listed are valid: QEMU and
// libvhdi open each if they open the one that nothing was done to. (There is no
// qemu-img check of VHD images. What bitmaps hide they do not agree about: QEMU
// ignores them, libvhdi overlooks bits.)
func TestBitFlipsOfPeer(t *testing.T) {
	image := filepath.Join(t.TempDir(), "image.vhd")
	opened := func(file []byte) (by []string) {
		require.NoError(t, os.WriteFile(image, file, 0o600))
		for _, p := range [][]string{{"qemu-img", "info", "-f", "vpc"}, {"vhdiinfo"}} {
			if _, code := peer.Try(t, p[0], append(p[1:], image)...); code == 0 {
				by = append(by, p[0])
			}
		}
		return by
	}
	for name, f := range flippedImages(t) {
		by := opened(f.image.Bytes)
		require.Contains(t, by, "qemu-img")
		for _, s := range f.stretches() {
			if f.changes[s.name] == "" {
				continue
			}
			var bit int
			_, err := fmt.Sscan(f.changes[s.name], &bit) // the first
			require.NoError(t, err)
			s.flip(bit/8, 1<<(bit%8))
			require.Equal(t, by, opened(f.image.Bytes), "%s: %s bit %d", name, s.name, bit)
			s.flip(bit/8, 1<<(bit%8))
		}
	}
}

// A view is what an image shows.
type view struct {
	extents []diskimage.Extent
	guest   []byte // nil: the image is refused
	told    bool   // there are notes of sector bitmaps
}

// look returns what an image shows on the way that a conversion goes: its guest
// bytes are those of like if it has the same extents, whose data nobody changed.
func look(t *testing.T, file []byte, opener diskimage.Opener, like view) (v view) {
	t.Helper()
	d, err := Open(t.Context(), source(file), Options{Opener: opener})
	if err != nil {
		return view{}
	}
	if err = d.CheckMap(); err == nil {
		v.extents, err = walk(d, 1000)
	}
	if err != nil {
		res, checkErr := Check(t.Context(), source(file), CheckOptions{Opener: opener})
		require.NoError(t, checkErr)
		require.Positive(t, res.Corruptions, "%v", err)
		return view{}
	}
	v.guest = like.guest
	if !slices.Equal(v.extents, like.extents) {
		v.guest = make([]byte, d.Size())
		_, err = d.ReadAt(v.guest, 0)
		require.NoError(t, err)
	}
	for _, n := range d.Notes() {
		v.told = v.told || strings.Contains(n.Text, "sector bitmaps")
	}
	return v
}

// walk returns the disk's first extents, up to the first that cannot be told.
func walk(d *Disk, most int) (all []diskimage.Extent, err error) {
	for off := int64(0); off < d.Size() && len(all) < most; {
		e, err := d.NextExtent(off)
		if err == nil {
			err = disktest.Check(e, off, d.Size())
		}
		if err != nil {
			return all, err
		}
		all = append(all, e)
		off = e.End()
	}
	return all, nil
}

// merged returns what is in any of the maps.
func merged(all ...map[string]string) map[string]string {
	m := map[string]string{}
	for _, changes := range all {
		maps.Copy(m, changes)
	}
	return m
}

// ranges returns ascending numbers, those that follow each other as "first-last".
func ranges(n []int) string {
	var b strings.Builder
	for i := 0; i < len(n); i++ {
		first := n[i]
		for i+1 < len(n) && n[i+1] == n[i]+1 {
			i++
		}
		if b.Len() > 0 {
			b.WriteByte(' ')
		}
		fmt.Fprint(&b, first)
		if n[i] > first {
			fmt.Fprint(&b, "-", n[i])
		}
	}
	return b.String()
}
