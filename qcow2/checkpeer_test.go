package qcow2

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage/internal/disktest"
	"github.com/diskimage-go/diskimage/internal/peer"
)

// A recipe says how qemu-img and qemu-io make an image.
type recipe struct {
	opts    string   // of qemu-img create -o
	size    string   // default 64M
	io      string   // qemu-io commands, separated by semicolons
	snap    string   // names of snapshots, taken after io
	later   string   // qemu-io commands after the snapshots
	bitmaps int      // how many persistent bitmaps there are while later runs
	args    []string // more arguments of create
}

// bake makes the image and returns its bytes.
func (r recipe) bake(t testing.TB, dir string) []byte {
	t.Helper()
	name := filepath.Join(dir, "a.qcow2")
	size := r.size
	if size == "" {
		size = "64M"
	}
	args := append([]string{"create", "-q", "-f", "qcow2"}, r.args...)
	if r.opts != "" {
		args = append(args, "-o", strings.ReplaceAll(r.opts, "DIR", dir))
	}
	peer.Run(t, "qemu-img", append(args, name, size)...)
	write := func(cmds string) {
		if cmds == "" {
			return
		}
		args := []string{"-f", "qcow2", "-t", "unsafe"}
		for _, c := range strings.Split(cmds, ";") {
			args = append(args, "-c", c)
		}
		peer.Run(t, "qemu-io", append(args, name)...)
	}
	write(r.io)
	for _, s := range strings.Fields(r.snap) {
		peer.Run(t, "qemu-img", "snapshot", "-c", s, name)
	}
	for i := range r.bitmaps {
		peer.Run(t, "qemu-img", "bitmap", "--add", name, "b"+string(rune('0'+i)))
	}
	write(r.later)
	b, err := os.ReadFile(name)
	require.NoError(t, err)
	return b
}

// A bakery bakes each recipe once.
type bakery map[string][]byte

func (k bakery) bake(t testing.TB, r recipe, dir string) *patient {
	t.Helper()
	key := fmt.Sprintf("%+v", r)
	if k[key] == nil {
		k[key] = r.bake(t, dir)
	}
	return &patient{slices.Clone(k[key])}
}

// A patient is a QCOW2 image in memory, to be damaged.
type patient struct{ b []byte }

func (m *patient) u32(off uint64) uint64 { return uint64(binary.BigEndian.Uint32(m.b[off:])) }
func (m *patient) u64(off uint64) uint64 { return binary.BigEndian.Uint64(m.b[off:]) }
func (m *patient) set16(off, v uint64)   { binary.BigEndian.PutUint16(m.b[off:], uint16(v)) }
func (m *patient) set32(off, v uint64)   { binary.BigEndian.PutUint32(m.b[off:], uint32(v)) }
func (m *patient) set64(off, v uint64)   { binary.BigEndian.PutUint64(m.b[off:], v) }

func (m *patient) cluster() uint64 { return 1 << m.u32(offClusterBits) }
func (m *patient) l1() uint64      { return m.u64(offL1Offset) }
func (m *patient) reftable() uint64 {
	return m.u64(offRefTableOffset)
}
func (m *patient) refblock() uint64      { return m.u64(m.reftable()) & refTableOffsetMask }
func (m *patient) refcount(c, v uint64)  { m.set16(m.refblock()+c*2, v) } // 16 bits
func (m *patient) snapshots() uint64     { return m.u64(offSnapshotsOffset) }
func (m *patient) snapL1() uint64        { return m.u64(m.snapshots()) }
func (m *patient) l2() uint64            { return m.u64(m.l1()) & l1OffsetMask }
func (m *patient) at(i uint64) uint64    { return m.l2() + i*m.entrySize() }
func (m *patient) entry(i uint64) uint64 { return m.u64(m.at(i)) }
func (m *patient) set(i, v uint64)       { m.set64(m.at(i), v) }
func (m *patient) flip(off, bits uint64) { m.set64(off, m.u64(off)^bits) }
func (m *patient) cut(n int)             { m.b = m.b[:len(m.b)-n] }
func (m *patient) entrySize() uint64 {
	if m.u32(offVersion) == 3 && m.u64(offIncompatible)&incompatExtendedL2 != 0 {
		return 16
	}
	return 8
}

// extension returns the offset of a header extension's data.
func (m *patient) extension(typ uint64) uint64 {
	for off := m.u32(offHeaderLength); ; off += 8 + (m.u32(off+4)+7)&^7 {
		if m.u32(off) == typ {
			return off + 8
		}
		if m.u32(off) == extEnd {
			return 0
		}
	}
}

func (m *patient) bitmapDir() uint64 { return m.u64(m.extension(extBitmaps) + 16) }

// peerCheck is what qemu-img check says of an image.
type peerCheck struct {
	result CheckResult
	code   int
	lines  []string
}

func runPeerCheck(t testing.TB, name string) peerCheck {
	t.Helper()
	out, code := peer.Try(t, "qemu-img", "check", "-f", "qcow2", "--output=json", name)
	p := peerCheck{code: code}
	end := strings.Index(out, "\n}\n")
	if end < 0 {
		p.lines = []string{out}
		return p
	}
	var j struct {
		End         int64 `json:"image-end-offset"`
		Total       int64 `json:"total-clusters"`
		Allocated   int64 `json:"allocated-clusters"`
		Fragmented  int64 `json:"fragmented-clusters"`
		Compressed  int64 `json:"compressed-clusters"`
		Leaks       int64 `json:"leaks"`
		Corruptions int64 `json:"corruptions"`
		CheckErrors int64 `json:"check-errors"`
	}
	require.NoError(t, json.Unmarshal([]byte(out[:end+3]), &j))
	p.result = CheckResult{j.End, j.Total, j.Allocated, j.Fragmented, j.Compressed, j.Leaks, j.Corruptions, j.CheckErrors}
	for _, line := range strings.Split(out[end+3:], "\n") {
		if line != "" && !strings.HasPrefix(line, "Use qemu-img amend") {
			p.lines = append(p.lines, line)
		}
	}
	return p
}

// checkBytes runs Check and returns the text of what it finds.
func checkBytes(t testing.TB, b []byte, o CheckOptions) (CheckResult, []string) {
	t.Helper()
	var lines []string
	o.Report = func(f Finding) { lines = append(lines, f.Text) }
	r, err := Check(t.Context(), source(b), o)
	require.NoError(t, err)
	return *r, lines
}

// exitCode is qemu-img check's for a result.
func exitCode(r CheckResult) int {
	switch {
	case r.Corruptions > 0:
		return 2
	case r.CheckErrors > 0:
		return 1
	case r.Leaks > 0:
		return 3
	}
	return 0
}

const (
	copied     = uint64(flagCopied)
	compressed = uint64(flagCompressed)
	far        = 100 << 16 // an offset behind the end of every image here
)

var (
	plainImage    = recipe{io: "write 0 256k;write 1M 64k"}
	snappedImage  = recipe{io: "write 0 256k;write 1M 64k", snap: "s1", later: "write 64k 64k"}
	packedImage   = recipe{io: "write -c -P 1 0 64k;write -c -P 2 64k 64k;write -c -P 3 128k 64k;write 192k 64k"}
	mappedImage   = recipe{io: "write 0 256k", bitmaps: 2, later: "write 2M 64k"}
	extendedImage = recipe{opts: "extended_l2=on", io: "write 0 4k;write 64k 64k;write 256k 64k;write -z 128k 32k;write -c 192k 64k"}
	externalImage = recipe{opts: "data_file=DIR/data.raw", io: "write 0 256k;write 1M 64k"}
)

// damages are images with one thing wrong, on which qemu-img and we agree to
// the letter.
var damages = []struct {
	name   string
	recipe recipe
	damage func(m *patient)
}{
	{"leak", plainImage, func(m *patient) { m.b = append(m.b, make([]byte, 3<<16)...); m.refcount(12, 1) }},
	{"leak of more than one", plainImage, func(m *patient) { m.refcount(5, 7) }},
	{"count behind the end", plainImage, func(m *patient) { m.refcount(20, 1) }},
	{"longer file", plainImage, func(m *patient) { m.b = append(m.b, make([]byte, 100000)...) }},
	{"refcount 0", plainImage, func(m *patient) { m.refcount(5, 0) }},
	{"double reference", plainImage, func(m *patient) { m.set(1, m.entry(0)) }},
	{"double reference without COPIED", plainImage, func(m *patient) { m.set(1, m.entry(0)&^copied) }},
	{"COPIED missing in L2", plainImage, func(m *patient) { m.set(0, m.entry(0)&^copied) }},
	{"COPIED missing in L1", plainImage, func(m *patient) { m.flip(m.l1(), copied) }},
	{"COPIED too much", snappedImage, func(m *patient) { m.set(0, m.entry(0)|copied) }},
	{"COPIED in a snapshot", snappedImage, func(m *patient) { m.flip(m.snapL1(), copied) }},
	{"data unaligned", plainImage, func(m *patient) { m.set(0, m.entry(0)|512) }},
	{"zero cluster unaligned", plainImage, func(m *patient) { m.set(0, m.entry(0)|513) }},
	{"zero cluster", plainImage, func(m *patient) { m.set(0, m.entry(0)|1) }},
	{"zero cluster without place", plainImage, func(m *patient) { m.set(0, 1) }},
	{"L2 entry reserved low", plainImage, func(m *patient) { m.set(0, m.entry(0)|2) }},
	{"L2 entry reserved high", plainImage, func(m *patient) { m.set(0, m.entry(0)|1<<57) }},
	{"L2 entry reserved of nothing", plainImage, func(m *patient) { m.set(20, 2) }},
	{"L1 entry reserved low", plainImage, func(m *patient) { m.flip(m.l1(), 2) }},
	{"L1 entry reserved high", plainImage, func(m *patient) { m.flip(m.l1(), 1<<57) }},
	{"L1 entry far outside", plainImage, func(m *patient) { m.set64(m.l1(), copied|far) }},
	{"L1 entry at the end", plainImage, func(m *patient) { m.set64(m.l1(), copied|uint64(len(m.b))) }},
	{"L2 entry far outside", plainImage, func(m *patient) { m.set(0, copied|far) }},
	{"L2 entry farthest", plainImage, func(m *patient) { m.set(0, l2OffsetMask&^0xffff) }},
	{"L2 entry at the end", plainImage, func(m *patient) { m.set(0, copied|uint64(len(m.b))) }},
	{"cut before the last data", plainImage, func(m *patient) { m.cut(1 << 16) }},
	{"cut three data clusters", plainImage, func(m *patient) { m.cut(3 << 16) }},
	{"cut at the L2 table", plainImage, func(m *patient) { m.b = m.b[:m.l2()] }},
	{"data is the refcount table", plainImage, func(m *patient) { m.set(0, copied|m.reftable()) }},
	{"data is a refcount block", plainImage, func(m *patient) { m.set(0, copied|m.refblock()) }},
	{"data is the L1 table", plainImage, func(m *patient) { m.set(0, copied|m.l1()) }},
	{"data is the L2 table", plainImage, func(m *patient) { m.set(0, copied|m.l2()) }},
	{"data is the snapshot table", snappedImage, func(m *patient) { m.set(1, copied|m.snapshots()) }},
	{"data is an inactive L1 table", snappedImage, func(m *patient) { m.set(1, copied|m.snapL1()) }},
	{"data is an inactive L2 table", snappedImage, func(m *patient) { m.set(1, copied|m.u64(m.snapL1())&l1OffsetMask) }},
	{"data is the bitmap directory", mappedImage, func(m *patient) {
		m.set(1, copied|m.bitmapDir())
		m.b = append(m.b, make([]byte, 1<<16)...) // the directory's cluster ends with the file
	}},
	{"data is a bitmap table", mappedImage, func(m *patient) { m.set(1, copied|m.u64(m.bitmapDir())) }},
	{"data is a bitmap", mappedImage, func(m *patient) { m.set(1, copied|m.u64(m.u64(m.bitmapDir()))) }},

	{"refcount table entry reserved", plainImage, func(m *patient) { m.flip(m.reftable(), 1) }},
	{"refcount block outside", plainImage, func(m *patient) { m.set64(m.reftable(), far) }},
	{"refcount block at the end", plainImage, func(m *patient) { m.set64(m.reftable(), uint64(len(m.b))) }},
	{"refcount block above 2^62", plainImage, func(m *patient) { m.set64(m.reftable(), 1<<62) }},
	{"refcount block missing", plainImage, func(m *patient) { m.set64(m.reftable(), 0) }},
	{"refcount block twice", plainImage, func(m *patient) { m.set64(m.reftable()+8, m.refblock()) }},
	{"refcount block is data", plainImage, func(m *patient) { m.set64(m.reftable()+8, m.entry(1)&l2OffsetMask) }},
	{"second refcount block outside", plainImage, func(m *patient) { m.set64(m.reftable()+8, far) }},
	{"refcount table outside", plainImage, func(m *patient) { m.set64(offRefTableOffset, far) }},
	{"refcount table too large", plainImage, func(m *patient) { m.set32(offRefTableClusters, 3) }},

	{"compressed", packedImage, func(m *patient) {}},
	{"compressed COPIED", packedImage, func(m *patient) { m.set(0, m.entry(0)|copied) }},
	{"compressed twice", packedImage, func(m *patient) { m.set(1, m.entry(0)) }},
	{"compressed once more", packedImage, func(m *patient) { m.set(20, m.entry(0)) }},
	{"compressed into the next cluster", packedImage, func(m *patient) { m.set(0, m.entry(0)|0xff<<54) }},
	{"compressed far outside", packedImage, func(m *patient) { m.set(0, m.entry(0)|1<<50) }},
	{"compressed farthest", packedImage, func(m *patient) { m.set(0, 1<<63-1) }},
	{"compressed rest behind the end", packedImage, func(m *patient) { m.set(0, compressed|uint64(len(m.b)-100)) }},
	{"compressed overlaps data", packedImage, func(m *patient) { m.set(0, compressed|m.entry(3)&l2OffsetMask+1000) }},
	{"compressed overlaps the L2 table", packedImage, func(m *patient) { m.set(0, compressed|(m.l2()+1000)) }},
	{"compressed beyond refcount_bits=1", recipe{opts: "refcount_bits=1", io: packedImage.io}, func(m *patient) {
		m.set(1, m.entry(0))
		m.set(2, m.entry(0))
	}},

	{"snapshot", snappedImage, func(m *patient) {}},
	{"snapshot L1 outside", snappedImage, func(m *patient) { m.set64(m.snapshots(), far) }},
	{"snapshot L1 unaligned", snappedImage, func(m *patient) { m.flip(m.snapshots(), 512) }},
	{"snapshot L1 huge", snappedImage, func(m *patient) { m.set32(m.snapshots()+8, 0x7fffffff) }},
	{"snapshot L1 empty", snappedImage, func(m *patient) { m.set32(m.snapshots()+8, 0) }},
	{"snapshot L1 is the active L1", snappedImage, func(m *patient) { m.set64(m.snapshots(), m.l1()) }},
	{"snapshot without extra data", snappedImage, func(m *patient) { m.set32(m.snapshots()+36, 0) }},
	{"snapshot with too little extra data", snappedImage, func(m *patient) { m.set32(m.snapshots()+36, 8) }},
	{"snapshots forgotten", snappedImage, func(m *patient) { m.set32(offNbSnapshots, 0) }},

	{"bitmaps", mappedImage, func(m *patient) {}},
	{"bitmaps not valid", recipe{bitmaps: 0, io: mappedImage.io}, func(m *patient) {}},
	{"bitmap table outside", mappedImage, func(m *patient) { m.set64(m.bitmapDir(), far) }},
	{"bitmap outside", mappedImage, func(m *patient) { m.set64(m.u64(m.bitmapDir()), far) }},
	{"bitmap of ones", mappedImage, func(m *patient) { m.set64(m.u64(m.bitmapDir()), 1) }},
	{"bitmap in use", mappedImage, func(m *patient) { m.set32(m.bitmapDir()+12, 1) }},

	{"extended", extendedImage, func(m *patient) {}},
	{"extended allocated and zero", extendedImage, func(m *patient) { m.flip(m.at(0)+8, 1<<32) }},
	{"extended bits of nothing", extendedImage, func(m *patient) { m.set64(m.at(10)+8, 1) }},
	{"extended zero bits of nothing", extendedImage, func(m *patient) { m.set64(m.at(10)+8, 1<<40) }},
	{"extended bits of a compressed one", extendedImage, func(m *patient) { m.set64(m.at(3)+8, 1) }},
	{"extended without bits", extendedImage, func(m *patient) { m.set64(m.at(0)+8, 0) }},
	{"extended unaligned", extendedImage, func(m *patient) { m.flip(m.at(0), 512) }},
	{"extended preallocated unaligned", extendedImage, func(m *patient) { m.flip(m.at(0), 512); m.set64(m.at(0)+8, 0) }},
	{"extended at the end", recipe{opts: "extended_l2=on", io: "write 0 64k;write 64k 4k"}, func(m *patient) {}},

	{"data file", externalImage, func(m *patient) {}},
	{"data file COPIED missing", externalImage, func(m *patient) { m.flip(m.at(1), copied) }},
	{"data file unaligned", externalImage, func(m *patient) { m.set(1, copied|0x20200) }},
	{"data file compressed", externalImage, func(m *patient) { m.set(1, compressed|0x50000) }},
	{"data file cluster at 0 not there", externalImage, func(m *patient) { m.set(0, 0) }},

	{"version 2", recipe{opts: "compat=0.10", io: plainImage.io}, func(m *patient) { m.refcount(5, 2) }},
	{"dirty", recipe{opts: "lazy_refcounts=on", io: plainImage.io}, func(m *patient) { m.flip(offIncompatible, incompatDirty) }},
	{"corrupt bit and damage", plainImage, func(m *patient) { m.flip(offIncompatible, incompatCorrupt); m.refcount(5, 0) }},
}

// TestCheckAsPeer asks that our counters and our words for damaged images are
// those of qemu-img.
func TestCheckAsPeer(t *testing.T) {
	disktest.Alone(t)
	dir := t.TempDir()
	baked := make(bakery)
	for _, d := range damages {
		t.Run(d.name, func(t *testing.T) {
			m := baked.bake(t, d.recipe, dir)
			d.damage(m)
			name := filepath.Join(dir, "damaged.qcow2")
			require.NoError(t, os.WriteFile(name, m.b, 0o666))
			theirs := runPeerCheck(t, name)
			ours, lines := checkBytes(t, m.b, CheckOptions{})
			if diff := cmp.Diff(theirs.result, ours); diff != "" {
				t.Errorf("counters (- qemu-img, + ours):\n%s%s", diff, strings.Join(theirs.lines, "\n"))
			}
			slices.Sort(theirs.lines)
			slices.Sort(lines)
			theirs.lines = slices.Compact(theirs.lines) // it repeats overflows
			if diff := cmp.Diff(theirs.lines, lines); diff != "" {
				t.Errorf("findings (- qemu-img, + ours):\n%s", diff)
			}
			require.Equal(t, theirs.code, exitCode(ours))
		})
	}
}
