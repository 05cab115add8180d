package qcow2_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/internal/disktest"
	"github.com/diskimage-go/diskimage/internal/imagetest"
	"github.com/diskimage-go/diskimage/internal/peer"
	"github.com/diskimage-go/diskimage/qcow2"
)

// A stretch is a part of an image file, by name: numbers of 8 bytes.
type stretch struct {
	name string
	off  int64
	n    int64
}

// A flipped is an image whose bits are flipped, and where.
type flipped struct {
	*imagetest.Image
	parts []stretch
}

// flips returns small images of every kind.
func flips() map[string]flipped {
	rnd := rand.New(rand.NewPCG(5, 1))
	plain := func(bits uint) imagetest.Cluster {
		p := make([]byte, 1<<bits)
		for i := range p {
			p[i] = byte(rnd.Uint32())
		}
		return imagetest.Cluster{Kind: imagetest.Plain, Data: p}
	}
	packed := func(bits uint, share int) imagetest.Cluster { // 1 of share bytes is noise
		c := plain(bits)
		c.Kind = imagetest.Packed
		for i := range c.Data {
			if i%share != 0 {
				c.Data[i] = 'a'
			}
		}
		return c
	}
	// One cluster of each kind; version 2 has no zero clusters.
	clusters := func(bits uint, zeros bool) []imagetest.Cluster {
		all := []imagetest.Cluster{plain(bits), packed(bits, 3), {}, packed(bits, 8), {Kind: imagetest.Plain}, plain(bits)}
		if zeros {
			all = append(all, imagetest.Cluster{Kind: imagetest.Zeros}, imagetest.Cluster{Kind: imagetest.ZerosReserved, Data: []byte("hidden")})
		}
		return append(all, plain(bits))
	}
	subclusters := []imagetest.Cluster{plain(14), {Kind: imagetest.Subclusters, Data: plain(14).Data, Alloc: 0x00ff, Zero: 0x0f00}, packed(14, 8), {Kind: imagetest.Zeros}, {}}

	all := map[string]imagetest.QCOW2{
		"version 2":       {Version: 2, ClusterBits: 12, Clusters: clusters(12, false)},
		"version 3":       {ClusterBits: 12, Clusters: clusters(12, true)},
		"zstd":            {ClusterBits: 12, RefcountOrder: 6, Zstd: true, Clusters: clusters(12, true)},
		"clusters of 512": {ClusterBits: 9, RefcountOrder: 3, Clusters: clusters(9, true)},
		"clusters of 64k": {Clusters: []imagetest.Cluster{plain(16), packed(16, 1<<20)}},
		"subclusters":     {ClusterBits: 14, ExtendedL2: true, Clusters: subclusters},
		"one compressed":  {ClusterBits: 12, Clusters: []imagetest.Cluster{packed(12, 1<<20)}},
		"backing image": {ClusterBits: 12, Backing: "base", Clusters: clusters(12, true),
			Extensions: []imagetest.Extension{{Type: imagetest.ExtBackingFormat, Data: []byte("qcow2")}}},
	}
	images := make(map[string]flipped)
	for name, q := range all {
		f := partsOf(q.Build(), len(q.Clusters))
		if name == "clusters of 512" || name == "one compressed" { // the header is like others'
			f.parts = f.parts[1:]
		}
		images[name] = f
	}

	m := imagetest.QCOW2{ClusterBits: 12, Clusters: clusters(12, true)}.Build()
	m.Snapshot("before")
	m.Rewrite(0, plain(12).Data)
	list := int64(m.Get64(imagetest.SnapshotsOffset))
	l1 := int64(m.Get64(list))
	l2 := int64(m.Get64(l1))
	f := partsOf(m, 9)
	f.parts = append(f.parts, stretch{"snapshots", list, 8}, stretch{"snapshot's l1", l1, 2}, stretch{"snapshot's l2", l2, 10})
	images["snapshot"] = f

	m = imagetest.QCOW2{ClusterBits: 12, Autoclear: 1, Clusters: clusters(12, true),
		Extensions: []imagetest.Extension{{Type: imagetest.ExtBitmaps, Data: make([]byte, 24)}}}.Build()
	const extension = 112 + 8
	data := m.Append(bytes.Repeat([]byte{1}, 100))
	table := m.Append(binary.BigEndian.AppendUint64(nil, uint64(data)))
	entry := binary.BigEndian.AppendUint64(nil, uint64(table))
	entry = append(entry, 0, 0, 0, 1, 0, 0, 0, 2, 1, 16, 0, 1, 0, 0, 0, 0, 'b', 0, 0, 0, 0, 0, 0, 0)
	directory := m.Append(entry)
	m.Put32(extension, 1)
	m.Put64(extension+8, uint64(len(entry)))
	m.Put64(extension+16, uint64(directory))
	f = partsOf(m, 9)
	f.parts = append(f.parts, stretch{"extension", extension - 8, 4}, stretch{"bitmap directory", directory, 4}, stretch{"bitmap table", table, 1})
	images["bitmap"] = f
	return images
}

// partsOf returns where the tables of an image lie, and a little more.
func partsOf(m *imagetest.Image, clusters int) flipped {
	words := int64(clusters + 1)
	if m.Bytes[imagetest.Incompatible+7]&0x10 != 0 { // extended L2 entries
		words *= 2
	}
	f := flipped{m, []stretch{{"header", 0, 14}, {"l1", m.L1, m.L1Len + 1}, {"refcount table", m.RefTable, 2}}}
	for i, off := range m.L2 {
		f.parts = append(f.parts, stretch{fmt.Sprintf("l2.%d", i), off, words})
	}
	for i, off := range m.RefBlocks {
		f.parts = append(f.parts, stretch{fmt.Sprintf("refcounts.%d", i), off, 6})
	}
	return f
}

// subclusterBits are the flips that allocate a subcluster or take one away, in
// the image of that name.
func subclusterBits() (all []string) {
	for bit := range 32 {
		all = append(all, fmt.Sprintf("l2.0 1 bit %d", bit))
		if bit < 8 || bit > 11 { // those are zeros
			all = append(all, fmt.Sprintf("l2.0 3 bit %d", bit))
		}
	}
	return all
}

// TestBitFlips flips each bit of header and tables of small images, one at a
// time. The image is refused before anything is written, or when all of it is
// read, or it reads the same; but for what is listed here, since it makes
// another valid image: a cluster gets the zero flag or loses it, a subcluster is
// allocated or no longer, an entry without the COPIED flag becomes unallocated,
// the L1 table is sought in guest data that is all zeros, a bit tells that L2
// entries are extended. Another size of the disk is not listed bit by bit.
//
// qemu-img check finds nothing wrong with those, or clusters that are leaked
// (exit code 3): nothing refers any more to what a flip took out of the map.
// That is not damage, nor does it tell where to look for any.
func TestBitFlips(t *testing.T) {
	disktest.Alone(t)
	zeroFlags := []string{"l2.0 0 bit 0", "l2.0 5 bit 0", "l2.0 7 bit 0", "l2.0 8 bit 0"}
	listed := map[string][]string{
		"version 2":       {"header 5 bit 14"},
		"version 3":       append([]string{"header 5 bit 14"}, zeroFlags...),
		"zstd":            append([]string{"header 5 bit 14"}, zeroFlags...),
		"clusters of 512": zeroFlags,
		"clusters of 64k": {"header 9 bit 4", "l2.0 0 bit 0"},
		"subclusters":     subclusterBits(),
		"one compressed":  nil,
		"backing image":   append([]string{"header 5 bit 14", "l2.0 2 bit 0", "l2.0 6 bit 0"}, zeroFlags...),
		"snapshot":        append([]string{"header 5 bit 14", "l2.0 5 bit 15"}, zeroFlags...),
		"bitmap":          append([]string{"header 5 bit 14"}, zeroFlags...),
	}
	base := imagetest.QCOW2{ClusterBits: 12, Clusters: bytesOf(9)}.Build()
	for name, f := range flips() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			files := &opener{files: map[string][]byte{"base": base.Bytes}}
			want, err := guestOf(t, f.Bytes, files)
			require.NoError(t, err)
			if name != "backing image" {
				require.Equal(t, f.Guest, want)
			}
			var changed []string
			all := bytes.Clone(f.Bytes)
			for _, p := range f.parts {
				for i := range p.n {
					at := p.off + i*8
					sound := f.Get64(at)
					for bit := range 64 {
						f.Put64(at, sound^1<<bit)
						got, err := guestOf(t, f.Bytes, files)
						switch {
						case err != nil || bytes.Equal(want, got) || at == imagetest.Size:
							continue
						case p.name == "header":
							requireClean(t, f.Bytes, base.Bytes)
						default:
							all[at+int64(7-bit/8)] ^= 1 << (bit % 8)
						}
						changed = append(changed, fmt.Sprintf("%s %d bit %d", p.name, i, bit))
					}
					f.Put64(at, sound)
				}
			}
			require.ElementsMatch(t, listed[name], changed)
			requireClean(t, all, base.Bytes) // of tables all flips at once: none of them refers to anything new
		})
	}
}

// requireClean asserts that qemu-img check finds nothing wrong with an image
// but leaks, if it is here.
func requireClean(t *testing.T, image, base []byte) {
	t.Helper()
	if !peer.Has("qemu-img") {
		return
	}
	dir := t.TempDir()
	name := filepath.Join(dir, "image")
	require.NoError(t, os.WriteFile(filepath.Join(dir, "base"), base, 0o600))
	require.NoError(t, os.WriteFile(name, image, 0o600))
	out, code := peer.Try(t, "qemu-img", "check", name)
	require.Contains(t, []int{0, 3}, code, out)
}

// guestOf returns what a conversion would read, or the error that it gives.
func guestOf(t *testing.T, file []byte, files diskimage.Opener) ([]byte, error) {
	t.Helper()
	d, err := qcow2.Open(t.Context(), imagetest.Source(file), qcow2.Options{Opener: files})
	if err != nil {
		return nil, err
	}
	defer d.Close()
	if err := d.CheckMap(); err != nil {
		return nil, err
	}
	require.NoError(t, disktest.TryWalk(d), "CheckMap takes it")
	if d.Size() > 1<<20 { // another size
		return nil, nil
	}
	got := make([]byte, d.Size())
	_, err = d.ReadAt(got, 0)
	return got, err
}
