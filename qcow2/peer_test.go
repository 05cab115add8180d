package qcow2_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/internal/disktest"
	"github.com/diskimage-go/diskimage/internal/hostfile"
	"github.com/diskimage-go/diskimage/internal/peer"
	"github.com/diskimage-go/diskimage/qcow2"
)

// dirOpener opens what images in a folder name, raw where they say so.
type dirOpener string

func (dir dirOpener) OpenDisk(ctx context.Context, ref diskimage.Reference) (diskimage.VirtualDisk, error) {
	src, err := dir.OpenSource(ctx, ref)
	if err != nil {
		return nil, err
	}
	if ref.Format == "raw" {
		return rawDisk{src}, nil
	}
	return qcow2.Open(ctx, src, qcow2.Options{Name: ref.Name, Opener: dir, Depth: ref.Depth})
}

func (dir dirOpener) OpenSource(_ context.Context, ref diskimage.Reference) (diskimage.Source, error) {
	return hostfile.Open(filepath.Join(string(dir), ref.Name))
}

// A rawDisk is a source as a disk.
type rawDisk struct{ diskimage.Source }

func (d rawDisk) NextExtent(off int64) (diskimage.Extent, error) {
	switch {
	case off == d.Size():
		return diskimage.Extent{}, io.EOF
	case off < 0 || off > d.Size():
		return diskimage.Extent{}, io.ErrUnexpectedEOF
	}
	return diskimage.Extent{Off: off, Len: d.Size() - off, Host: off}, nil
}

func (d rawDisk) Close() error { return d.Source.(io.Closer).Close() }

func open(t testing.TB, name string, o qcow2.Options) *qcow2.Disk {
	t.Helper()
	src, err := hostfile.Open(name)
	require.NoError(t, err)
	o.Name = name
	if o.Opener == nil {
		o.Opener = dirOpener(filepath.Dir(name))
	}
	d, err := qcow2.Open(t.Context(), src, o)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, d.Close()) })
	return d
}

// A span is a range of guest bytes that are alike, as qemu-img map prints it.
type span struct {
	Start   int64  `json:"start"`
	Length  int64  `json:"length"`
	Depth   int    `json:"depth"`
	Present bool   `json:"present"`
	Zero    bool   `json:"zero"`
	Data    bool   `json:"data"`
	Offset  *int64 `json:"offset,omitempty"`
}

func spanOf(e diskimage.Extent) span {
	s := span{Start: e.Off, Length: e.Len, Depth: e.Depth, Present: true, Zero: e.Kind != diskimage.Data, Data: e.Kind == diskimage.Data}
	if e.Kind == diskimage.Hole {
		s.Present = false
		s.Depth--
	}
	if e.Host >= 0 && e.Stored == diskimage.Plain {
		s.Offset = &e.Host
	}
	return s
}

func (s span) continues(next span) bool {
	if s.Depth != next.Depth || s.Present != next.Present || s.Zero != next.Zero || s.Data != next.Data {
		return false
	}
	if s.Offset == nil || next.Offset == nil {
		return s.Offset == next.Offset
	}
	return *s.Offset+s.Length == *next.Offset
}

// merged joins neighbours that are alike.
func merged(all []span) []span {
	var out []span
	for _, s := range all {
		if n := len(out); n > 0 && out[n-1].continues(s) {
			out[n-1].Length += s.Length
		} else {
			out = append(out, s)
		}
	}
	return out
}

// normal leaves out what an extent cannot say: that stored data lies in a hole
// of the file (which is how qemu-img has preallocation=metadata).
func (s span) normal() span {
	s.Zero = !s.Data
	return s
}

// requireLikePeer holds a disk's bytes and map against what qemu-img says of
// the file.
func requireLikePeer(t *testing.T, name string) {
	t.Helper()
	d := open(t, name, qcow2.Options{})
	raw := filepath.Join(t.TempDir(), "raw")
	peer.Run(t, "qemu-img", "convert", "-f", "qcow2", "-O", "raw", name, raw)
	want, err := os.ReadFile(raw)
	require.NoError(t, err)
	disktest.Conform(t, d, want[:d.Size()])

	var theirs, ours []span
	require.NoError(t, json.Unmarshal([]byte(peer.Run(t, "qemu-img", "map", "--output=json", "-f", "qcow2", name)), &theirs))
	for _, e := range disktest.Walk(t, d) {
		ours = append(ours, spanOf(e))
	}
	for i := range theirs {
		theirs[i] = theirs[i].normal()
	}
	require.Equal(t, merged(theirs), merged(ours))
}

// guestFile writes a raw file of size bytes: text, noise, zeros and holes.
func guestFile(t testing.TB, name string, size int64) {
	t.Helper()
	f, err := os.Create(name)
	require.NoError(t, err)
	defer f.Close()
	require.NoError(t, f.Truncate(size))
	rnd := rand.New(rand.NewPCG(uint64(size), 7))
	line := []byte("the quick brown fox jumps over the lazy dog 0123456789\n")
	for off := int64(0); off < size; {
		n := min(size-off, 1+rnd.Int64N(150_000))
		p := make([]byte, n)
		switch rnd.IntN(4) {
		case 0:
			for i := range p {
				p[i] = byte(rnd.Uint32())
			}
		case 1, 2:
			copy(p, bytes.Repeat(line[rnd.IntN(20):], int(n)/30+1))
		}
		if rnd.IntN(4) > 0 {
			_, err := f.WriteAt(p, off)
			require.NoError(t, err)
		}
		off += n
	}
}

// TestOptionsOfPeer reads what qemu-img writes, with each of its options.
func TestOptionsOfPeer(t *testing.T) {
	dir := t.TempDir()
	small, large := filepath.Join(dir, "small.raw"), filepath.Join(dir, "large.raw")
	guestFile(t, small, 300<<10+5*512)
	guestFile(t, large, 3<<20+5*512)
	for _, c := range []struct {
		name string
		in   string
		args []string
	}{
		{"default", large, nil},
		{"v2", large, []string{"-o", "compat=0.10"}},
		{"v2-512", small, []string{"-o", "compat=0.10,cluster_size=512"}},
		{"v2-compressed", large, []string{"-c", "-o", "compat=0.10"}},
		{"512", small, []string{"-o", "cluster_size=512"}},
		{"4k", large, []string{"-o", "cluster_size=4k"}},
		{"2M", large, []string{"-o", "cluster_size=2M"}},
		{"refcount1", small, []string{"-o", "refcount_bits=1"}},
		{"refcount64", small, []string{"-o", "refcount_bits=64"}},
		{"lazy", small, []string{"-o", "lazy_refcounts=on"}},
		{"extended", large, []string{"-o", "extended_l2=on"}},
		{"extended-16k", large, []string{"-o", "extended_l2=on,cluster_size=16k"}},
		{"extended-2M", large, []string{"-o", "extended_l2=on,cluster_size=2M"}},
		{"zlib-512", small, []string{"-c", "-o", "cluster_size=512"}},
		{"zlib-4k", small, []string{"-c", "-o", "cluster_size=4k"}},
		{"zlib-64k", large, []string{"-c"}},
		{"zlib-2M", large, []string{"-c", "-o", "cluster_size=2M"}},
		{"zlib-refcount1", small, []string{"-c", "-o", "refcount_bits=1"}},
		{"zlib-extended", large, []string{"-c", "-o", "extended_l2=on"}},
		{"zstd-512", small, []string{"-c", "-o", "compression_type=zstd,cluster_size=512"}},
		{"zstd-64k", large, []string{"-c", "-o", "compression_type=zstd"}},
		{"zstd-2M", large, []string{"-c", "-o", "compression_type=zstd,cluster_size=2M"}},
		{"preallocated-metadata", small, []string{"-o", "preallocation=metadata"}},
		{"preallocated-full", small, []string{"-o", "preallocation=full"}},
		{"unsparse", small, []string{"-S", "0"}},
		{"data-file", large, []string{"-o", "data_file=a.data"}},
		{"data-file-raw", large, []string{"-o", "data_file=b.data,data_file_raw=on"}},
		{"data-file-extended", large, []string{"-o", "data_file=c.data,extended_l2=on"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Chdir(dir) // where the data files are made
			name := filepath.Join(dir, c.name+".qcow2")
			peer.Run(t, "qemu-img", append(append([]string{"convert", "-q", "-O", "qcow2"}, c.args...), c.in, name)...)
			requireLikePeer(t, name)
		})
	}
}

// TestGuestsOfPeer reads what a guest wrote through qemu-io: over backing
// images of other formats, cluster sizes and lengths, zeros over data,
// discarded clusters, subclusters.
func TestGuestsOfPeer(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	guestFile(t, "base.raw", 1<<20)
	b, err := os.ReadFile("base.raw")
	require.NoError(t, err)
	for off := 0; off < len(b); off += 4096 {
		b[off] |= 1 // no zeros that the file system might tell of
	}
	require.NoError(t, os.WriteFile("base.raw", b, 0o600))
	peer.Run(t, "qemu-img", "convert", "-q", "-c", "-O", "qcow2", "-o", "cluster_size=4k", "base.raw", "base.qcow2")
	peer.Run(t, "qemu-img", "create", "-q", "-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", "-o", "cluster_size=2M", "middle.qcow2", "1500k")
	peer.Run(t, "qemu-io", "-f", "qcow2", "-t", "unsafe", "-c", "write -P 77 1100k 64k", "-c", "write -z 100k 20k", "middle.qcow2")

	writes := []string{"-c", "write -P 17 0 300", "-c", "write -P 18 70k 1k", "-c", "write -z 200k 64k", "-c", "write -z 300k 3k",
		"-c", "write -P 19 400k 200k", "-c", "write -z -u 448k 64k", "-c", "discard 512k 64k", "-c", "write -P 20 1000k 100k"}
	for _, c := range []struct {
		name, backing, format, size string
		options                     string
	}{
		{"alone", "", "", "1200k", "cluster_size=64k"},
		{"v2", "", "", "1200k", "compat=0.10"},
		{"alone-extended", "", "", "1200k", "extended_l2=on,cluster_size=32k"},
		{"on-raw", "base.raw", "raw", "1M", "cluster_size=64k"},
		{"on-raw-longer", "base.raw", "raw", "1300k", "cluster_size=4k"},
		{"on-raw-shorter", "base.raw", "raw", "700k", "cluster_size=512"},
		{"on-qcow2", "base.qcow2", "qcow2", "1M", "cluster_size=64k"},
		{"on-qcow2-longer", "base.qcow2", "qcow2", "1300k", "cluster_size=2M"},
		{"on-chain", "middle.qcow2", "qcow2", "2M", "cluster_size=64k"},
		{"on-chain-extended", "middle.qcow2", "qcow2", "2M", "extended_l2=on"},
		{"on-chain-v2", "middle.qcow2", "qcow2", "1200k", "compat=0.10,cluster_size=1k"},
	} {
		t.Run(c.name, func(t *testing.T) {
			name := c.name + ".qcow2"
			args := []string{"create", "-q", "-f", "qcow2", "-o", c.options}
			if c.backing != "" {
				args = append(args, "-b", c.backing, "-F", c.format)
			}
			peer.Run(t, "qemu-img", append(args, name, c.size)...)
			peer.Try(t, "qemu-io", append([]string{"-f", "qcow2", "-t", "unsafe", name}, writes...)...) // some are beyond the shorter disks
			requireLikePeer(t, filepath.Join(dir, name))
		})
	}
}

// TestSnapshotsOfPeer reads internal snapshots, one of a disk that was smaller.
func TestSnapshotsOfPeer(t *testing.T) {
	for _, options := range []string{"cluster_size=64k", "cluster_size=4k,extended_l2=off,compat=0.10", "extended_l2=on"} {
		t.Run(options, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			name := filepath.Join(dir, "a.qcow2")
			peer.Run(t, "qemu-img", "create", "-q", "-f", "qcow2", "-o", options, name, "1M")
			peer.Run(t, "qemu-io", "-f", "qcow2", "-t", "unsafe", "-c", "write -P 1 0 600k", name)
			peer.Run(t, "qemu-img", "snapshot", "-c", "first", name)
			peer.Run(t, "qemu-io", "-f", "qcow2", "-t", "unsafe", "-c", "write -P 2 100k 100k", "-c", "discard 0 64k", name)
			if !strings.Contains(options, "0.10") { // which cannot be resized then
				peer.Run(t, "qemu-img", "resize", "-q", name, "2M")
			}
			peer.Run(t, "qemu-img", "snapshot", "-c", "second", name)
			peer.Run(t, "qemu-io", "-f", "qcow2", "-t", "unsafe", "-c", "write -P 3 0 1M", name)
			requireLikePeer(t, name)

			d := open(t, name, qcow2.Options{})
			for _, key := range []string{"first", "second", "1", "2"} {
				s, err := d.OpenSnapshot(key)
				require.NoError(t, err)
				require.NoError(t, s.Close()) // does nothing
				raw := filepath.Join(dir, "raw")
				peer.Run(t, "qemu-img", "convert", "-l", key, "-f", "qcow2", "-O", "raw", name, raw)
				want, err := os.ReadFile(raw)
				require.NoError(t, err)
				// qemu-img shows a snapshot at the active disk's size.
				disktest.Conform(t, s, want[:s.Size()])
				require.Empty(t, bytes.Trim(want[s.Size():], "\x00"))
			}
			first := open(t, name, qcow2.Options{Snapshot: "first"})
			require.EqualValues(t, 1<<20, first.Size())
			_, err := d.OpenSnapshot("third")
			require.ErrorContains(t, err, `"third"`)
		})
	}
}

// TestSamples reads images that were made elsewhere and long ago.
func TestSamples(t *testing.T) {
	dir := os.Getenv("DISKIMAGE_SAMPLES")
	if dir == "" {
		t.Skip("DISKIMAGE_SAMPLES is not set")
	}
	for name, want := range map[string]string{
		"image.qcow2":   "a9c0220b1dadd1812fc4bbe137f495d2c3b88c7b33b5a4de545d201fd31b3bc0",
		"vsstest.qcow2": "5cba558cfac0916cae697d2231dc1e17874aa262f2890f5236fb9c90b9610d0a",
	} {
		d := open(t, filepath.Join(dir, name), qcow2.Options{})
		sum := sha256.New()
		_, err := io.CopyBuffer(struct{ io.Writer }{sum}, struct{ io.Reader }{io.NewSectionReader(d, 0, d.Size())}, make([]byte, 1<<20))
		require.NoError(t, err)
		require.Equal(t, want, hex.EncodeToString(sum.Sum(nil)), name)
	}
}
