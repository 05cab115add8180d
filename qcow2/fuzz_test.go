package qcow2_test

import (
	"bytes"
	"encoding/binary"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/internal/disktest"
	"github.com/diskimage-go/diskimage/internal/imagetest"
	"github.com/diskimage-go/diskimage/internal/peer"
	"github.com/diskimage-go/diskimage/qcow2"
)

// FuzzOpen opens anything, walks along it and reads it, as far as some MiB and
// thousands of extents go. The laws of extents hold for whatever opens, and
// what NextExtent calls zeros reads as zeros.
func FuzzOpen(f *testing.F) {
	for _, c := range imagetest.QCOW2Cases() {
		if b := c.Build(); len(b) <= 600<<10 {
			f.Add(b)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) { openWalkAndRead(t, b) })
}

// FuzzDamage does the same to small sound images of which fields are changed,
// so that the header mostly lets their tables be reached: see edited.
func FuzzDamage(f *testing.F) {
	images := editable()
	for i := range images {
		f.Add(byte(i), []byte("\x00\x10\x02\x0c"))
		f.Add(byte(i), []byte("\x00\x20\x06\x21\x00\x11\x07\x12"))
	}
	f.Fuzz(func(t *testing.T, i byte, edits []byte) {
		openWalkAndRead(t, edited(images[int(i)%len(images)], edits))
	})
}

// FuzzAgainstPeer holds images of which fields are changed against QEMU: what
// reads here reads the same there, if it is not refused for its bitmaps or
// snapshots, and where one change alone changes what a guest sees, qemu-img
// check finds nothing corrupt.
func FuzzAgainstPeer(f *testing.F) {
	peer.Find(f, "qemu-img")
	images := editable()
	rnd := rand.New(rand.NewPCG(99, 3))
	for i := range images {
		for n := range 3 {
			edits := make([]byte, 4*(n+1))
			for i := range edits {
				edits[i] = byte(rnd.Uint32())
			}
			f.Add(byte(i), edits)
		}
	}
	f.Fuzz(func(t *testing.T, i byte, edits []byte) {
		m := images[int(i)%len(images)]
		file := edited(m, edits)
		if bytes.Equal(file, m.Bytes) {
			return
		}
		got, err := guestOf(t, file, nil)
		if err != nil || got == nil {
			return
		}
		name, raw := filepath.Join(t.TempDir(), "image"), filepath.Join(t.TempDir(), "raw")
		require.NoError(t, os.WriteFile(name, file, 0o600))
		if out, code := peer.Try(t, "qemu-img", "convert", "-f", "qcow2", "-O", "raw", name, raw); code != 0 {
			require.Regexp(t, "(?i)bitmap|snapshot", out) // which are not the disk's
			return
		}
		want, err := os.ReadFile(raw)
		require.NoError(t, err)
		require.True(t, bytes.Equal(want, got[:len(got)&^511])) // where it cuts the disk
		const swap = 6                                          // two changes
		if len(edits) < 8 && edits[2]%8 != swap && !bytes.Equal(got, m.Guest) {
			requireClean(t, file, nil)
		}
	})
}

// editable returns small sound images of every kind, without references.
func editable() (all []flipped) {
	images := flips()
	for _, name := range slices.Sorted(maps.Keys(images)) {
		if name != "backing image" {
			all = append(all, images[name])
		}
	}
	for _, q := range imagetest.Shapes() {
		if q.ClusterBits <= 14 {
			q.Clusters = q.Clusters[:min(len(q.Clusters), 1<<18>>q.ClusterBits)]
			all = append(all, partsOf(q.Build(), len(q.Clusters)))
		}
	}
	return all
}

// A field is a number in an image file, of 4 or 8 bytes.
type field struct{ off, n int64 }

// edited returns the image's bytes with some fields of header and tables
// changed: every four bytes say a field, what is done to it, and with which
// number or other field.
func edited(f flipped, edits []byte) []byte {
	var fields []field
	for _, p := range f.parts {
		if p.name == "header" {
			continue
		}
		for i := range p.n {
			fields = append(fields, field{p.off + i*8, 8})
		}
	}
	for _, off := range []int64{imagetest.BackingOffset, imagetest.Size, imagetest.L1Offset, imagetest.RefTableOffset,
		imagetest.SnapshotsOffset, imagetest.Incompatible, imagetest.Compatible, imagetest.Autoclear} {
		fields = append(fields, field{off, 8})
	}
	for _, off := range []int64{imagetest.Version, imagetest.BackingSize, imagetest.ClusterBits, imagetest.CryptMethod, imagetest.L1Size,
		imagetest.RefTableClusters, imagetest.NbSnapshots, imagetest.RefcountOrder, imagetest.HeaderLength, imagetest.CompressionType} {
		fields = append(fields, field{off, 4})
	}
	m := imagetest.Image{Bytes: bytes.Clone(f.Bytes)}
	get := func(x field) uint64 { return m.Get64(x.off) >> (64 - x.n*8) }
	set := func(x field, v uint64) {
		shift := 64 - x.n*8
		m.Put64(x.off, v<<shift|m.Get64(x.off)&(1<<shift-1))
	}
	for ; len(edits) >= 4; edits = edits[4:] {
		x := fields[int(binary.BigEndian.Uint16(edits))%len(fields)]
		y := fields[int(edits[3])%len(fields)]
		v, arg := get(x), edits[3]
		switch edits[2] % 8 {
		case 0:
			v = 0
		case 1:
			v = 1
		case 2:
			v = 1 << (arg % 64)
		case 3:
			v = 1<<64 - 1
		case 4:
			v ^= 1 << (arg % 64)
		case 5:
			v += uint64(int8(arg)) << (arg % 3 * 8)
		case 6:
			v = get(y)
			set(y, get(x))
		case 7:
			v = get(y)
		}
		set(x, v)
	}
	return m.Bytes
}

func openWalkAndRead(t *testing.T, b []byte) {
	for _, salvage := range []bool{false, true} {
		d, err := qcow2.Open(t.Context(), imagetest.Source(b), qcow2.Options{Salvage: salvage})
		if err != nil {
			continue
		}
		disks := []*qcow2.Disk{d}
		for _, s := range d.Info().Snapshots[:min(3, len(d.Info().Snapshots))] {
			if sd, err := d.OpenSnapshot(s.ID); err == nil {
				disks = append(disks, sd)
			}
		}
		for _, d := range disks {
			if all := walkAndRead(t, d, salvage); !salvage { // which tells of more than can be read
				readAgain(t, b, d, all)
			}
			if err := d.CheckMap(); err == nil && d.Size() < 1<<30 {
				require.NoError(t, disktest.TryWalk(d), "CheckMap takes it")
			}
		}
		d.Notes()
	}
}

// walkAndRead returns the extents of the disk, as far as some MiB and thousands
// of extents go.
func walkAndRead(t *testing.T, d *qcow2.Disk, salvage bool) (all []diskimage.Extent) {
	p := make([]byte, 64<<10)
	left := int64(4 << 20)
	for off, steps := int64(0), 0; steps < 3000; steps++ {
		e, err := d.NextExtent(off)
		if err == io.EOF {
			return all
		}
		if err != nil {
			if salvage {
				t.Fatalf("NextExtent(%d) while salvaging: %v", off, err)
			}
			return all
		}
		if err := disktest.Check(e, off, d.Size()); err != nil {
			t.Fatal(err)
		}
		all = append(all, e)
		if n := min(e.Len, int64(len(p)), left); n > 0 {
			got, err := d.ReadAt(p[:n], off)
			left -= n
			if e.Stored == diskimage.Plain && e.Host >= 0 && err != nil && err != io.EOF {
				t.Fatalf("ReadAt(%d) in %+v: %v", off, e, err)
			}
			for i, c := range p[:got] {
				if e.IsZero() && c != 0 {
					t.Fatalf("byte %d of %+v is %#x", i, e, c)
				}
			}
		}
		off = e.End()
	}
	return all
}

// readAgain asks for extents and bytes at random, of what the extents cover:
// both are as the walk has it, plain data as it lies in the file.
func readAgain(t *testing.T, file []byte, d *qcow2.Disk, all []diskimage.Extent) {
	if len(all) == 0 {
		return
	}
	rnd := rand.New(rand.NewPCG(uint64(len(all)), uint64(d.Size())))
	for range 30 {
		whole := all[rnd.IntN(len(all))]
		off := whole.Off + rnd.Int64N(whole.Len)
		e, err := d.NextExtent(off)
		require.NoError(t, err)
		want := whole.Clip(off, min(e.Len, whole.End()-off)) // either may be shorter than it could be
		require.Equal(t, want, e.Clip(off, want.Len), "NextExtent(%d), inside of %+v", off, whole)

		p := make([]byte, min(1+rnd.Int64N(3000), want.Len))
		if _, err := d.ReadAt(p, off); err != nil && err != io.EOF {
			require.True(t, want.Stored != diskimage.Plain || want.Host < 0, "ReadAt(%d) in %+v: %v", off, want, err)
			continue
		}
		switch {
		case want.IsZero():
			require.Equal(t, make([]byte, len(p)), p, "ReadAt(%d) in %+v", off, want)
		case want.Stored == diskimage.Plain:
			require.True(t, bytes.Equal(file[want.Host:][:len(p)], p), "ReadAt(%d) in %+v", off, want)
		default: // another way to the same bytes: the whole cluster
			unit := make([]byte, whole.Len)
			n, _ := d.ReadAt(unit, whole.Off)
			require.True(t, bytes.Equal(unit[off-whole.Off : n][:len(p)], p), "ReadAt(%d) in %+v", off, want)
		}
	}
}
