package qcow2_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
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

// normal leaves out what an extent cannot say: the place of subclusters that
// are not allocated in a cluster that is, and that stored data lies in a hole
// of the file (which is how qemu-img has preallocation=metadata).
func (s span) normal() span {
	if !s.Present {
		s.Offset = nil
	}
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
	const size = 3<<20 + 5*512
	raw := filepath.Join(t.TempDir(), "in.raw")
	guestFile(t, raw, size)
	for _, c := range []struct {
		name string
		args []string
	}{
		{"default", nil},
		{"v2", []string{"-o", "compat=0.10"}},
		{"v2-512", []string{"-o", "compat=0.10,cluster_size=512"}},
		{"v2-compressed", []string{"-c", "-o", "compat=0.10"}},
		{"512", []string{"-o", "cluster_size=512"}},
		{"4k", []string{"-o", "cluster_size=4k"}},
		{"2M", []string{"-o", "cluster_size=2M"}},
		{"refcount1", []string{"-o", "refcount_bits=1"}},
		{"refcount64", []string{"-o", "refcount_bits=64"}},
		{"lazy", []string{"-o", "lazy_refcounts=on"}},
		{"extended", []string{"-o", "extended_l2=on"}},
		{"extended-16k", []string{"-o", "extended_l2=on,cluster_size=16k"}},
		{"extended-2M", []string{"-o", "extended_l2=on,cluster_size=2M"}},
		{"zlib-512", []string{"-c", "-o", "cluster_size=512"}},
		{"zlib-4k", []string{"-c", "-o", "cluster_size=4k"}},
		{"zlib-64k", []string{"-c"}},
		{"zlib-2M", []string{"-c", "-o", "cluster_size=2M"}},
		{"zlib-refcount1", []string{"-c", "-o", "refcount_bits=1"}},
		{"zlib-extended", []string{"-c", "-o", "extended_l2=on"}},
		{"zstd-512", []string{"-c", "-o", "compression_type=zstd,cluster_size=512"}},
		{"zstd-64k", []string{"-c", "-o", "compression_type=zstd"}},
		{"zstd-2M", []string{"-c", "-o", "compression_type=zstd,cluster_size=2M"}},
		{"preallocated-metadata", []string{"-o", "preallocation=metadata"}},
		{"preallocated-full", []string{"-o", "preallocation=full"}},
		{"unsparse", []string{"-S", "0"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			name := filepath.Join(t.TempDir(), "a.qcow2")
			peer.Run(t, "qemu-img", append(append([]string{"convert", "-q", "-O", "qcow2"}, c.args...), raw, name)...)
			requireLikePeer(t, name)
		})
	}
}
