package vhd_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage/internal/imagetest"
	"github.com/diskimage-go/diskimage/vhd"
)

// A stretch is a part of an image file, by name.
type stretch struct {
	name  string
	off   int64
	bytes int
	flip  func(at int, mask byte)
}

// TestBitFlips flips each bit of what describes an image, one at a time; of what
// has a checksum also with the checksum made right, in the footer and its copy
// at once. The image is refused, at the latest when all of it is read, or reads
// the same, or says in a note that it may not; but for what is listed here
// and the bits of a sector bitmap, since no rule of the format is broken. Check agrees with CheckMap.
func TestBitFlips(t *testing.T) {
	const block = 4096
	rnd := rand.New(rand.NewPCG(3, 1))
	content := func(n int) []byte {
		p := make([]byte, n)
		for i := range p {
			p[i] = byte(rnd.Uint32())
		}
		return p
	}
	name := []imagetest.VHDLocator{
		{Platform: "W2ru", Name: imagetest.UTF16(`.\base.vhd`)}, {Platform: "MacX", Name: []byte("file:///d/base.vhd")},
	}
	blocks := []imagetest.VHDBlock{{Data: content(block)}, {}, {Data: content(block), Bits: []byte{0b11000110}}}
	opener := chain{"base.vhd": imagetest.VHDBase()}
	listed := []string{
		"sealed footer 54 bit 4", "sealed footer 54 bit 5", // a smaller disk
		// The table is sought in what pads it, where all entries are unused.
		"sealed header 22 bit 0", "sealed header 23 bit 2", "sealed header 23 bit 3", "sealed header 23 bit 4",
		"sealed header 23 bit 5", "sealed header 23 bit 6", "sealed header 23 bit 7",
	}
	for kind, c := range map[string]struct {
		image  imagetest.VHD
		listed []string
	}{
		"fixed":        {imagetest.VHD{Size: 2 * block, Fixed: content(2 * block)}, nil},
		"old":          {imagetest.VHD{Size: 2 * block, Fixed: content(2 * block), Old: true}, nil},
		"dynamic":      {imagetest.VHD{Size: 3 * block, BlockSize: block, Blocks: blocks}, listed},
		"differencing": {imagetest.VHD{Size: 3 * block, BlockSize: block, Blocks: blocks, Locators: name, ParentID: [16]byte{1, 2, 3, 4}}, listed},
	} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			m := c.image.Build()
			want, _ := guestOf(t, m.Bytes, opener)
			require.NotNil(t, want)
			sealed := func(set func(func([]byte))) func(int, byte) {
				return func(at int, mask byte) { set(func(p []byte) { p[at] ^= mask }) }
			}
			end := len(m.Bytes) - int(m.Footer)
			parts := []stretch{{"footer", m.Footer, end, nil}, {"sealed footer", 0, end, sealed(m.SetFooter)}}
			if m.Header > 0 {
				parts = append(parts, stretch{"copy", 0, 512, nil}, stretch{"header", m.Header, 1024, nil},
					stretch{"sealed header", 0, 1024, sealed(m.SetHeader)}, stretch{"table", m.Table, 12, nil})
				for i, off := range m.Blocks {
					if off > 0 {
						parts = append(parts, stretch{fmt.Sprintf("bitmap %d", i), off, 2, nil})
					}
				}
			}
			for i, l := range c.image.Locators {
				parts = append(parts, stretch{fmt.Sprintf("locator %d", i), m.Table + 512 + 512*int64(i), len(l.Name), nil})
			}
			var changed []string
			for _, p := range parts {
				if p.flip == nil {
					p.flip = func(at int, mask byte) { m.Bytes[p.off+int64(at)] ^= mask }
				}
				for bit := range p.bytes * 8 {
					p.flip(bit/8, 1<<(bit%8))
					if got, told := guestOf(t, m.Bytes, opener); got != nil && !told && !bytes.Equal(got, want) {
						changed = append(changed, fmt.Sprintf("%s %d bit %d", p.name, bit/8, bit%8))
					}
					p.flip(bit/8, 1<<(bit%8))
				}
			}
			changed = slices.DeleteFunc(changed, func(what string) bool { return strings.HasPrefix(what, "bitmap") })
			require.ElementsMatch(t, c.listed, changed)
		})
	}
}

// guestOf returns what an image shows, or nil if it is refused, and whether
// there are notes. It asserts that Check agrees with CheckMap.
func guestOf(t *testing.T, file []byte, opener chain) (guest []byte, told bool) {
	t.Helper()
	src := imagetest.Source(file)
	d, err := vhd.Open(t.Context(), src, vhd.Options{Opener: opener})
	res, checkErr := vhd.Check(t.Context(), src, vhd.CheckOptions{Opener: opener})
	require.Equal(t, err == nil, checkErr == nil)
	if err != nil {
		return nil, false
	}
	if err := d.CheckMap(); err != nil {
		require.Positive(t, res.Corruptions, "%v", err)
		return nil, false
	}
	got := make([]byte, d.Size())
	_, err = d.ReadAt(got, 0)
	require.NoError(t, err, "CheckMap lets pass what does not read")
	return got, len(d.Notes()) > 0
}
