package convert

import (
	"bytes"
	"io"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/internal/imagetest"
)

// A farFile records what it is told to fetch and what is read of it.
type farFile struct {
	diskimage.Source
	mu    sync.Mutex
	hints []Range
	reads []Range
}

func (f *farFile) Prefetch(off, n int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.hints = append(f.hints, Range{off, n})
}

func (f *farFile) ReadAt(p []byte, off int64) (int, error) {
	f.mu.Lock()
	f.reads = append(f.reads, Range{off, int64(len(p))})
	f.mu.Unlock()
	return f.Source.ReadAt(p, off)
}

// covered returns a 1 for each byte that is in one of the ranges.
func covered(size int64, ranges []Range) []byte {
	all := make([]byte, size)
	for _, r := range ranges {
		copy(all[min(r.Off, size):], bytes.Repeat([]byte{1}, int(r.Len)))
	}
	return all
}

// TestPrefetch: what is far away is asked for before it is read, all of it and
// next to nothing else.
func TestPrefetch(t *testing.T) {
	exported := imagetest.VMDKShapes()["exported-128"].Build()
	var qcow2 *imagetest.Image
	for _, q := range imagetest.Shapes() {
		if m := q.Build(); !q.ExtendedL2 && slices.ContainsFunc(q.Clusters, func(c imagetest.Cluster) bool { return c.Kind == imagetest.Packed }) {
			qcow2 = m
		}
	}
	require.NotNil(t, qcow2)
	rawDisk := bytes.Repeat([]byte("raw\x01"), 1<<20)
	packed := imagetest.OVA{Digest: "", Disks: []imagetest.PackedDisk{
		{Name: "disk.vmdk", Data: exported.Bytes, URI: imagetest.URIStream, Capacity: int64(len(exported.Guest))}}}.Build()
	for name, image := range map[string]struct{ file, guest []byte }{
		"raw": {rawDisk, rawDisk}, "vmdk": {exported.Bytes, exported.Guest}, "qcow2": {qcow2.Bytes, qcow2.Guest}, "ova": {packed, exported.Guest},
	} {
		for _, workers := range []int{1, 4} {
			f := &farFile{Source: imagetest.Source(image.file)}
			d, err := Open(t.Context(), f, OpenOptions{})
			require.NoError(t, err)
			opened := len(f.reads)
			var out bytes.Buffer
			_, err = ToWriter(t.Context(), &out, d, Options{Workers: workers})
			require.NoError(t, err)
			require.True(t, bytes.Equal(image.guest, out.Bytes()), name)
			require.NotEmpty(t, f.hints, name)
			size := int64(len(image.file))
			hinted, read := covered(size, f.hints), covered(size, f.reads[opened:])
			unread := 0
			for i := range hinted {
				unread += int(hinted[i] &^ read[i])
			}
			require.Less(t, unread, 70<<10, "%s: asked for and not read", name) // the last grain's slack

			f.hints = nil
			same, err := Compare(t.Context(), d, d, CompareOptions{})
			require.NoError(t, err)
			require.True(t, same.Identical)
			require.NotEmpty(t, f.hints)
		}
	}
}

// TestMapReader: whatever it reads ahead, it returns what the disk says, in
// order or not, and stays in its bounds.
func TestMapReader(t *testing.T) {
	m := imagetest.VMDKShapes()["exported-128"].Build()
	f := &farFile{Source: imagetest.Source(m.Bytes)}
	d, err := Open(t.Context(), f, OpenOptions{})
	require.NoError(t, err)
	r := mapReader{disk: d, wanted: func(diskimage.Extent) bool { return true }}
	for range 2 {
		for off := int64(0); off < d.Size(); {
			want, err := d.NextExtent(off)
			require.NoError(t, err)
			got, err := r.next(off)
			require.NoError(t, err)
			require.Equal(t, want, got)
			off = got.End()
			require.Less(t, r.ahead, int64(aheadBytes+1<<20))
		}
		_, err = r.next(d.Size())
		require.Equal(t, io.EOF, err)
	}
}

// TestMapReaderAllocatesNothing: where nothing is far away each extent takes the
// place of the one before.
func TestMapReaderAllocatesNothing(t *testing.T) {
	d := patchworkDisk(3, 8<<20)
	r := mapReader{disk: d, wanted: func(diskimage.Extent) bool { return true }}
	walk := func() {
		for off := int64(0); off < d.Size(); {
			e, err := r.next(off)
			require.NoError(t, err)
			off = e.End()
		}
	}
	walk()
	require.LessOrEqual(t, cap(r.queue), 1)
	require.Zero(t, testing.AllocsPerRun(3, walk))
}
