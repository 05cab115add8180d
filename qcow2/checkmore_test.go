package qcow2

import (
	"bytes"
	"encoding/binary"
	"errors"
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

// more are images of which we say more than qemu-img does. code is its exit
// code: 0 clean, 1 not checked, 2 corrupt, 3 leaks. All are corrupt for us.
var more = []struct {
	name   string
	recipe recipe
	damage func(m *patient)
	code   int
	text   string
}{
	{"corrupt bit alone", plainImage, func(m *patient) { m.flip(offIncompatible, incompatCorrupt) }, 0,
		"ERROR the image is marked corrupt, although nothing else was found"},
	{"data is an inactive L1 table, counted", snappedImage, func(m *patient) {
		m.set(1, m.snapL1())
		m.refcount(m.snapL1()>>16, 2)
		m.refcount(13, 0)
	}, 0, "ERROR cluster 10 holds a header or table and guest data, and is referenced 2 times"},
	{"data is an inactive L2 table, counted", snappedImage, func(m *patient) {
		l2 := m.u64(m.snapL1()) & l1OffsetMask
		m.set(1, l2)
		m.refcount(l2>>16, 2)
		m.refcount(13, 0)
	}, 0, "ERROR cluster 4 holds an l2 table and guest data, and is referenced 2 times"},
	{"data is the snapshot table, counted", snappedImage, func(m *patient) {
		m.set(1, m.snapshots())
		m.refcount(m.snapshots()>>16, 2)
		m.refcount(13, 0)
	}, 0, "ERROR cluster 11 holds a header or table and guest data, and is referenced 2 times"},
	{"data is the refcount table, counted", plainImage, func(m *patient) { m.set(0, m.reftable()); m.refcount(1, 2); m.refcount(5, 0) }, 0,
		"ERROR cluster 1 holds a refcount block or the refcount table and guest data, and is referenced 2 times"},
	{"data is the L2 table, counted", plainImage, func(m *patient) { m.set(0, m.l2()); m.flip(m.l1(), copied); m.refcount(4, 2); m.refcount(5, 0) }, 0,
		"ERROR cluster 4 holds an l2 table and guest data, and is referenced 2 times"},
	{"cut inside the last data cluster", plainImage, func(m *patient) { m.cut(512) }, 0, "ERROR offset=90000: Data cluster is cut by the end of the file"},
	{"cut inside an L2 table", recipe{io: "write -z 0 64k"}, func(m *patient) { m.cut(512) }, 0, "ERROR l2_offset=40000: Table is cut by the end of the file"},
	{"cut inside a refcount block", plainImage, func(m *patient) {
		copy(m.b[m.l1():], make([]byte, 8)) // an empty disk of 0 bytes
		m.set32(offL1Size, 0)
		m.set64(offSize, 0)
		m.set64(offL1Offset, 0)
		clear(m.b[m.refblock()+6 : m.refblock()+1<<16])
		m.b = m.b[:m.refblock()+4096]
	}, 0, "ERROR refcount block 0 is cut by the end of the file"},
	{"subclusters cut", recipe{opts: "extended_l2=on", io: "write 0 4k"}, func(m *patient) { m.cut(512) }, 0, "Data cluster is cut by the end of the file"},
	{"compressed behind the end", packedImage, func(m *patient) {
		m.b = append(m.b, make([]byte, 0x8000)...)
		m.set(0, compressed|uint64(len(m.b))+512)
		m.refcount(5, 2)
		m.refcount(7, 1)
	}, 0, "compressed cluster is cut by the end of the file"},
	{"compressed cut", packedImage, func(m *patient) {
		m.set(2, m.entry(2)|3<<54) // four sectors
		m.b = m.b[:5<<16+1024]
		m.set(3, 0)
		m.refcount(6, 0)
	}, 0, "compressed cluster is cut by the end of the file"},
	{"zero flag in version 2", recipe{opts: "compat=0.10", io: plainImage.io}, func(m *patient) { m.set(0, m.entry(0)|1) }, 0, "the zero flag, which version 2 does not have"},
	{"zero flag without place in version 2", recipe{opts: "compat=0.10", io: plainImage.io}, func(m *patient) { m.set(20, 1) }, 0, "the zero flag, which version 2 does not have"},
	{"COPIED of no cluster", plainImage, func(m *patient) { m.set(20, copied) }, 0, "ERROR found l2 entry with the COPIED flag and no cluster"},
	{"COPIED of no L2 table", snappedImage, func(m *patient) { m.set64(m.snapL1(), copied) }, 2, "ERROR found L1 entry with the COPIED flag and no L2 table"},
	{"data is compressed data, counted", packedImage, func(m *patient) { m.set(20, m.entry(0)&l2OffsetMask); m.refcount(5, 4) }, 0, "holds guest data and compressed guest data"},
	{"zero flag with extended L2 entries", extendedImage, func(m *patient) { m.flip(m.at(0), 1) }, 0, "ERROR found l2 entry with reserved bits set"},
	{"data file at another offset", externalImage, func(m *patient) { m.set(1, copied|0x20000) }, 0, "is not at the same offset of the data file"},
	{"snapshot table outside", snappedImage, func(m *patient) { m.set64(offSnapshotsOffset, far) }, 2, "ERROR qcow2: snapshot table: entry 0"},
	{"snapshot L1 cut", snappedImage, func(m *patient) {
		m.b = append(m.b, 0)
		m.set64(m.snapshots(), uint64(len(m.b)-1))
	}, 2, "L1 table is cut by the end of the file; snapshot table entry corrupted"},
	{"L1 entry unaligned", plainImage, func(m *patient) { m.flip(m.l1(), 512) }, 2, "ERROR l2_offset=40200: Table is not cluster aligned; L1 entry corrupted"},
	{"refcount block unaligned", plainImage, func(m *patient) { m.flip(m.reftable(), 512) }, 1, "ERROR refcount block 0 is not cluster aligned; refcount table entry corrupted"},
	{"bitmap directory broken", mappedImage, func(m *patient) { m.b[m.bitmapDir()+16] = 2 }, 1, "ERROR qcow2: bitmap directory: entry 0"},
	{"bitmap table too short", mappedImage, func(m *patient) { m.set32(m.bitmapDir()+8, 2) }, 1, "1 entries at the start of a cluster are right"},
	{"bitmap tables overlap", mappedImage, func(m *patient) { m.set64(m.bitmapDir()+32, m.u64(m.bitmapDir())) }, 2, "its table overlaps another's"},
	{"bitmap table entry invalid", mappedImage, func(m *patient) { m.flip(m.u64(m.bitmapDir()), 2) }, 1, "0002 is invalid"},
	{"bitmap extension broken", mappedImage, func(m *patient) { m.set32(m.extension(extBitmaps), 0) }, 1, "ERROR qcow2: bitmaps extension: nb_bitmaps"},
}

// TestCheckSaysMore holds Check to what it promises beyond qemu-img, and
// qemu-img to saying less, so that the list stays true.
func TestCheckSaysMore(t *testing.T) {
	disktest.Alone(t)
	dir := t.TempDir()
	baked := make(bakery)
	for _, c := range more {
		t.Run(c.name, func(t *testing.T) {
			m := baked.bake(t, c.recipe, dir)
			c.damage(m)
			name := filepath.Join(dir, "damaged.qcow2")
			require.NoError(t, os.WriteFile(name, m.b, 0o666))
			theirs := runPeerCheck(t, name)
			require.Equal(t, c.code, theirs.code, theirs.lines)
			ours, lines := checkBytes(t, m.b, CheckOptions{})
			require.Positive(t, ours.Corruptions)
			require.True(t, slices.ContainsFunc(lines, func(s string) bool { return strings.Contains(s, c.text) }), "%v", lines)
			if c.code == 0 {
				require.Len(t, lines, 1)
			}
		})
	}
}

// TestCheckLUKS counts an encryption header, which qemu-img checks with the
// key only.
func TestCheckLUKS(t *testing.T) {
	disktest.Alone(t)
	t.Parallel()
	if testing.Short() {
		t.Skip("qemu-img takes seconds to make a key")
	}
	dir := t.TempDir()
	secret := []string{"--object", "secret,id=s,data=x"}
	m := &patient{recipe{size: "16M", args: append(slices.Clone(secret),
		"-o", "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10")}.bake(t, dir)}
	ours, lines := checkBytes(t, m.b, CheckOptions{})
	require.Empty(t, lines)
	name := filepath.Join(dir, "a.qcow2")
	image := "driver=qcow2,encrypt.format=luks,encrypt.key-secret=s,file.filename=" + name
	require.Contains(t, peer.Run(t, "qemu-img", append(append([]string{"check"}, secret...), "--image-opts", image)...), "No errors were found")

	ext := m.extension(extCrypto)
	off, n := m.u64(ext), m.u64(ext+8)
	require.EqualValues(t, m.size(), ours.ImageEndOffset)
	m.set64(ext, off+512)
	r, lines := checkBytes(t, m.b, CheckOptions{})
	require.EqualValues(t, 1, r.Corruptions, lines)
	require.EqualValues(t, (n+1<<16-1)>>16, r.Leaks)
	m.set64(ext, off)
	m.set64(ext+8, 1<<40)
	r, lines = checkBytes(t, m.b, CheckOptions{})
	require.EqualValues(t, 1, r.Corruptions, lines)
}

// TestCheckMapDense asks that no honest image is over the limit: the densest
// there is, in which all clusters are of one byte.
func TestCheckMapDense(t *testing.T) {
	disktest.Alone(t)
	t.Parallel()
	dir := t.TempDir()
	raw := filepath.Join(dir, "a.raw")
	require.NoError(t, os.WriteFile(raw, bytes.Repeat([]byte{0x55}, 1<<20), 0o666))
	for _, opts := range []string{"cluster_size=512", "cluster_size=4k", "cluster_size=2M", "cluster_size=512,compression_type=zstd", "cluster_size=4k,compression_type=zstd", "cluster_size=64k,compression_type=zstd"} {
		name := filepath.Join(dir, "a.qcow2")
		peer.Run(t, "qemu-img", "convert", "-c", "-W", "-O", "qcow2", "-o", opts, raw, name)
		b, err := os.ReadFile(name)
		require.NoError(t, err)
		d, err := Open(t.Context(), source(b), Options{})
		require.NoError(t, err)
		require.NoError(t, d.CheckMap(), opts)
	}
}

// size returns the file's size, rounded up to clusters.
func (m *patient) size() uint64 { return (uint64(len(m.b)) + m.cluster() - 1) &^ (m.cluster() - 1) }

// A faultySource fails to read one range.
type faultySource struct {
	diskimage.Source
	off, n int64
}

var errFault = errors.New("the medium is worn out")

func (s faultySource) ReadAt(p []byte, off int64) (int, error) {
	if off < s.off+s.n && s.off < off+int64(len(p)) {
		return 0, errFault
	}
	return s.Source.ReadAt(p, off)
}

// TestCheckFaults asks that what cannot be read is no damage and no silence.
func TestCheckFaults(t *testing.T) {
	full := fullImage(2)
	for _, c := range []struct {
		name string
		off  int64
	}{
		{"L2 table", fullL2 + 1<<16},
		{"refcount block", fullBlock},
	} {
		t.Run(c.name, func(t *testing.T) {
			src := faultySource{full, c.off, 1}
			var errs []string
			r, err := Check(t.Context(), src, CheckOptions{Report: func(f Finding) {
				if f.Kind == FindingError {
					errs = append(errs, f.Text)
				}
			}})
			require.NoError(t, err)
			require.EqualValues(t, 1, r.CheckErrors)
			require.Len(t, errs, 1)
			require.Contains(t, errs[0], errFault.Error())
		})
	}
	for name, off := range map[string]int64{"header": 0, "refcount table": 1 << 16, "l1 table": 2 << 16} {
		_, err := Check(t.Context(), faultySource{full, off, 1}, CheckOptions{})
		require.ErrorIs(t, err, errFault, name)
		require.ErrorContains(t, err, name)
	}
	d, err := Open(t.Context(), faultySource{full, fullL2, 1}, Options{})
	require.NoError(t, err)
	require.ErrorIs(t, d.CheckMap(), errFault)
}

// FuzzCheck asks that no file makes Check or CheckMap panic, hang or disagree:
// what CheckMap refuses Check finds, and what Check finds sound reads.
func FuzzCheck(f *testing.F) {
	data := bytes.Repeat([]byte("data"), 100)
	for _, q := range []imagetest.QCOW2{
		{ClusterBits: 9, Size: 64 << 10, Clusters: []imagetest.Cluster{{Kind: imagetest.Plain, Data: data}, {Kind: imagetest.ZerosReserved}, {Kind: imagetest.Packed, Data: data}, {Kind: imagetest.Packed, Data: data}}},
		{ClusterBits: 9, Version: 2, RefcountOrder: 4, Clusters: []imagetest.Cluster{{Kind: imagetest.Plain, Data: data}, {}, {Kind: imagetest.Packed, Data: data}}},
		{ClusterBits: 14, ExtendedL2: true, RefcountOrder: -1, Clusters: []imagetest.Cluster{{Kind: imagetest.Subclusters, Data: data, Alloc: 3, Zero: 12}, {Kind: imagetest.Zeros}}},
	} {
		m := &patient{q.Build().Bytes}
		f.Add(m.b, uint32(0), uint64(Magic<<32|3), uint32(1<<30), uint64(0))
		f.Add(m.b, uint32(m.l2()), m.entry(2), uint32(m.refblock()), uint64(1<<48|1<<32|2<<16|1))
		f.Add(m.b, uint32(m.l2()), uint64(m.l2()|flagZero), uint32(m.reftable()), uint64(512))
		f.Add(m.b, uint32(m.l1()), uint64(m.l1()), uint32(offNbSnapshots), uint64(1<<32|1024))
	}
	f.Fuzz(func(t *testing.T, b []byte, at1 uint32, v1 uint64, at2 uint32, v2 uint64) {
		b = slices.Clone(b)
		for _, c := range []struct {
			at uint32
			v  uint64
		}{{at1, v1}, {at2, v2}} {
			if int64(c.at)+8 <= int64(len(b)) {
				binary.BigEndian.PutUint64(b[c.at:], c.v)
			}
		}
		r, checkErr := Check(t.Context(), source(b), CheckOptions{Report: func(Finding) {}})
		again, _ := Check(t.Context(), source(b), CheckOptions{pages: 1})
		require.Equal(t, r, again)
		d, err := Open(t.Context(), source(b), Options{SkipExternal: true})
		if err != nil {
			return
		}
		require.NoError(t, checkErr, "Open takes it")
		err = d.CheckMap()
		if err != nil && !errors.Is(err, diskimage.ErrLimit) {
			require.Positive(t, r.Corruptions, "%v", err)
		}
		if err == nil && d.Size() < 1<<30 {
			for _, err := range diskimage.Extents(d, 0, d.Size()) {
				require.NoError(t, err, "CheckMap takes it")
			}
		}
	})
}
