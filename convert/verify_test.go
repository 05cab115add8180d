package convert

import (
	"bytes"
	"context"
	"io"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage/internal/disktest"
	"github.com/diskimage-go/diskimage/vhd"
	"github.com/diskimage-go/diskimage/vmdk"
)

// What the map of the output's file tells to be a hole is not read back: of a
// disk of 256 GiB with two sectors of data that would take minutes.
func TestHolesAreVerifiedByTheMap(t *testing.T) {
	disktest.Alone(t)
	if runtime.GOOS == "windows" {
		t.Skip("files do not tell their holes there")
	}
	d := &spotDisk{size: 256 << 30, spots: []int64{1 << 20, 200 << 30}}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for _, o := range []Options{{}, {Format: QCOW2}, {Format: VHD, VHD: vhd.WriterOptions{Type: vhd.Fixed}}, toVMDK(vmdk.MonolithicFlat)} {
		o.Verify = true
		rep, err := ToFile(ctx, filepath.Join(t.TempDir(), "disk.vmdk"), d, o)
		require.NoError(t, err, o.Format)
		require.True(t, rep.Verified)
	}
}

// meaningless says of each kind of target which bits may change with no change
// to the guest's disk; that they did is then not found. Of all other kinds every
// bit is looked at: what the image begins and is closed with, unused entries and
// padding among it, is read back byte for byte.
var meaningless = map[string]string{
	"qcow2 2M":        behindTheEnd,
	"qcow2 allocated": behindTheEnd,
	"qcow2 deflate":   "behind the last compressed cluster, in the host cluster that it ends in; " + otherStream,
	"qcow2 zstd":      "the same",
	"qcow2 zstd 4k":   "the same",
	"vmdk allocated":  behindTheEnd,
	"vmdk stream":     "between a compressed grain and the next sector; " + otherStream,
	"vmdk stream all": "the same",
	"vpc":             "a sector bitmap's bits behind the block's last sector; " + behindTheEnd,
	"vpc allocated":   "the same",
	"vpc 4k":          "the same",
}

const (
	behindTheEnd = "what lies behind the disk's end in its last cluster, grain or block"
	otherStream  = "in a compressed stream what makes it another one of the same bytes: lengths of codes that do not occur"
)

// A bit that flips after it was written is found, wherever it is: in headers,
// tables and descriptors, data and compressed streams, or it is none that has a
// meaning.
func TestVerifyFindsFlippedBits(t *testing.T) {
	disktest.Alone(t)
	d := patchworkDisk(77, 300<<10)
	for name, o := range limitTargets() {
		t.Run(name, func(t *testing.T) {
			files := &memFiles{files: map[string]*memOutput{}}
			o.Verify, o.Workers = true, 1
			if o.several() {
				o.VMDK.Creator = files
			}
			r, err := newRun(d, nil, o)
			require.NoError(t, err)
			require.NoError(t, r.check())
			out := new(memOutput)
			image, unit, err := r.write(t.Context(), out, false)
			require.NoError(t, err)
			require.NoError(t, r.verify(t.Context(), image, unit))
			files.files[""] = out
			for file, f := range files.files {
				found := 0
				for _, at := range flips(f.data) {
					was := f.data[at]
					f.data[at] ^= 1 << (at % 8)
					if err := r.verify(t.Context(), image, unit); err != nil {
						found++
					} else {
						require.NotEmpty(t, meaningless[name], "%s: bit %d of byte %#x was not found", file, at%8, at)
						require.True(t, bytes.Equal(d.content, contentOf(t, image, o)), "%s: bit %d of byte %#x changes the disk and was not found", file, at%8, at)
					}
					f.data[at] = was
				}
				require.Positive(t, found, file)
			}
		})
	}
}

// flips returns bytes of a file to flip a bit in: some of its zeros, some of the
// others, and of these the first and the last, which are in headers and tables.
func flips(file []byte) []int {
	var zeros, others []int
	for at, c := range file {
		if c == 0 {
			zeros = append(zeros, at)
		} else {
			others = append(others, at)
		}
	}
	n := 40
	if len(file) > 1<<20 {
		n = 12 // reading it back takes long
	}
	all := append(slices.Clip(others[:min(n, len(others))]), others[max(len(others)-n, 0):]...)
	for i := 0; i < len(others); i += len(others)/n + 1 {
		all = append(all, others[i])
	}
	for i := 0; i < len(zeros); i += len(zeros)/n + 1 {
		all = append(all, zeros[i])
	}
	return all
}

// contentOf returns the guest disk of what was written.
func contentOf(t *testing.T, image *written, o Options) []byte {
	t.Helper()
	src, err := image.source()
	require.NoError(t, err)
	d, err := Open(t.Context(), src, OpenOptions{Format: o.Format, RawAnyway: true, Opener: image})
	require.NoError(t, err)
	p, err := io.ReadAll(io.NewSectionReader(d, 0, d.Size()))
	require.NoError(t, err)
	return p
}
