package vmdk

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/internal/peer"
)

var setKinds = []Subformat{MonolithicFlat, TwoGbMaxExtentFlat, TwoGbMaxExtentSparse}

// A folder is a Creator of files in a folder; they can have holes.
type folder string

func (f folder) Create(name string) (diskimage.Output, error) {
	file, err := os.OpenFile(filepath.Join(string(f), name), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o666)
	return osOutput{file}, err
}

type osOutput struct{ *os.File }

func (osOutput) ZeroFilled() bool { return true }
func (osOutput) Sync() error      { return nil }

// A tally is a Creator of outputs that keep which bytes were written, and
// nothing else.
type tally struct {
	mu      sync.Mutex
	files   map[string]*tallied
	fail    string // the file that cannot be made or, if failAt, written to
	failAt  int    // number of the write that fails, from 1
	writes  int
	refused error
}

type tallied struct {
	t      *tally
	name   string
	ranges [][2]int64
}

func (t *tally) Create(name string) (diskimage.Output, error) {
	if t.files == nil {
		t.files = map[string]*tallied{}
	}
	if name == t.fail && t.failAt == 0 {
		return nil, t.refused
	}
	t.files[name] = &tallied{t: t, name: name}
	return t.files[name], nil
}

func (f *tallied) WriteAt(p []byte, off int64) (int, error) {
	f.t.mu.Lock()
	defer f.t.mu.Unlock()
	if f.t.writes++; f.t.writes == f.t.failAt {
		return 0, f.t.refused
	}
	f.ranges = append(f.ranges, [2]int64{off, off + int64(len(p))})
	return len(p), nil
}

// length returns the length of a file of which each byte was written once.
func (f *tallied) length(t testing.TB) int64 {
	t.Helper()
	slices.SortFunc(f.ranges, func(a, b [2]int64) int { return cmp.Compare(a[0], b[0]) })
	at := int64(0)
	for _, r := range f.ranges {
		require.Equal(t, at, r[0], "%s: a gap, or a byte written twice", f.name)
		at = r[1]
	}
	return at
}

// driveSparse writes a disk of size bytes that is zeros but for pieces, which
// are no longer than 64 KiB and aligned to that.
func driveSparse(out diskimage.Output, o WriterOptions, pieces map[int64][]byte) error {
	w, err := NewWriter(out, o)
	if err != nil {
		return err
	}
	defer w.Abort()
	b := w.NewBatch()
	for _, at := range slices.Sorted(maps.Keys(pieces)) {
		start := at &^ (diskimage.BatchSize - 1)
		b.Reset(start, min(diskimage.BatchSize, o.Size-start))
		place := b.Buf[at-start:][:64<<10]
		clear(place)
		copy(place, pieces[at])
		place = place[:roundUp(int64(len(pieces[at])), w.Unit())]
		b.Blocks = append(b.Blocks, diskimage.Block{Off: at, Len: int64(len(place)), Data: place})
		if err := errors.Join(w.Encode(b), w.Place(b)); err != nil {
			return err
		}
		if err := w.Store(context.Background(), b); err != nil {
			return err
		}
	}
	return w.Finish(context.Background())
}

// piecesOf returns data for the start of a disk, its end, and both sides of
// where extents meet.
func piecesOf(size int64) map[int64][]byte {
	const n = 64 << 10
	pieces := map[int64][]byte{}
	add := func(at int64) {
		if at >= 0 && at < size && pieces[at] == nil {
			pieces[at] = guestData(min(n, size-at), n, allHard, uint64(at)+1)
		}
	}
	add(0)
	for at := int64(splitBytes); at < size; at += splitBytes {
		if at != 2*splitBytes { // that extent stays empty up to its last grain
			add(at - n)
			add(at)
		}
	}
	add((size - 1) &^ (n - 1))
	return pieces
}

// TestSetPeers: QEMU, libvmdk and 7-Zip take each kind of set, of one extent and
// of several, and find the disk in it.
func TestSetPeers(t *testing.T) {
	for _, kind := range setKinds {
		for size, files := range map[int64]int{512: 1, 5<<20 + 512: 1, splitBytes: 1, splitBytes + 512: 2, 4*splitBytes - 512: 4} {
			t.Run(fmt.Sprintf("%v/%d", kind, size), func(t *testing.T) {
				dir := t.TempDir()
				image, disk := filepath.Join(dir, "a b.vmdk"), filepath.Join(dir, "disk.raw")
				out, err := folder(dir).Create("a b.vmdk")
				require.NoError(t, err)
				raw, err := os.Create(disk)
				require.NoError(t, err)
				defer raw.Close()
				pieces := piecesOf(size)
				for at, p := range pieces {
					_, err := raw.WriteAt(p, at)
					require.NoError(t, err)
				}
				require.NoError(t, raw.Truncate(size))

				o := WriterOptions{Size: size, Subformat: kind, FileName: "a b.vmdk", Creator: folder(dir)}
				require.NoError(t, driveSparse(out, o, pieces))
				names, err := ExtentNames(o)
				require.NoError(t, err)
				if kind == MonolithicFlat {
					files = 1
				}
				require.Len(t, names, files)

				peer.Run(t, "qemu-img", "compare", "-f", "vmdk", "-F", "raw", image, disk)
				if kind == TwoGbMaxExtentSparse {
					require.Contains(t, peer.Run(t, "qemu-img", "check", "-f", "vmdk", image), "No errors were found")
				}
				info := peer.Run(t, "vmdkinfo", image)
				require.Contains(t, info, fmt.Sprintf("(%d bytes)", size))
				require.Contains(t, info, fmt.Sprintf("Number of extents:\t\t%d", files))
				if size < splitBytes {
					peer.Run(t, "7z", "x", "-y", "-o"+filepath.Join(dir, "7z"), image)
					want, err := os.ReadFile(disk)
					require.NoError(t, err)
					got, err := os.ReadFile(filepath.Join(dir, "7z", "a b.img"))
					require.NoError(t, err)
					require.True(t, bytes.Equal(want, got), "7-Zip finds another disk")
				}
			})
		}
	}
}

// TestSetNames are those that QEMU gives the same sets, each of the size that
// QEMU gives it.
func TestSetNames(t *testing.T) {
	peer.Find(t, "qemu-img")
	for _, kind := range setKinds {
		for _, name := range []string{"disk.vmdk", "disk", "a.b.img", ".x", "y."} {
			ours, theirs := t.TempDir(), t.TempDir()
			const size = 2*splitBytes + 1<<20
			peer.Run(t, "qemu-img", "create", "-q", "-f", "vmdk", "-o", "subformat="+kind.String(), filepath.Join(theirs, name), fmt.Sprint(int64(size)))
			out, err := folder(ours).Create(name)
			require.NoError(t, err)
			require.NoError(t, driveSparse(out, WriterOptions{Size: size, Subformat: kind, FileName: name, Creator: folder(ours)}, nil))
			require.Equal(t, sizes(t, theirs, name), sizes(t, ours, name))
		}
	}
}

// sizes returns the lengths of a folder's files, but for the one named.
func sizes(t *testing.T, dir, but string) map[string]int64 {
	t.Helper()
	list, err := os.ReadDir(dir)
	require.NoError(t, err)
	got := map[string]int64{}
	for _, e := range list {
		info, err := e.Info()
		require.NoError(t, err)
		got[e.Name()] = info.Size()
	}
	require.Contains(t, got, but)
	delete(got, but)
	return got
}

func TestExtentNames(t *testing.T) {
	for _, kind := range []Subformat{MonolithicSparse, StreamOptimized} {
		names, err := ExtentNames(WriterOptions{Size: 1, Subformat: kind})
		require.NoError(t, err)
		require.Empty(t, names)
	}
	names, err := ExtentNames(WriterOptions{Size: maxExtents * splitBytes, Subformat: TwoGbMaxExtentSparse})
	require.NoError(t, err)
	require.Len(t, names, maxExtents)
	require.Equal(t, "disk-s999.vmdk", names[998])
	require.Equal(t, "disk-s10000.vmdk", names[9999])
	_, err = ExtentNames(WriterOptions{Size: maxExtents*splitBytes + 1, Subformat: TwoGbMaxExtentSparse})
	require.ErrorIs(t, err, diskimage.ErrLimit)
	for _, name := range []string{"a/b.vmdk", `a\b.vmdk`, `a"b.vmdk`} {
		_, err = ExtentNames(WriterOptions{Size: 1, Subformat: MonolithicFlat, FileName: name})
		require.ErrorIs(t, err, diskimage.ErrUnsupported)
	}
	_, err = ExtentNames(WriterOptions{Subformat: MonolithicFlat})
	require.Error(t, err)
}

// TestSetBytesWrittenOnce: where unwritten bytes are anything, each is written,
// once, holes that cross extents too; the descriptor last.
func TestSetBytesWrittenOnce(t *testing.T) {
	for _, kind := range setKinds {
		for _, allocate := range []bool{false, true} {
			files := &tally{}
			const size = 2*splitBytes + 5<<20 + 512
			o := WriterOptions{Size: size, Subformat: kind, Creator: files, AllocateZeros: allocate}
			out := &recorder{}
			require.NoError(t, driveSparse(out, o, map[int64][]byte{64 << 10: {1}, 2*splitBytes + 3<<20: {1}}))
			out.prefix, out.sealed = 0, false
			text := out.whole(t)
			d, err := parseDescriptor(text, 0)
			require.NoError(t, err)
			require.Equal(t, int64(size/sectorSize), d.sectors())
			require.Len(t, files.files, len(d.extents))
			for _, e := range d.extents {
				n := files.files[e.fileName].length(t)
				if e.kind == kindFlat {
					require.Equal(t, e.sectors*sectorSize, n)
				} else {
					require.Positive(t, n)
				}
			}
		}
	}
}

// TestSetOrder: however many batches are in flight, and in whichever order they
// are stored, the bytes are the same.
func TestSetOrder(t *testing.T) {
	guest := guestData(9<<20+512, 64<<10, mixed, 9)
	for _, kind := range setKinds {
		var first []byte
		for seed, inFlight := range []int{1, 3, 8} {
			for _, dense := range []bool{true, false} {
				extent := &recorder{}
				o := WriterOptions{Size: int64(len(guest)), Subformat: kind, Creator: given{extent, dense}}
				_, err := drive(&recorder{}, o, guest, inFlight, uint64(seed))
				require.NoError(t, err)
				require.Empty(t, extent.breaches)
				if dense {
					extent.whole(t)
				}
				if first == nil {
					first = extent.bytes
				}
				require.True(t, bytes.Equal(first, extent.bytes), "%v, %d in flight", kind, inFlight)
			}
		}
	}
}

// given is a Creator that has one output, in which zeros are left out unless
// it is dense.
type given struct {
	*recorder
	dense bool
}

func (g given) Create(string) (diskimage.Output, error) {
	if g.dense {
		return g.recorder, nil
	}
	return sparseRecorder{g.recorder}, nil
}

type sparseRecorder struct{ *recorder }

func (sparseRecorder) ZeroFilled() bool { return true }

func (r sparseRecorder) Truncate(size int64) error {
	if n := size - int64(len(r.bytes)); n > 0 {
		r.bytes = append(r.bytes, make([]byte, n)...)
	}
	r.bytes = r.bytes[:size]
	return nil
}

// TestSetFaults: a file that cannot be made, and a write that fails, is told,
// and then there is no descriptor.
func TestSetFaults(t *testing.T) {
	why := errors.New("no space")
	const size = splitBytes + 1<<20
	pieces := map[int64][]byte{0: {1}, splitBytes: {2}}
	for _, kind := range setKinds {
		o := WriterOptions{Size: size, Subformat: kind}
		names, err := ExtentNames(o)
		require.NoError(t, err)
		for _, name := range names {
			out := &recorder{}
			o.Creator = &tally{fail: name, refused: why}
			err := driveSparse(out, o, pieces)
			require.ErrorIs(t, err, why)
			require.ErrorContains(t, err, name)
			require.Zero(t, out.writes)
		}
		for at := 1; ; at++ {
			out := &recorder{}
			o.Creator = &tally{failAt: at, refused: why}
			err := driveSparse(out, o, pieces)
			if err == nil {
				require.Greater(t, at, 2)
				break
			}
			require.ErrorIs(t, err, why)
			require.Zero(t, out.writes, "there is a descriptor")
			if kind != TwoGbMaxExtentSparse {
				at += 500 // most are zeros
			}
		}
	}
}

// TestSetDataBeyondTheEnd is refused, not cut off.
func TestSetDataBeyondTheEnd(t *testing.T) {
	o := WriterOptions{Size: 512, Subformat: MonolithicFlat, Creator: &tally{}}
	require.NoError(t, driveSparse(discard{}, o, map[int64][]byte{0: make([]byte, 513)}))
	require.ErrorContains(t, driveSparse(discard{}, o, map[int64][]byte{0: bytes.Repeat([]byte{1}, 513)}), "beyond")
}
