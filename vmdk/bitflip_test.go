package vmdk_test

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/internal/disktest"
	"github.com/diskimage-go/diskimage/internal/imagetest"
	"github.com/diskimage-go/diskimage/vmdk"
)

// A flipped is an image of which each bit of some parts is flipped, one at a
// time.
type flipped struct {
	file   string            // the name of the one that is changed
	files  map[string][]byte // all of them, by name; disk.vmdk is opened
	guest  []byte
	parts  []stretch
	stream bool     // it is read front to back too, of which nothing is listed
	listed []string // the flips after which it reads differently: "part byte bit"
	why    string   // that is so
}

// A stretch is a part of an image file, by name.
type stretch struct {
	name   string
	off, n int64
	stream bool // where one looks that reads it front to back
}

// TestBitFlips flips each bit of what describes an image, one at a time. The
// image is refused, by opening it, by its map or when all of it is read, or it
// reads the same, but for what is listed here.
func TestBitFlips(t *testing.T) {
	disktest.Alone(t)
	for name, f := range flippedImages() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := f.files[f.file]
			got, err := f.read(t)
			require.NoError(t, err)
			require.True(t, bytes.Equal(f.guest, got))
			var changed []string
			again := bufio.NewReaderSize(nil, 1<<20) // so large that a stream takes it for its own buffer
			for _, p := range f.parts {
				for bit := range p.n * 8 {
					at, mask := p.off+bit/8, byte(1)<<(bit%8)
					b[at] ^= mask
					if got, err := f.read(t); err == nil && !bytes.Equal(got, f.guest) {
						flip := fmt.Sprintf("%s %d bit %d", p.name, bit/8, bit%8)
						changed = append(changed, flip)
						f.cleanForPeer(t, flip)
					}
					if f.stream && p.stream {
						again.Reset(bytes.NewReader(b))
						got, err := readStream(t, again, false)
						require.True(t, err != nil || bytes.Equal(got, f.guest), "%s %d bit %d: a stream reads differently", p.name, bit/8, bit%8)
					}
					b[at] ^= mask
				}
			}
			require.ElementsMatch(t, f.listed, changed, f.why)
		})
	}
}

// read reads the image as a conversion does.
func (f *flipped) read(t *testing.T) ([]byte, error) {
	beside := &folder{files: f.files}
	d, err := vmdk.Open(t.Context(), imagetest.Source(f.files["disk.vmdk"]), vmdk.Options{Name: "disk.vmdk", Opener: beside})
	if err != nil {
		return nil, err
	}
	defer d.Close()
	if err := d.CheckMap(); err != nil {
		return nil, err
	}
	require.LessOrEqual(t, d.Size(), int64(1<<20))
	return byMap(d)
}

// byMap returns what a disk reads as where its map says that there is data, and
// zeros elsewhere.
func byMap(d diskimage.VirtualDisk) ([]byte, error) {
	p := make([]byte, d.Size())
	for e, err := range diskimage.Extents(d, 0, d.Size()) {
		if err != nil {
			return nil, err
		}
		if !e.IsZero() {
			if n, err := d.ReadAt(p[e.Off:e.End()], e.Off); n < int(e.Len) {
				return nil, err
			}
		}
	}
	return p, nil
}

// cleanForPeer has qemu-img, where there is one, find nothing wrong with what
// reads differently.
func (f *flipped) cleanForPeer(t *testing.T, flip string) {
	qemu, err := exec.LookPath("qemu-img")
	if err != nil || os.Getenv("DISKIMAGE_PEERS") == "no" {
		return
	}
	dir := t.TempDir()
	for name, b := range f.files {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), b, 0o600))
	}
	out, err := exec.Command(qemu, "check", filepath.Join(dir, "disk.vmdk")).CombinedOutput()
	require.NoError(t, err, "%s: %s", flip, out)
}

func flippedImages() map[string]*flipped {
	text := bytes.Repeat([]byte("compressible "), 300)
	var grains []imagetest.Grain
	for i := range 9 { // the last one half behind the end of the disk
		g := imagetest.Grain{}
		if i%3 != 1 {
			g = imagetest.Grain{Kind: imagetest.Plain, Data: text[i:]}
		}
		grains = append(grains, g)
	}
	grains[8].Data = noisy(2000, 8) // more than a sector, compressed too
	all := map[string]*flipped{}
	for name, v := range map[string]imagetest.VMDK{
		"sparse":   {NoRGD: true},
		"copied":   {},
		"zeroed":   {Version: 2},
		"exported": {Dialect: imagetest.Exported},
		"front":    {Dialect: imagetest.FrontIndex},
		"qemu":     {Dialect: imagetest.QEMUStream},
	} {
		v.Grain, v.Grains, v.Sectors = 8, slices.Clone(grains), 9*8-4
		if v.Version == 2 {
			v.Grains[4].Kind = imagetest.Zeros
		}
		m := v.Build()
		all[name] = &flipped{file: "disk.vmdk", files: map[string][]byte{"disk.vmdk": m.Bytes}, guest: m.Guest, parts: flippedParts(m), stream: v.Dialect != imagetest.Sparse, why: "the entry is 0: no grain"}
	}
	all["sparse"].listed = []string{"table 0 bit 5", "table 24 bit 6"}
	all["front"].listed = []string{"table 0 bit 5"}

	// A table with nothing in its first sector.
	late := imagetest.VMDK{Grain: 8, Grains: append(make([]imagetest.Grain, 130), grains[0]), NoRGD: true}
	m := late.Build()
	all["late"] = &flipped{file: "disk.vmdk", files: map[string][]byte{"disk.vmdk": m.Bytes}, guest: m.Guest, parts: []stretch{{"directory", m.GD, 4, false}},
		listed: []string{"directory 0 bit 0"},
		why:    "the table is read a sector too late, and its grains are shown elsewhere: nothing says so where they are plain and no copy is there, which no product writes"}

	// A part of a set.
	v := imagetest.VMDK{Grain: 8, Grains: grains, Sectors: 9*8 - 4, Descriptor: "-"}
	m = v.Build()
	set := imagetest.VMDKText{CreateType: "twoGbMaxExtentSparse", Extents: []string{`RW 68 SPARSE "disk-s001.vmdk"`, `RW 68 SPARSE "disk-s002.vmdk"`}}.String()
	files := map[string][]byte{"disk.vmdk": []byte(set), "disk-s001.vmdk": v.Build().Bytes, "disk-s002.vmdk": m.Bytes}
	all["split"] = &flipped{file: "disk-s002.vmdk", files: files, guest: append(bytes.Clone(m.Guest), m.Guest...), parts: flippedParts(m)}

	// A delta link.
	base := imagetest.VMDK{Grain: 8, Sectors: 9*8 - 4, Text: imagetest.VMDKText{CID: "12345678"}}
	for i := range 9 {
		base.Grains = append(base.Grains, imagetest.Grain{Kind: imagetest.Plain, Data: noisy(4096, uint64(i))})
	}
	guest := base.Build().Guest
	v = imagetest.VMDK{Grain: 8, Sectors: 9*8 - 4, Text: imagetest.VMDKText{ParentCID: "12345678", ParentHint: "parent.vmdk"}, Grains: grains}
	m = v.Build()
	for i, g := range grains {
		if g.Kind == imagetest.Plain {
			copy(guest[i*4096:], m.Guest[i*4096:min(len(m.Guest), (i+1)*4096)])
		}
	}
	delta := &flipped{file: "disk.vmdk", files: map[string][]byte{"disk.vmdk": m.Bytes, "parent.vmdk": base.Build().Bytes}, guest: guest, parts: flippedParts(m)}
	end := int64(bytes.IndexByte(m.Bytes[512:], 0))
	delta.parts = append(delta.parts, stretch{"descriptor", 512, end, false})
	all["delta"] = delta

	// Flat extents, and nothing but a text that describes them.
	lines := []string{`RW 8 FLAT "disk-f001.vmdk" 0`, `RW 12 FLAT "disk-f002.vmdk" 0`}
	text = []byte(imagetest.VMDKText{CreateType: "twoGbMaxExtentFlat", Extents: lines}.String())
	one, two := noisy(8*512, 1), noisy(12*512, 2)
	all["flat"] = &flipped{file: "disk.vmdk", files: map[string][]byte{"disk.vmdk": text, "disk-f001.vmdk": one, "disk-f002.vmdk": two}, guest: append(bytes.Clone(one), two...),
		parts:  []stretch{{"descriptor", 0, int64(len(text)), false}},
		listed: append(bitsOf("descriptor 117", 7), "descriptor 150 bit 0", "descriptor 151 bit 1"),
		why:    "the first line becomes a part of the comment above it; 12 sectors become 02 or 10, which is noted"}

	return all
}

// bitsOf names the first n bits of a byte.
func bitsOf(name string, n int) (all []string) {
	for bit := range n {
		all = append(all, fmt.Sprintf("%s bit %d", name, bit))
	}
	return all
}

// flippedParts returns the parts of an extent that are flipped: all of the
// metadata that a reader could look at.
func flippedParts(m *imagetest.VMDKImage) []stretch {
	entries := int64(len(m.Data))*4 + 8
	parts := []stretch{{"header", 0, 80, true}, {"directory", m.GD, 8, true}, {"table", m.GTs[0], entries, true}}
	if m.RGD != 0 {
		parts = append(parts, stretch{"redundant directory", m.RGD, 8, false}, stretch{"redundant table", m.RGTs[0], entries, false})
	}
	if m.Footer != 0 {
		parts = append(parts, stretch{"footer", m.Footer, 80, true}, stretch{"marker of the footer", m.Footer - 512, 16, true}, stretch{"end of stream", m.Footer + 512, 16, true},
			stretch{"marker of the directory", m.GD - 512, 16, true}, stretch{"marker of the table", m.GTs[0] - 512, 16, true})
	}
	if strings.HasPrefix(string(m.Bytes[m.Data[2]+12:]), "\x78") {
		parts = append(parts, stretch{"grain", m.Data[2], 24, false})
	}
	return parts
}
