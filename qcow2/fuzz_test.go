package qcow2_test

import (
	"bytes"
	"encoding/binary"
	"io"
	"testing"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/internal/disktest"
	"github.com/diskimage-go/diskimage/internal/imagetest"
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

// FuzzDamage does the same to small sound images in which some 64-bit words
// are changed, so that the header still lets their tables be reached.
func FuzzDamage(f *testing.F) {
	var small [][]byte
	for _, q := range imagetest.Shapes() {
		if q.ClusterBits <= 14 {
			q.Clusters = q.Clusters[:min(len(q.Clusters), 1<<19>>q.ClusterBits)]
			small = append(small, q.Build().Bytes)
		}
	}
	for i := range small {
		f.Add(byte(i), []byte("\x00\x00\x30\x00\x80\x00\x00\x00\x00\x00\x00\x00"))
	}
	f.Fuzz(func(t *testing.T, i byte, edits []byte) {
		b := bytes.Clone(small[int(i)%len(small)])
		for ; len(edits) >= 12; edits = edits[12:] {
			word := int64(binary.BigEndian.Uint32(edits)) % int64(len(b)/8)
			binary.BigEndian.PutUint64(b[word*8:], binary.BigEndian.Uint64(edits[4:]))
		}
		openWalkAndRead(t, b)
	})
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
			walkAndRead(t, d, salvage)
		}
		d.Notes()
	}
}

func walkAndRead(t *testing.T, d *qcow2.Disk, salvage bool) {
	p := make([]byte, 64<<10)
	left := int64(4 << 20)
	for off, steps := int64(0), 0; steps < 3000; steps++ {
		e, err := d.NextExtent(off)
		if err == io.EOF {
			return
		}
		if err != nil {
			if salvage {
				t.Fatalf("NextExtent(%d) while salvaging: %v", off, err)
			}
			return
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
		}
		off = e.End()
	}
}
