package convert

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/internal/disktest"
	"github.com/diskimage-go/diskimage/internal/imagetest"
	"github.com/diskimage-go/diskimage/raw"
)

// rawInside takes whatever is in a package for a raw disk.
func rawInside(_ context.Context, r io.Reader, size int64, _ OpenOptions) (diskimage.Stream, error) {
	return raw.NewStream(r, size), nil
}

// TestPackageStream holds that a disk in a package comes out of a pipe as it
// went in, compressed or not, wherever the manifest is.
func TestPackageStream(t *testing.T) {
	content := mixedContent(40)
	for _, digest := range []string{"", "SHA1", "SHA256", "SHA512"} {
		if testing.Short() && digest != "SHA256" {
			continue
		}
		for _, last := range []bool{false, true} {
			for _, zipped := range []bool{false, true} {
				o := imagetest.OVA{Digest: digest, ManifestLast: last, Disks: []imagetest.PackedDisk{
					{Name: "first.img", Data: []byte("x"), URI: imagetest.URIRaw, Capacity: 1},
					{Name: "disk.img", Data: content, URI: imagetest.URIRaw, Capacity: int64(len(content)), Gzip: zipped},
					{Name: "last.img", Data: []byte("x"), URI: imagetest.URIRaw, Capacity: 1},
				}}
				file := o.Build()
				s, err := openPackageStream(t.Context(), bytes.NewReader(file), OpenOptions{Member: "disk.img"}, rawInside)
				require.NoError(t, err)
				target := filepath.Join(t.TempDir(), "target")
				r, err := StreamToFile(t.Context(), target, s, Options{})
				require.NoError(t, err)
				require.Equal(t, digest == "", len(r.Notes) > 0, r.Notes)
				got, err := os.ReadFile(target)
				require.NoError(t, err)
				require.True(t, bytes.Equal(content, got))
			}
		}
	}
}

// TestDamagedPackageStream holds that what is wrong behind the disk keeps the
// target from appearing too.
func TestDamagedPackageStream(t *testing.T) {
	content := mixedContent(20)
	o := imagetest.OVA{Digest: "SHA1", ManifestLast: true, Disks: []imagetest.PackedDisk{
		{Name: "disk.img", Data: content, URI: imagetest.URIRaw, Capacity: int64(len(content))},
		{Name: "zipped.img", Data: content, URI: imagetest.URIRaw, Capacity: int64(len(content)), Gzip: true},
	}}
	file := o.Build()
	convert := func(file []byte, which string, salvage bool) (*Report, error) {
		s, err := openPackageStream(t.Context(), bytes.NewReader(file), OpenOptions{Member: which, Salvage: salvage}, rawInside)
		if err != nil {
			return nil, err
		}
		target := filepath.Join(t.TempDir(), "target")
		r, err := StreamToFile(t.Context(), target, s, Options{})
		if err != nil {
			require.NoFileExists(t, target)
		}
		return r, err
	}
	for _, which := range []string{"1", "2"} {
		_, err := convert(file, which, false)
		require.NoError(t, err)
		for n := 0; n < len(file)-512; n += 50021 {
			_, err := convert(file[:n], which, false)
			require.ErrorIs(t, err, diskimage.ErrTruncated, n)
		}
		_, err = convert(file[:len(file)-600], which, false)
		require.ErrorIs(t, err, diskimage.ErrTruncated)
	}
	bad := bytes.Clone(file)
	bad[bytes.Index(bad, content[:64])+1000] ^= 1
	for _, which := range []string{"1", "2"} { // the other disk has come by too
		_, err := convert(bad, which, false)
		require.ErrorIs(t, err, diskimage.ErrCorrupt)
		require.ErrorContains(t, err, `member "disk.img"`)
		r, err := convert(bad, which, true)
		require.NoError(t, err)
		require.Contains(t, fmt.Sprint(r.Notes), "its SHA1 digest is")
	}
	zip := imagetest.Gzip(content)
	bad = bytes.Clone(file)
	bad[bytes.Index(bad, zip)+len(zip)-6] ^= 1 // of the checksum
	_, err := convert(bad, "2", true)
	require.ErrorIs(t, err, diskimage.ErrCorrupt)
	require.ErrorContains(t, err, "gzip")
}

// TestGzipBomb unpacks no more than the disk can take.
func TestGzipBomb(t *testing.T) {
	if testing.Short() {
		t.Skip("80 MiB")
	}
	o := imagetest.OVA{Disks: []imagetest.PackedDisk{{Name: "bomb.img", Data: make([]byte, 80<<20), URI: imagetest.URIRaw, Capacity: 1 << 20, Gzip: true}}}
	file := o.Build()
	require.Less(t, len(file), 1<<20)
	s, err := openPackageStream(t.Context(), bytes.NewReader(file), OpenOptions{}, rawInside)
	require.NoError(t, err)
	_, err = StreamToFile(t.Context(), filepath.Join(t.TempDir(), "target"), s, Options{})
	require.ErrorIs(t, err, diskimage.ErrLimit)
}

// TestPackageMemory holds that neither the length of a package nor what its
// descriptor says takes memory.
func TestPackageMemory(t *testing.T) {
	disktest.Alone(t)
	for _, c := range imagetest.OVACases() {
		file := c.Build()
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		if d, err := Open(t.Context(), source(file), OpenOptions{}); err == nil {
			d.Close()
		}
		if s, err := openPackageStream(t.Context(), bytes.NewReader(file), OpenOptions{}, rawInside); err == nil {
			for err == nil {
				_, err = s.NextBlock(make([]byte, 4096))
			}
		}
		runtime.ReadMemStats(&after)
		require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(48<<20), c.Name)
	}
}
