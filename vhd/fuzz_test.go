package vhd

import (
	"bytes"
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/internal/disktest"
	"github.com/diskimage-go/diskimage/internal/imagetest"
)

// FuzzFooter holds that what decodes encodes to itself, but for reserved bytes.
func FuzzFooter(f *testing.F) {
	f.Add(imagetest.VHDBase().Bytes[:footerLen])
	f.Fuzz(func(t *testing.T, p []byte) {
		if len(p) != footerLen || inspect(p) != sound {
			return
		}
		a := decodeFooter(p)
		b := a.encode()
		require.Equal(t, sound, inspect(b))
		require.Equal(t, a, decodeFooter(b))
	})
}

// FuzzHeader does the same with dynamic disk headers, and reads the parent's
// names that they lead to in the rest of the bytes.
func FuzzHeader(f *testing.F) {
	v := imagetest.VHD{Size: 64 << 10, BlockSize: 64 << 10, Blocks: make([]imagetest.VHDBlock, 1),
		Locators: []imagetest.VHDLocator{{Platform: "W2ru", Name: imagetest.UTF16(`.\a.vhd`)}, {Platform: "MacX", Name: []byte("file:///a.vhd")}}}
	f.Add(v.Build().Bytes[footerLen:])
	f.Fuzz(func(t *testing.T, p []byte) {
		if len(p) < headerLen || len(p) > 64<<10 {
			return
		}
		h := decodeHeader(p, 0)
		require.Equal(t, h, decodeHeader(h.encode(), 0))
		names := h.readParentNames(source(p), &footers{footer: &footer{}, end: int64(len(p))})
		require.LessOrEqual(t, len(names), locators+1)
		candidates(names)
	})
}

// FuzzOpen opens anything, with the checksums made right so that the header is
// reached, walks along it and reads it. The laws of extents hold for whatever
// opens; CheckMap and Check agree; what CheckMap lets pass reads.
func FuzzOpen(f *testing.F) {
	for _, c := range imagetest.VHDCases() {
		f.Add(c.Build())
	}
	f.Fuzz(func(t *testing.T, file []byte) {
		file = bytes.Clone(file)
		for _, off := range []int{0, len(file) - footerLen} {
			if off >= 0 && len(file) >= footerLen {
				imagetest.Checksum(file[off:off+footerLen], offChecksum)
			}
		}
		if len(file) >= footerLen+headerLen {
			imagetest.Checksum(file[footerLen:footerLen+headerLen], offHeaderChecksum)
		}
		for _, salvage := range []bool{false, true} {
			d, err := Open(context.Background(), source(file), Options{Salvage: salvage, SkipExternal: true})
			if err == nil {
				walkAndRead(t, d, file, salvage)
			}
		}
	})
}

func walkAndRead(t *testing.T, d *Disk, file []byte, salvage bool) {
	mapErr := d.CheckMap()
	if !salvage {
		res, err := Check(context.Background(), source(file), CheckOptions{})
		require.NoError(t, err)
		if mapErr != nil {
			require.NotZero(t, res.Corruptions)
		}
	}
	p := make([]byte, 64<<10)
	for off, n := int64(0), 0; off < d.Size() && n < 4000; n++ {
		e, err := d.NextExtent(off)
		if err != nil {
			if d.f.diskType != Differencing {
				require.Error(t, mapErr, "CheckMap lets pass what does not read: %v", err)
			}
			return
		}
		require.NoError(t, disktest.Check(e, off, d.Size()))
		q := p[:min(e.Len, int64(len(p)))]
		_, err = d.ReadAt(q, off)
		switch {
		case e.Kind != diskimage.Data:
			require.NoError(t, err)
			require.Equal(t, make([]byte, len(q)), q)
		case mapErr == nil:
			require.NoError(t, err)
		}
		off = e.End()
	}
}
