package vmdk

import (
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage"
)

func TestWriterOptionErrors(t *testing.T) {
	const stream, flat = StreamOptimized, MonolithicFlat
	for name, o := range map[string]WriterOptions{
		"size":                       {Size: -2},
		"size not known":             {Size: -1},
		"size of nothing":            {},
		"subformat":                  {Subformat: 99},
		"adapter":                    {Adapter: 99},
		"hardware version":           {HWVersion: -1},
		"hardware version 100":       {HWVersion: 100},
		"grain 2 KiB":                {GrainSize: 2 << 10},
		"grain 4 MiB":                {GrainSize: 4 << 20},
		"grain 5000":                 {GrainSize: 5000},
		"negative grain":             {GrainSize: math.MinInt64},
		"grain of stream":            {GrainSize: 128 << 10, Subformat: stream},
		"grain of flat":              {GrainSize: 128 << 10, Subformat: flat},
		"level without compression":  {Level: 1},
		"level 10":                   {Level: 10, Subformat: stream},
		"negative level":             {Level: -1, Subformat: stream},
		"CID of nothing":             {CID: 0xffffffff},
		"parent CID without parent":  {ParentCID: 1},
		"parent CID of nothing":      {ParentCID: 0xffffffff, ParentHint: "x"},
		"parent of stream":           {ParentHint: "x", Subformat: stream},
		"parent of flat":             {ParentHint: "x", Subformat: flat},
		"zeroed grains of stream":    {ZeroedGrains: true, Subformat: stream},
		"flat without a creator":     {Subformat: flat},
		"split without a creator":    {Subformat: TwoGbMaxExtentSparse},
		"quote in the name":          {FileName: `a"b`},
		"line end in the name":       {FileName: "a\nb"},
		"line end in the parent":     {ParentHint: "a\r"},
		"blank around the name":      {FileName: " a"},
		"name not UTF-8":             {FileName: "\xff"},
		"long name":                  {FileName: strings.Repeat("a", 1025)},
		"quote in the tools version": {ToolsVersion: `"`},
		"long tools version":         {ToolsVersion: strings.Repeat("1", 33)},
	} {
		if o.Size == 0 && name != "size of nothing" {
			o.Size = 1 << 20
		}
		_, err := NewWriter(discard{}, o)
		require.ErrorIs(t, err, diskimage.ErrUnsupported, name)
	}
}

// What is too large for a kind of image is refused before anything is written.
func TestWriterDiskLimits(t *testing.T) {
	for _, c := range []struct {
		o    WriterOptions
		most int64
	}{
		{WriterOptions{}, 4087 << 30},
		{WriterOptions{GrainSize: 4 << 10}, 255 << 30},
		{WriterOptions{GrainSize: 2 << 20}, 127 << 40},
		{WriterOptions{Subformat: StreamOptimized}, 1 << 50},
	} {
		if !testing.Short() { // tables of half a GiB
			c.o.Size = c.most
			_, err := NewWriter(discard{}, c.o)
			require.NoError(t, err, "%+v", c.o)
		}
		for _, size := range []int64{c.most + c.most/50, 1 << 61, math.MaxInt64} {
			c.o.Size = size
			_, err := NewWriter(discard{}, c.o)
			require.ErrorIs(t, err, diskimage.ErrLimit, "%+v", c.o)
		}
	}
}

func TestSubformatNames(t *testing.T) {
	for s := range Subformat(len(subformatNames)) {
		got, err := ParseSubformat(strings.ToUpper(s.String()))
		require.NoError(t, err)
		require.Equal(t, s, got)
	}
	require.Equal(t, "twoGbMaxExtentSparse", TwoGbMaxExtentSparse.String())
	require.Equal(t, "Subformat(9)", Subformat(9).String())
	_, err := ParseSubformat("vmfs")
	require.ErrorIs(t, err, diskimage.ErrUnsupported)
	require.ErrorContains(t, err, "monolithicSparse, streamOptimized")

	for a := range AdapterType(len(adapterNames)) {
		got, err := ParseAdapterType(strings.ToLower(a.String()))
		require.NoError(t, err)
		require.Equal(t, a, got)
	}
	require.Equal(t, "AdapterType(7)", AdapterType(7).String())
	_, err = ParseAdapterType("nvme")
	require.ErrorIs(t, err, diskimage.ErrUnsupported)
}

func TestWriterTakesStored(t *testing.T) {
	for _, c := range []struct {
		kind Subformat
		enc  diskimage.Encoding
		unit int64
		ok   bool
	}{
		{StreamOptimized, diskimage.Deflate, 65536, true},
		{StreamOptimized, diskimage.Deflate, 4096, false},
		{StreamOptimized, diskimage.Deflate, 131072, false},
		{StreamOptimized, diskimage.Zstd, 65536, false},
		{StreamOptimized, diskimage.Plain, 65536, false},
		{MonolithicSparse, diskimage.Deflate, 65536, false},
	} {
		w, err := NewWriter(discard{}, WriterOptions{Size: 1, Subformat: c.kind})
		require.NoError(t, err)
		terms, ok := w.TakesStored(c.enc, c.unit)
		require.Equal(t, c.ok, ok, "%+v", c)
		require.Equal(t, diskimage.StoredTerms{Adler32: c.ok}, terms, "%+v", c)
	}
}

// The CID depends on the size, the seed and the options that shape the image,
// and can be given.
func TestWriterCID(t *testing.T) {
	cid := func(o WriterOptions) uint32 {
		w, err := NewWriter(discard{}, o)
		require.NoError(t, err)
		return w.descriptor([]extentLine{{access: accessRW, sectors: 1, kind: kindSparse, fileName: "x"}}).cid
	}
	base := cid(WriterOptions{Size: 1 << 20})
	for _, o := range []WriterOptions{
		{Size: 1 << 20}, {Size: 1<<20 - 1}, {Size: 1 << 20, FileName: "other.vmdk"}, {Size: 1 << 20, HWVersion: 4},
	} {
		require.Equal(t, base, cid(o), "%+v", o)
	}
	for _, o := range []WriterOptions{
		{Size: 1<<20 + 1}, {Size: 1 << 20, Seed: []byte{1}}, {Size: 1 << 20, Subformat: StreamOptimized}, {Size: 1 << 20, Adapter: LSILogic},
		{Size: 1 << 20, ParentHint: "p"}, {Size: 1 << 20, CID: 7},
	} {
		require.NotEqual(t, base, cid(o), "%+v", o)
	}
	require.EqualValues(t, 7, cid(WriterOptions{Size: 1 << 20, CID: 7}))
}
