package vmdk

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/internal/disktest"
	"github.com/diskimage-go/diskimage/internal/hostfile"
	"github.com/diskimage-go/diskimage/internal/peer"
)

func TestESXSparse(t *testing.T) {
	all := esxExtents()
	for _, name := range slices.Sorted(maps.Keys(all)) {
		t.Run(name, func(t *testing.T) {
			x := all[name]
			p, notes, err := x.open()
			require.NoError(t, err)
			disktest.ConformHost(t, partDisk{p}, x.guest(nil), func(int, int) io.ReaderAt { return source(x.file) })
			require.NoError(t, p.checkMap())
			require.Empty(t, notes.All())
		})
	}
}

// TestQEMUReadsESXSparse holds the extents that the tests build, and what we
// read of them, against another reader.
func TestQEMUReadsESXSparse(t *testing.T) {
	all := esxExtents()
	for _, name := range slices.Sorted(maps.Keys(all)) {
		t.Run(name, func(t *testing.T) {
			x := all[name]
			dir := t.TempDir()
			image := x.write(t, dir)
			out := filepath.Join(dir, "out.raw")
			peer.Run(t, "qemu-img", "convert", "-f", "vmdk", "-O", "raw", image, out)
			got, err := os.ReadFile(out)
			require.NoError(t, err)
			require.True(t, string(x.guest(nil)) == string(got), "qemu-img reads something else")

			var ranges []struct {
				Start, Length int64
				Data          bool
			}
			require.NoError(t, json.Unmarshal([]byte(peer.Run(t, "qemu-img", "map", "--output=json", "-f", "vmdk", image)), &ranges))
			p, _, err := x.open()
			require.NoError(t, err)
			for _, r := range ranges {
				for e, err := range diskimage.Extents(partDisk{p}, r.Start, r.Length) {
					require.NoError(t, err)
					require.Equal(t, r.Data, e.Kind == diskimage.Data, "%+v in %+v", e, r)
				}
			}
		})
	}
}

// TestESXDelta reads extents over a parent, as another reader does.
func TestESXDelta(t *testing.T) {
	const n = 9000 // sectors
	parent := noise(7, n*sectorSize)
	clear(parent[1<<20 : 2<<20])
	alloc := func(grain int64, indices ...int64) (list []esxGrain) {
		for _, i := range indices {
			list = append(list, esxGrain{i, seStateAllocated, noise(uint64(i), grain*sectorSize)})
		}
		return list
	}
	for name, x := range map[string]*esxExtent{
		"vmfsSparse": {kind: kindVMFSSparse, sectors: n, grain: 1, grains: alloc(1, 0, 9, 8, 10, 5000, n-1)},
		"seSparse":   {kind: kindSESparse, sectors: n, grains: append(alloc(8, 0, 3, 2, 1124), esxGrain{7, seStateZero, nil}, esxGrain{9, seStateUnmapped, nil})},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			image := x.build().write(t, dir, "parentCID=0badcafe", `parentFileNameHint="base.vmdk"`)
			base := newDescriptor("vmfs", 0x0badcafe, []extentLine{{access: accessRW, sectors: n, kind: kindVMFS, fileName: "base-flat.vmdk"}}, "lsilogic", 8, "0")
			require.NoError(t, os.WriteFile(filepath.Join(dir, "base.vmdk"), base.emit(), 0o600))
			require.NoError(t, os.WriteFile(filepath.Join(dir, "base-flat.vmdk"), parent, 0o600))

			src, err := hostfile.Open(image)
			require.NoError(t, err)
			d, err := Open(t.Context(), src, Options{Name: "disk.vmdk", Opener: esxOpenerDir(dir)})
			require.NoError(t, err)
			defer d.Close()
			disktest.Conform(t, d, x.guest(parent))
			require.NoError(t, d.CheckMap())
			require.Equal(t, x.grain*sectorSize, d.Info().Extents[0].GrainSize)
			for e, err := range diskimage.Extents(d, 0, d.Size()) {
				require.NoError(t, err)
				if e.Depth == 0 && e.Kind == diskimage.Data {
					require.Equal(t, 1, e.File, "%+v", e)
				}
			}

			out := filepath.Join(dir, "out.raw")
			peer.Run(t, "qemu-img", "convert", "-f", "vmdk", "-O", "raw", image, out)
			got, err := os.ReadFile(out)
			require.NoError(t, err)
			require.True(t, string(x.guest(parent)) == string(got), "qemu-img reads something else")
		})
	}
}

// esxOpenerDir opens what images in a folder name.
type esxOpenerDir string

func (dir esxOpenerDir) OpenDisk(ctx context.Context, ref diskimage.Reference) (diskimage.VirtualDisk, error) {
	src, err := dir.OpenSource(ctx, ref)
	if err != nil {
		return nil, err
	}
	return Open(ctx, src, Options{Name: ref.Name, Opener: dir, Depth: ref.Depth})
}

func (dir esxOpenerDir) OpenSource(_ context.Context, ref diskimage.Reference) (diskimage.Source, error) {
	return hostfile.Open(filepath.Join(string(dir), ref.Name))
}

// TestESXAlone holds that an extent without its descriptor is no disk, unless
// that is asked for.
func TestESXAlone(t *testing.T) {
	all := esxExtents()
	for _, name := range []string{"cowd grain 128", "se runs"} {
		_, err := Open(t.Context(), source(all[name].file), Options{})
		require.ErrorIs(t, err, diskimage.ErrUnsupported, name)
		require.ErrorContains(t, err, "open the descriptor that names it")

		d, err := Open(t.Context(), source(all[name].file), Options{Salvage: true})
		require.NoError(t, err, name)
		disktest.Conform(t, d, all[name].guest(nil))
		require.Len(t, d.Notes(), 1)
		require.Equal(t, all[name].sectors, d.Info().Extents[0].Sectors)
	}
	_, err := Open(t.Context(), source(all["se runs"].file[:100]), Options{})
	require.ErrorIs(t, err, diskimage.ErrTruncated)
}

// TestLargeDirectory reads an extent whose grain directory is read in pages.
func TestLargeDirectory(t *testing.T) {
	const span = esxGTEsPerGT * sectorSize
	x := &esxExtent{kind: kindVMFSSparse, sectors: (2*esxDirectoryPage+3)*esxGTEsPerGT + 1, grain: 1}
	for _, i := range []int64{esxDirectoryPage*esxGTEsPerGT + 5, x.sectors - 1} {
		x.grains = append(x.grains, esxGrain{i, seStateAllocated, noise(uint64(i), sectorSize)})
	}
	p, _, err := x.build().open()
	require.NoError(t, err)
	require.NoError(t, p.checkMap())
	var data []int64
	for e, err := range diskimage.Extents(partDisk{p}, 0, p.size()) {
		require.NoError(t, err)
		if e.Kind == diskimage.Data {
			require.EqualValues(t, sectorSize, e.Len)
			data = append(data, e.Off)
		}
	}
	require.Equal(t, []int64{esxDirectoryPage*span + 5*sectorSize, (2*esxDirectoryPage + 3) * span}, data)
	for _, g := range x.grains {
		got := make([]byte, sectorSize)
		_, err := partDisk{p}.ReadAt(got, g.index*sectorSize)
		require.NoError(t, err)
		require.Equal(t, g.data, got)
	}
}

func fuzzESX(f *testing.F, kind extentKind) {
	for _, sectors := range []int64{1, 5000, 40000} {
		f.Add(sectors, int64(0), []byte{3, 0, 0, 0, 5, 0, 0, 0}, int64(0), []byte(nil))
		f.Add(sectors, int64(7), []byte{1, 0, 9, 0}, int64(16), []byte{1})
	}
	f.Fuzz(func(t *testing.T, sectors, grain int64, indices []byte, off int64, patch []byte) {
		x := &esxExtent{kind: kind, sectors: sectors & 0xffff, grain: 1 << (grain & 7)}
		if x.sectors == 0 {
			return
		}
		seen := map[int64]bool{}
		for ; len(indices) >= 2 && len(x.grains) < 64; indices = indices[2:] {
			g := esxGrain{index: int64(binary.LittleEndian.Uint16(indices)), state: seStateAllocated}
			if kind == kindSESparse {
				g.state = uint64(indices[1])%3 + 1
			}
			if g.state == seStateAllocated {
				g.data = []byte{1}
			}
			size := x.grain
			if kind == kindSESparse {
				size = seGrainSectors
			}
			if g.index*size < x.sectors && !seen[g.index] {
				seen[g.index] = true
				x.grains = append(x.grains, g)
			}
		}
		x.build()
		if len(patch) > 0 {
			// Between a SESparse extent's headers and its directory is nothing that counts.
			const headers, gap = 2 * seHeaderLen, 4094 * sectorSize
			size := int64(len(x.file))
			if kind == kindSESparse {
				size -= gap
			}
			at := int64(uint64(off) % uint64(size))
			if kind == kindSESparse && at >= headers {
				at += gap
			}
			copy(x.file[at:], patch)
		}
		p, _, err := x.open()
		if err != nil {
			if len(patch) == 0 {
				t.Fatal(err)
			}
			return
		}
		mapErr := p.checkMap()
		if len(patch) == 0 && mapErr != nil {
			t.Fatal(mapErr)
		}
		walkPart(t, p, mapErr == nil)
	})
}

// walkPart reads a part, as far as that takes little time. If it is sound, all
// of it must be read.
func walkPart(t *testing.T, p part, sound bool) {
	buf := make([]byte, 64<<10)
	for off, steps := int64(0), 0; off < p.size() && steps < 3000; steps++ {
		m, err := p.locate(off, p.size()-off)
		if m.n <= 0 || m.n > p.size()-off {
			t.Fatalf("%d bytes at %d of %d", m.n, off, p.size())
		}
		if err == nil && m.state == plain {
			if m.host < 0 {
				t.Fatalf("data at %d", m.host)
			}
			err = p.read(buf[:min(m.n, int64(len(buf)))], off, m)
		}
		if err != nil && sound {
			t.Fatal(err)
		}
		off += m.n
	}
}

// FuzzCOWD holds that no change to a COWD extent takes reading down, and that
// what CheckMap passes is read whole.
func FuzzCOWD(f *testing.F) { fuzzESX(f, kindVMFSSparse) }

// FuzzSESparse does the same for SESparse extents.
func FuzzSESparse(f *testing.F) { fuzzESX(f, kindSESparse) }
