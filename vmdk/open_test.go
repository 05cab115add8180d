package vmdk_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/internal/disktest"
	"github.com/diskimage-go/diskimage/internal/hostfile"
	"github.com/diskimage-go/diskimage/internal/imagetest"
	"github.com/diskimage-go/diskimage/internal/peer"
	"github.com/diskimage-go/diskimage/vmdk"
)

// dirOpener opens what images in a folder name.
type dirOpener string

func (dir dirOpener) OpenDisk(ctx context.Context, ref diskimage.Reference) (diskimage.VirtualDisk, error) {
	src, err := dir.OpenSource(ctx, ref)
	if err != nil {
		return nil, err
	}
	return vmdk.Open(ctx, src, vmdk.Options{Name: ref.Name, Opener: dir, Depth: ref.Depth})
}

func (dir dirOpener) OpenSource(_ context.Context, ref diskimage.Reference) (diskimage.Source, error) {
	return hostfile.Open(filepath.Join(string(dir), ref.Name))
}

// open opens an image file, and lets it open what lies beside it.
func open(t testing.TB, name string) *vmdk.Disk {
	t.Helper()
	src, err := hostfile.Open(name)
	require.NoError(t, err)
	d, err := vmdk.Open(t.Context(), src, vmdk.Options{Name: filepath.Base(name), Opener: dirOpener(filepath.Dir(name))})
	if err != nil {
		src.Close()
	}
	require.NoError(t, err)
	t.Cleanup(func() { d.Close() })
	return d
}

// digest returns the SHA-256 of the guest disk, read in its map's order: zeros
// and holes are believed.
func digest(t testing.TB, d diskimage.VirtualDisk) string {
	t.Helper()
	sum := sha256.New()
	buf := make([]byte, 1<<20)
	none := make([]byte, 1<<20)
	for e, err := range diskimage.Extents(d, 0, d.Size()) {
		require.NoError(t, err)
		for at := e.Off; at < e.End(); {
			p := buf[:min(int64(len(buf)), e.End()-at)]
			if e.IsZero() {
				sum.Write(none[:len(p)])
			} else {
				n, err := d.ReadAt(p, at)
				if err != io.EOF {
					require.NoError(t, err)
				}
				require.Equal(t, len(p), n)
				sum.Write(p)
			}
			at += int64(len(p))
		}
	}
	return hex.EncodeToString(sum.Sum(nil))
}

func TestSamples(t *testing.T) {
	dir := os.Getenv("DISKIMAGE_SAMPLES")
	if dir == "" {
		t.Skip("DISKIMAGE_SAMPLES is not set")
	}
	const vdiskmanager = "a3bcf05f07a1c06a3380eeca8571f0efb2b85afafa1e21662b8cad436d1f7727"
	for _, c := range []struct {
		file    string
		size    int64
		content string // "": all zeros
		kind    string
	}{
		{"monolithicSparse.vmdk", 10485760, vdiskmanager, "monolithicSparse"},
		{"twoGbMaxExtentSparse.vmdk", 10485760, vdiskmanager, "twoGbMaxExtentSparse"},
		{"streamOptimized.vmdk", 10485760, vdiskmanager, "streamOptimized"},
		{"ubuntu.2.0-disk1.vmdk", 8589934592, "", "streamOptimized"},
		{"iotest-version3.vmdk", 17179869184, "-", "streamOptimized"},
	} {
		t.Run(c.file, func(t *testing.T) {
			d := open(t, filepath.Join(dir, c.file))
			require.Equal(t, c.size, d.Size())
			require.Equal(t, c.kind, d.Info().CreateType)
			require.Empty(t, d.Notes())
			require.NoError(t, d.CheckMap())
			switch c.content {
			case "":
				e, err := d.NextExtent(0)
				require.NoError(t, err)
				require.Equal(t, diskimage.Extent{Len: c.size, Kind: diskimage.Hole, Depth: 1, Host: -1}, e)
			case "-":
				checkVersion3(t, d)
			default:
				require.Equal(t, c.content, digest(t, d))
				p := make([]byte, d.Size())
				_, err := d.ReadAt(p, 0)
				require.NoError(t, err)
				disktest.Conform(t, d, p)
			}
		})
	}
	for file, kind := range map[string]diskimage.ErrorKind{
		"aws-export-header-only.vmdk":    diskimage.ErrTruncated,
		"afl9.vmdk":                      diskimage.ErrCorrupt,
		"twoGbMaxExtentSparse-s001.vmdk": diskimage.ErrUnsupported,
	} {
		src, err := hostfile.Open(filepath.Join(dir, file))
		require.NoError(t, err)
		defer src.Close()
		_, err = vmdk.Open(t.Context(), src, vmdk.Options{})
		require.ErrorIs(t, err, kind, file)
		t.Log(err)
	}
}

// checkVersion3 holds the one sample that is too large to be read whole against
// its pattern: 100 sectors of digits each 655,872 bytes, and then one each
// 655,872 sectors.
func checkVersion3(t *testing.T, d *vmdk.Disk) {
	const step = 655872
	n := int64(0)
	for e, err := range diskimage.Extents(d, 0, d.Size()) {
		require.NoError(t, err)
		if e.IsZero() {
			continue
		}
		at, digit := n*step, n
		if n >= 100 {
			digit = n - 99
			at = digit * step * 512
		}
		require.Equal(t, at&^(64<<10-1), e.Off)
		want, p := make([]byte, e.Len), make([]byte, e.Len)
		copy(want[at-e.Off:], bytes.Repeat([]byte{byte(digit%10) + '0'}, 512))
		_, err := d.ReadAt(p, e.Off)
		require.NoError(t, err)
		require.True(t, bytes.Equal(want, p), "%d", at)
		n++
	}
	require.EqualValues(t, 151, n)
}

// TestKindsOfPeer reads every kind that qemu-img writes.
func TestKindsOfPeer(t *testing.T) {
	peer.Find(t, "qemu-img")
	rnd := rand.New(rand.NewPCG(7, 7))
	for _, size := range []int64{4<<20 + 512, 1 << 20} {
		disk := make([]byte, size)
		for off := int64(0); off < size; off += 64 << 10 {
			end := min(off+64<<10, size)
			switch rnd.IntN(4) {
			case 0, 1:
			case 2: // what compresses
				for i := off; i < end; i++ {
					disk[i] = byte(i>>8) | byte(rnd.IntN(2))
				}
			default:
				for i := off; i < end; i++ {
					disk[i] = byte(rnd.Uint32())
				}
			}
		}
		disk[size-1] = 1
		for _, options := range []string{
			"subformat=monolithicSparse", "subformat=monolithicSparse,zeroed_grain=on", "subformat=monolithicSparse,compat6",
			"subformat=monolithicFlat", "subformat=twoGbMaxExtentSparse", "subformat=twoGbMaxExtentFlat", "subformat=streamOptimized",
			"subformat=streamOptimized,adapter_type=lsilogic",
		} {
			t.Run(fmt.Sprintf("%s of %d", options, size), func(t *testing.T) {
				t.Parallel()
				dir := t.TempDir()
				raw, image := filepath.Join(dir, "raw"), filepath.Join(dir, "disk.vmdk")
				require.NoError(t, os.WriteFile(raw, disk, 0o666))
				peer.Run(t, "qemu-img", "convert", "-f", "raw", "-O", "vmdk", "-o", options, raw, image)
				d := open(t, image)
				require.NoError(t, d.CheckMap())
				require.Empty(t, d.Notes())
				disktest.ConformHost(t, d, disk, func(depth, file int) io.ReaderAt {
					require.Zero(t, depth)
					name := "disk.vmdk"
					if file > 0 {
						name = d.FileName(file)
					}
					f, err := os.Open(filepath.Join(dir, name))
					require.NoError(t, err)
					t.Cleanup(func() { f.Close() })
					return f
				})
			})
		}
	}
}

func TestShapes(t *testing.T) {
	for name, v := range imagetest.VMDKShapes() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := v.Build()
			d, err := vmdk.Open(t.Context(), imagetest.Source(m.Bytes), vmdk.Options{})
			require.NoError(t, err)
			require.NoError(t, d.CheckMap())
			if len(m.Guest) > 4<<20 || disktest.Race && len(m.Guest) > 1<<20 { // the laws are held by the others
				p := make([]byte, len(m.Guest))
				_, err := d.ReadAt(p, 0)
				require.NoError(t, err)
				require.True(t, bytes.Equal(m.Guest, p))
				disktest.Walk(t, d)
				return
			}
			disktest.ConformHost(t, d, m.Guest, func(int, int) io.ReaderAt { return imagetest.Source(m.Bytes) })
		})
	}
}
