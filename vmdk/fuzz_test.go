package vmdk_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/internal/disktest"
	"github.com/diskimage-go/diskimage/internal/imagetest"
	"github.com/diskimage-go/diskimage/internal/peer"
	"github.com/diskimage-go/diskimage/internal/zero"
	"github.com/diskimage-go/diskimage/vmdk"
)

// smallShapes returns images of some KiB of every layout.
func smallShapes() []*imagetest.VMDKImage {
	var small []*imagetest.VMDKImage
	for _, d := range []imagetest.Dialect{imagetest.Sparse, imagetest.Exported, imagetest.FrontIndex, imagetest.QEMUStream} {
		text := bytes.Repeat([]byte("compressible "), 300)
		v := imagetest.VMDK{Dialect: d, Grain: 8, Sectors: 8*600 - 3, Grains: []imagetest.Grain{
			{Kind: imagetest.Plain, Data: text}, {}, {Kind: imagetest.Plain, Data: text[5:]}, {Kind: imagetest.Plain, Data: []byte{1}},
		}}
		v.Grains = append(v.Grains, make([]imagetest.Grain, 595)...)
		v.Grains = append(v.Grains, imagetest.Grain{Kind: imagetest.Plain, Data: []byte("the end")})
		small = append(small, v.Build())
		if d == imagetest.Sparse {
			v.Version, v.NoRGD = 2, true
			v.Grains[1].Kind = imagetest.Zeros
			small = append(small, v.Build())
		}
	}
	return small
}

// FuzzSparse opens anything that is one file, walks along it and reads it, as
// far as some MiB and thousands of extents go. The laws of extents hold for
// whatever opens; what NextExtent calls zeros reads as zeros; what CheckMap
// lets pass has extents all along, and what it refuses Check finds.
func FuzzSparse(f *testing.F) {
	for _, c := range imagetest.VMDKCases() {
		if b := c.Build(); len(b) <= 100<<10 {
			f.Add(b)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) { openWalkAndRead(t, b) })
}

// FuzzSparseDamage does the same to small sound images in which some words of
// 32 bits are changed, so that the header still lets their tables be reached.
func FuzzSparseDamage(f *testing.F) {
	small := smallShapes()
	for i := range small {
		f.Add(byte(i), []byte("\x00\x00\x0d\x80\x00\x00\x00\x01"))
	}
	f.Fuzz(func(t *testing.T, i byte, edits []byte) {
		b := bytes.Clone(small[int(i)%len(small)].Bytes)
		for ; len(edits) >= 8; edits = edits[8:] {
			word := int64(binary.LittleEndian.Uint32(edits)) % int64(len(b)/4)
			copy(b[word*4:], edits[4:8])
		}
		openWalkAndRead(t, b)
	})
}

// FuzzSparseFields does the same to them with fields set to 0, 1, a power of two
// or the largest number, made one larger, or given the value of another field.
func FuzzSparseFields(f *testing.F) {
	small := smallShapes()
	for i := range small {
		f.Add(byte(i), []byte("\x00\x02\x02\x0c"), true)
		f.Add(byte(i), []byte("\x00\x11\x05\x12\x00\x09\x06\x0a"), false)
	}
	f.Fuzz(func(t *testing.T, i byte, edits []byte, both bool) {
		openWalkAndRead(t, edited(small[int(i)%len(small)], edits, both))
	})
}

// FuzzSparseAgainstPeer holds what such images read as against QEMU, but for
// those of which the redundant directory is used, which QEMU never looks at.
func FuzzSparseAgainstPeer(f *testing.F) {
	peer.Find(f, "qemu-img")
	small := smallShapes()
	for i := range small {
		f.Add(byte(i), []byte("\x00\x11\x00\x00"), true)
	}
	f.Fuzz(func(t *testing.T, i byte, edits []byte, both bool) {
		b := edited(small[int(i)%len(small)], edits, both)
		d, err := vmdk.Open(t.Context(), imagetest.Source(b), vmdk.Options{})
		if err != nil || d.Size() > 8<<20 || d.CheckMap() != nil || strings.Contains(texts(d), "the redundant grain ") {
			return
		}
		want := make([]byte, d.Size())
		if _, err := d.ReadAt(want, 0); err != nil {
			return
		}
		dir := t.TempDir()
		image, raw := filepath.Join(dir, "image"), filepath.Join(dir, "raw")
		require.NoError(t, os.WriteFile(image, b, 0o600))
		if _, code := peer.Try(t, "qemu-img", "convert", "-f", "vmdk", "-O", "raw", image, raw); code != 0 {
			return
		}
		got, err := os.ReadFile(raw)
		require.NoError(t, err)
		require.True(t, bytes.Equal(want, got), "%s", texts(d))
	})
}

func openWalkAndRead(t *testing.T, b []byte) {
	for _, salvage := range []bool{false, true} {
		d, err := vmdk.Open(t.Context(), imagetest.Source(b), vmdk.Options{Salvage: salvage})
		if err != nil {
			_, checkErr := vmdk.Check(t.Context(), imagetest.Source(b), vmdk.CheckOptions{})
			if checkErr == nil && !salvage && !errors.Is(err, diskimage.ErrExternal) {
				t.Fatalf("refused, but checked: %v", err)
			}
			continue
		}
		mapErr := d.CheckMap()
		err = walkAndRead(t, d, salvage)
		if mapErr == nil && err != nil {
			t.Fatalf("CheckMap lets pass what NextExtent refuses: %v", err)
		}
		if !salvage {
			agree(t, b, mapErr)
			sameFromAnywhere(t, b, d)
			sameAsStream(t, b, d)
		}
		d.Info()
		d.Notes()
	}
}

// agree holds Check against what CheckMap said.
func agree(t *testing.T, b []byte, mapErr error) {
	r, err := vmdk.Check(t.Context(), imagetest.Source(b), vmdk.CheckOptions{Data: true})
	if err != nil {
		t.Fatalf("Check fails: %v; CheckMap says %v", err, mapErr)
	}
	if mapErr != nil && r.Corruptions+r.CheckErrors == 0 {
		t.Fatalf("Check does not find what CheckMap refuses: %v", mapErr)
	}
}

// sameFromAnywhere holds ReadAt, in pieces from anywhere, and NextExtent from
// anywhere, against a walk along the disk: what is plain lies in the file where
// the walk has it, and what is not data is zeros.
func sameFromAnywhere(t *testing.T, b []byte, d *vmdk.Disk) {
	var all []diskimage.Extent
	for off := int64(0); off < d.Size() && len(all) < 3000; off = all[len(all)-1].End() {
		e, err := d.NextExtent(off)
		if err != nil {
			break
		}
		all = append(all, e)
	}
	rnd := rand.New(rand.NewPCG(uint64(len(b)), uint64(crc32.ChecksumIEEE(b))))
	for range min(20, 4*len(all)) {
		i := rnd.IntN(len(all))
		off := all[i].Off + rnd.Int64N(all[i].Len)
		e, err := d.NextExtent(off)
		require.NoError(t, err)
		require.NoError(t, disktest.Check(e, off, d.Size()))
		n := min(e.Len, all[i].End()-off)
		if whole := all[i]; whole.Stored == diskimage.Plain { // else it is of one unit, wherever it is asked for
			require.Equal(t, whole.Clip(off, n), e.Clip(off, n))
		} else {
			require.Equal(t, whole.Host, e.Host)
		}
		got := bytes.Repeat([]byte{0xa5}, rnd.IntN(20_000))
		read, err := d.ReadAt(got, off)
		for _, e := range all[i:] {
			if e = e.Clip(max(e.Off, off), off+int64(read)-max(e.Off, off)); e.Len <= 0 {
				break
			}
			piece := got[e.Off-off:][:e.Len]
			switch {
			case e.IsZero():
				require.True(t, zero.Is(piece), "%+v", e)
			case e.Stored == diskimage.Plain:
				require.True(t, bytes.Equal(b[e.Host:][:e.Len], piece), "%+v", e)
			default:
				again := make([]byte, e.Len)
				_, err := d.ReadAt(again, e.Off)
				require.True(t, (err == nil || err == io.EOF) && bytes.Equal(again, piece), "%+v", e)
			}
		}
		if read < len(got) && off+int64(read) < d.Size() {
			require.Error(t, err)
		}
	}
}

// sameAsStream holds d against what is read front to back. Each may refuse what
// the other reads: one sees the order of the grains, the other the tables.
func sameAsStream(t *testing.T, b []byte, d *vmdk.Disk) {
	s, err := vmdk.NewStream(bytes.NewReader(b), vmdk.StreamOptions{})
	if err != nil || s.Size() > 4<<20 {
		return
	}
	want, err := drain(t, s, false)
	if err != nil || d.CheckMap() != nil {
		return
	}
	got := make([]byte, d.Size())
	if _, err := d.ReadAt(got, 0); err == nil && !bytes.Equal(want, got) {
		t.Fatal("a stream of it reads differently")
	}
}

// walkAndRead returns the first error of NextExtent.
func walkAndRead(t *testing.T, d *vmdk.Disk, salvage bool) error {
	p := make([]byte, 64<<10)
	left := int64(4 << 20)
	for off, steps := int64(0), 0; steps < 3000; steps++ {
		e, err := d.NextExtent(off)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			if salvage {
				t.Fatalf("NextExtent(%d) while salvaging: %v", off, err)
			}
			return err
		}
		if err := disktest.Check(e, off, d.Size()); err != nil {
			t.Fatal(err)
		}
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
			if e.Stored == diskimage.Deflate {
				_, _ = d.ReadStored(e, nil)
			}
		}
		off = e.End()
	}
	return nil
}
