package qcow2_test

import (
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
		if b := c.Build(); len(b) <= 1<<20 {
			f.Add(b)
		}
	}
	for _, q := range imagetest.Shapes() {
		if b := q.Build().Bytes; len(b) <= 1<<20 {
			f.Add(b)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
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
	})
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
