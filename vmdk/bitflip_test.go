package vmdk_test

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage/internal/disktest"
	"github.com/diskimage-go/diskimage/internal/imagetest"
	"github.com/diskimage-go/diskimage/vmdk"
)

// A stretch is a part of an image file, by name.
type stretch struct {
	name   string
	off, n int64
}

// TestBitFlips flips each bit of what describes an image, one at a time. The
// image is refused, at the latest when all of it is read, or reads the same, or
// says in a note that it may not; but for what is listed here, since no rule
// of the format is broken: an entry that becomes 0 is that of a grain that is
// not there, and a directory or table that is sought a few sectors off, where
// zeros are, has nothing in it. Check finds all of those.
func TestBitFlips(t *testing.T) {
	if testing.Short() || disktest.Race {
		t.Skip("10 thousand images")
	}
	listed := map[string][]string{
		"sparse":   {"directory 0 bit 0", "directory 0 bit 3", "header 56 bit 1", "header 56 bit 3", "table 0 bit 5", "table 24 bit 6", "table 72 bit 7"},
		"exported": {"directory 0 bit 0", "footer 56 bit 1", "table 48 bit 5"},
		"front":    {"directory 0 bit 0", "directory 0 bit 3", "header 56 bit 1", "header 56 bit 3", "table 0 bit 5"},
	}
	text := bytes.Repeat([]byte("compressible "), 300)
	var grains []imagetest.Grain
	for i := range 20 {
		g := imagetest.Grain{}
		if i%3 != 1 {
			g = imagetest.Grain{Kind: imagetest.Plain, Data: text[i:]}
		}
		grains = append(grains, g)
	}
	for name, v := range map[string]imagetest.VMDK{
		"sparse":   {NoRGD: true},
		"copied":   {},
		"exported": {Dialect: imagetest.Exported},
		"front":    {Dialect: imagetest.FrontIndex},
	} {
		t.Run(name, func(t *testing.T) {
			v.Grain, v.Grains = 8, grains
			m := v.Build()
			parts := []stretch{{"header", 0, 80}, {"directory", m.GD, 4}, {"table", m.GTs[0], 24 * 4}}
			if m.RGD != 0 {
				parts = append(parts, stretch{"redundant directory", m.RGD, 4}, stretch{"redundant table", m.RGTs[0], 24 * 4})
			}
			if m.Footer != 0 {
				parts = append(parts, stretch{"footer", m.Footer, 80}, stretch{"marker of the footer", m.Footer - 512, 16}, stretch{"end of stream", m.Footer + 512, 16})
			}
			if v.Dialect != imagetest.Sparse {
				parts = append(parts, stretch{"grain", m.Data[2], m.Data[3] - m.Data[2]})
			}
			var changed []string
			for _, p := range parts {
				for bit := range p.n * 8 {
					at := p.off + bit/8
					m.Bytes[at] ^= 1 << (bit % 8)
					if !sameOrTold(t, m) {
						changed = append(changed, fmt.Sprintf("%s %d bit %d", p.name, bit/8, bit%8))
						r, _, err := check(t, m.Bytes, vmdk.CheckOptions{})
						require.NoError(t, err)
						require.Positive(t, r.Leaks+r.Corruptions, changed)
					}
					m.Bytes[at] ^= 1 << (bit % 8)
				}
			}
			require.ElementsMatch(t, listed[name], changed)
		})
	}
}

// sameOrTold reports whether an image is refused, reads as it should, or says
// that it may not.
func sameOrTold(t *testing.T, m *imagetest.VMDKImage) bool {
	d, err := vmdk.Open(t.Context(), imagetest.Source(m.Bytes), vmdk.Options{})
	if err != nil || d.CheckMap() != nil {
		return true
	}
	require.Len(t, m.Guest, int(d.Size()))
	got := make([]byte, d.Size())
	_, err = d.ReadAt(got, 0)
	return err != nil || bytes.Equal(got, m.Guest) || len(d.Notes()) > 0
}
