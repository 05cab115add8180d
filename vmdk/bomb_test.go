package vmdk_test

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/internal/disktest"
	"github.com/diskimage-go/diskimage/internal/imagetest"
	"github.com/diskimage-go/diskimage/vmdk"
)

// TestBombs has small files that would be disks of many times their size, since
// all entries lead to one grain, or all to one table. The second use of a place
// is one too many.
func TestBombs(t *testing.T) {
	const tables, grain = 2048, 8
	for name, c := range map[string]struct {
		dialect imagetest.Dialect
		change  func(m *imagetest.VMDKImage)
		field   string
	}{
		"a million entries, one compressed grain": {imagetest.FrontIndex, func(*imagetest.VMDKImage) {}, "grain table 0: entry 1"},
		"without markers": {imagetest.FrontIndex, func(m *imagetest.VMDKImage) {
			m.Put32(imagetest.VMDKFlags, m.Get32(imagetest.VMDKFlags)&^(1<<17))
			m.Put32(m.GTs[0], uint32(m.Data[0]/512)+1)
		}, "grain table 0: entry 2"},
		"a million entries, one grain": {imagetest.Sparse, func(*imagetest.VMDKImage) {}, "grain table 0: entry 1"},
		"all tables are one": {imagetest.Sparse, func(m *imagetest.VMDKImage) {
			for i := range int64(tables) {
				m.Put32(m.GD+4*i, uint32(m.GTs[0]/512))
			}
		}, "grain directory: entry 1"},
	} {
		t.Run(name, func(t *testing.T) {
			v := imagetest.VMDK{Dialect: c.dialect, NoRGD: true, Grain: grain, Sectors: tables * 512 * grain, Grains: []imagetest.Grain{{Kind: imagetest.Plain, Data: bytes.Repeat([]byte{1}, 4096)}}}
			m := v.Build()
			for i := range tables * 512 {
				m.SetGTE(i, uint32(m.Data[0]/512))
			}
			c.change(m)
			disktest.Bounded(t, func() {
				start := time.Now()
				d := openBytes(t, m.Bytes, vmdk.Options{})
				err := d.CheckMap()
				require.ErrorIs(t, err, diskimage.ErrCorrupt)
				require.ErrorContains(t, err, c.field)
				require.Less(t, time.Since(start), time.Second)
			})
			if c.dialect == imagetest.FrontIndex {
				disktest.Bounded(t, func() {
					s, err := vmdk.NewStream(bytes.NewReader(m.Bytes), vmdk.StreamOptions{})
					if err == nil {
						for err == nil {
							_, err = s.NextBlock(nil)
						}
						require.ErrorIs(t, err, diskimage.ErrCorrupt)
					}
				})
			}
		})
	}
}

// TestBombOfExtents has a descriptor that shows one file ten thousand times.
func TestBombOfExtents(t *testing.T) {
	lines := make([]string, 10_000)
	for i := range lines {
		lines[i] = `RW 2048 FLAT "flat.vmdk" 0`
	}
	text := imagetest.VMDKText{CreateType: "custom", Extents: lines}.String()
	disktest.Bounded(t, func() {
		_, err := vmdk.Open(t.Context(), imagetest.Source([]byte(text)), vmdk.Options{Opener: &files{content: map[string][]byte{"flat.vmdk": make([]byte, 1<<20)}}})
		require.ErrorIs(t, err, diskimage.ErrCorrupt)
		require.ErrorContains(t, err, fmt.Sprintf("extents %d and %d are the same bytes", 1, 2))
	})
}
