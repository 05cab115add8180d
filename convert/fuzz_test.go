package convert

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/internal/disktest"
	"github.com/diskimage-go/diskimage/internal/imagetest"
	"github.com/diskimage-go/diskimage/internal/zero"
	"github.com/diskimage-go/diskimage/qcow2"
	"github.com/diskimage-go/diskimage/vhd"
	"github.com/diskimage-go/diskimage/vmdk"
)

// fuzzTargets are what an image is converted to.
var fuzzTargets = []Options{
	{Format: QCOW2},
	{Format: QCOW2, QCOW2: qcow2.WriterOptions{Compression: diskimage.Deflate}},
	{Format: QCOW2, QCOW2: qcow2.WriterOptions{Compression: diskimage.Zstd, ClusterSize: 4096}},
	{Format: Raw},
	{Format: VMDK, VMDK: vmdk.WriterOptions{FileName: "disk.vmdk"}},
	{Format: VMDK, VMDK: vmdk.WriterOptions{FileName: "disk.vmdk", Subformat: vmdk.StreamOptimized}},
	{Format: VHD, VHD: vhd.WriterOptions{BlockSize: 64 << 10}},
	{Format: QCOW2, AllocateZeros: true},
}

// most is what a fuzzed disk may have.
const most = 4 << 20

// fuzzSeeds returns the images of all hostile cases, sound ones of all shapes,
// and those that are shipped, as far as they are small.
func fuzzSeeds(t testing.TB) (all [][]byte) {
	add := func(p []byte) {
		if len(p) <= 600<<10 {
			all = append(all, p)
		}
	}
	for _, cases := range [][]imagetest.Case{imagetest.QCOW2Cases(), imagetest.VMDKCases(), imagetest.VHDCases(), imagetest.OVACases()} {
		for _, c := range cases {
			add(c.Build())
		}
	}
	for _, q := range imagetest.Shapes() {
		add(q.Build().Bytes)
	}
	for _, v := range imagetest.VMDKShapes() {
		add(v.Build().Bytes)
	}
	files, err := filepath.Glob("../testdata/*.gz")
	require.NoError(t, err)
	for _, name := range files {
		p, err := os.ReadFile(name)
		require.NoError(t, err)
		z, err := gzip.NewReader(bytes.NewReader(p))
		require.NoError(t, err)
		p, err = io.ReadAll(io.LimitReader(z, 1<<20))
		require.NoError(t, err)
		add(p)
	}
	return all
}

// FuzzConvert holds that an image, whatever it is, is refused or converted, to
// the same bytes by any number of workers, and that these hold what reading it
// gives; and that its extents tell no lies about that.
func FuzzConvert(f *testing.F) {
	for i, p := range fuzzSeeds(f) {
		if !testing.Short() || i%32 == 0 {
			f.Add(p, byte(i))
		}
	}
	f.Fuzz(func(t *testing.T, file []byte, choice byte) {
		d, err := Open(t.Context(), source(file), OpenOptions{MaxVirtualSize: most})
		if err != nil {
			return
		}
		defer d.Close()
		guest, readErr := io.ReadAll(io.NewSectionReader(d, 0, d.Size()))
		if readErr == nil {
			require.NoError(t, checkZeros(d, guest))
		}
		o := fuzzTargets[int(choice)%len(fuzzTargets)]
		var first *memOutput
		var firstErr error
		for _, workers := range []int{1, 2, 8} {
			out := new(memOutput)
			o.Workers, o.Verify = workers, workers == 1 && choice >= 128
			_, err := ToOutput(t.Context(), out, d, o)
			switch {
			case first == nil:
				first, firstErr = out, err
			case (err == nil) != (firstErr == nil):
				t.Fatalf("%d workers: %v; one: %v", workers, err, firstErr)
			case err == nil && !bytes.Equal(first.data, out.data):
				t.Fatalf("%d workers write other bytes than one", workers)
			case d.Size() <= diskimage.BatchSize && kindOf(err) != kindOf(firstErr): // else who is first is open
				t.Fatalf("%d workers: %v; one: %v", workers, err, firstErr)
			}
		}
		if firstErr != nil {
			return
		}
		if readErr != nil {
			t.Fatalf("it was converted, and cannot be read: %v", readErr)
		}
		if got := readBack(t, first, o.Format); !bytes.Equal(got[:len(guest)], guest) || !zero.Is(got[len(guest):]) {
			t.Fatal("what was written reads otherwise than the source")
		}
	})
}

// checkZeros holds the extents' laws, and what they say of zeros.
func checkZeros(d diskimage.VirtualDisk, guest []byte) error {
	if err := disktest.TryWalk(d); err != nil {
		return err
	}
	for e, err := range diskimage.Extents(d, 0, d.Size()) {
		if err == nil && e.IsZero() && !zero.Is(guest[e.Off:e.End()]) {
			err = errors.New("what its map tells to be zeros reads otherwise")
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func kindOf(err error) (kind diskimage.ErrorKind) {
	if e := (*diskimage.Error)(nil); errors.As(err, &e) {
		kind = e.Kind
	}
	return kind
}

func readBack(t *testing.T, out *memOutput, f Format) []byte {
	d, err := Open(t.Context(), diskimage.NewSource(out, out.Size()), OpenOptions{Format: f, RawAnyway: true})
	require.NoError(t, err)
	p, err := io.ReadAll(io.NewSectionReader(d, 0, d.Size()))
	require.NoError(t, err)
	return p
}
