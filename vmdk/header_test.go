package vmdk

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage"
)

// soundHeader returns the header of a monolithicSparse image of 10 MiB.
func soundHeader() sparseHeader {
	return sparseHeader{
		version:          1,
		flags:            flagNewLineTest | flagRedundant,
		capacity:         20480,
		grainSize:        128,
		descriptorOffset: 1,
		descriptorSize:   20,
		numGTEsPerGT:     512,
		rgdOffset:        21,
		gdOffset:         26,
		overHead:         128,
		endLine:          [4]byte([]byte(endLineChars)),
	}
}

func TestHeaderEncodesWhatItDecodes(t *testing.T) {
	h := sparseHeader{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, [4]byte{12, 13, 14, 15}, 16, nil, nil, 0, 0}
	b := h.encode()
	require.Len(t, b, sparseHeaderLen)
	got, err := decodeSparseHeader(b)
	require.NoError(t, err)
	require.Equal(t, h, *got)
}

func TestHeaderRules(t *testing.T) {
	const (
		corrupt     = diskimage.ErrCorrupt
		truncated   = diskimage.ErrTruncated
		unsupported = diskimage.ErrUnsupported
		limit       = diskimage.ErrLimit
	)
	packed := func(h *sparseHeader) { h.flags |= flagCompressed; h.compressAlgorithm = 1 }
	for _, c := range []struct {
		name   string
		change func(h *sparseHeader)
		kind   diskimage.ErrorKind // "": accepted
		field  string
	}{
		{name: "sound", change: func(h *sparseHeader) {}},
		{name: "version 3", change: func(h *sparseHeader) { h.version = 3 }},
		{name: "unknown flag that readers may pass over", change: func(h *sparseHeader) { h.flags |= 1 << 9 }},
		{name: "end-of-line characters not valid", change: func(h *sparseHeader) { h.flags &^= flagNewLineTest; h.endLine = [4]byte{} }},
		{name: "grain of 4 KiB", change: func(h *sparseHeader) { h.grainSize = 8 }},
		{name: "no disk at all", change: func(h *sparseHeader) { h.capacity, h.gdOffset = 0, 0 }},
		{name: "compressed", change: packed},
		{"text mode", func(h *sparseHeader) { h.endLine = [4]byte{'\n', ' ', '\n', '\n'} }, corrupt, "header: end-of-line characters"},
		{"version 0", func(h *sparseHeader) { h.version = 0 }, unsupported, "header: version"},
		{"version 4", func(h *sparseHeader) { h.version = 4 }, unsupported, "header: version"},
		{"unknown flag", func(h *sparseHeader) { h.flags |= 1 << 18 }, unsupported, "header: flags"},
		{"compression 9", func(h *sparseHeader) { h.compressAlgorithm = 9 }, unsupported, "header: compressAlgorithm"},
		{"compression without the flag", func(h *sparseHeader) { h.compressAlgorithm = 1 }, corrupt, "header: compressAlgorithm"},
		{"the flag without compression", func(h *sparseHeader) { h.flags |= flagCompressed }, corrupt, "header: compressAlgorithm"},
		{"grain 0", func(h *sparseHeader) { h.grainSize = 0 }, corrupt, "header: grainSize"},
		{"grain 4", func(h *sparseHeader) { h.grainSize = 4 }, corrupt, "header: grainSize"},
		{"grain 100", func(h *sparseHeader) { h.grainSize = 100 }, corrupt, "header: grainSize"},
		{"grain 2^64-1", func(h *sparseHeader) { h.grainSize = 1<<64 - 1 }, corrupt, "header: grainSize"},
		{"compressed grain 2^13", func(h *sparseHeader) { packed(h); h.grainSize = 1 << 13 }, limit, "header: grainSize"},
		{"table of 1", func(h *sparseHeader) { h.numGTEsPerGT = 1 }, corrupt, "header: numGTEsPerGT"},
		{"table of 2^32-1", func(h *sparseHeader) { h.numGTEsPerGT = 1<<32 - 1 }, corrupt, "header: numGTEsPerGT"},
		{"capacity 2^55", func(h *sparseHeader) { h.capacity = 1 << 55 }, corrupt, "header: capacity"},
		{"capacity 2^64-1", func(h *sparseHeader) { h.capacity = 1<<64 - 1 }, corrupt, "header: capacity"},
		{"capacity 2^50", func(h *sparseHeader) { h.capacity = 1 << 50 }, limit, "header: capacity"},
		{"capacity 2^33: its directory ends beyond the file", func(h *sparseHeader) { h.capacity = 1 << 33 }, truncated, "header: gdOffset"},
		{"descriptor of 2 MiB", func(h *sparseHeader) { h.descriptorSize = 4096 }, limit, "header: descriptorSize"},
		{"descriptor beyond the end", func(h *sparseHeader) { h.descriptorOffset = 120 }, truncated, "header: descriptorOffset"},
		{"descriptor at 2^64-1", func(h *sparseHeader) { h.descriptorOffset = 1<<64 - 1 }, truncated, "header: descriptorOffset"},
		{name: "primary directory beyond the end", change: func(h *sparseHeader) { h.gdOffset = 1 << 40 }},
		{name: "redundant directory beyond the end", change: func(h *sparseHeader) { h.rgdOffset = 1 << 40 }},
		{"directory beyond the end", func(h *sparseHeader) { h.flags, h.gdOffset = 1, 1<<40 }, truncated, "header: gdOffset"},
		{"directory in the header", func(h *sparseHeader) { h.flags, h.gdOffset = 1, 0 }, corrupt, "header: gdOffset"},
		{"metadata beyond the end", func(h *sparseHeader) { h.overHead = 129 }, truncated, "header: overHead"},
		{"no footer", func(h *sparseHeader) { h.gdOffset = gdAtEnd }, truncated, "footer"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := soundHeader()
			c.change(&h)
			file := append(h.encode(), make([]byte, 128*sectorSize-sparseHeaderLen)...)
			_, err := readHeader(source(file))
			if c.kind == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorIs(t, err, c.kind)
			var e *diskimage.Error
			require.ErrorAs(t, err, &e)
			require.Equal(t, c.field, e.Field)
		})
	}
}

func TestHeaderTooShort(t *testing.T) {
	h := soundHeader()
	file := h.encode()
	for n, kind := range map[int]diskimage.ErrorKind{0: diskimage.ErrFormat, 3: diskimage.ErrFormat, 4: diskimage.ErrTruncated, 511: diskimage.ErrTruncated} {
		_, err := readHeader(source(file[:n]))
		require.ErrorIs(t, err, kind, "%d bytes", n)
	}
}

func TestFooter(t *testing.T) {
	h := soundHeader()
	h.version, h.flags, h.compressAlgorithm = 3, flagNewLineTest|flagCompressed|flagMarkers, 1
	h.gdOffset = gdAtEnd
	for _, c := range []struct {
		name   string
		change func(footer *sparseHeader, b []byte)
		kind   diskimage.ErrorKind
		field  string
	}{
		{name: "sound", change: func(*sparseHeader, []byte) {}},
		{"capacity", func(f *sparseHeader, _ []byte) { f.capacity++ }, diskimage.ErrCorrupt, "footer: capacity"},
		{"descriptor", func(f *sparseHeader, _ []byte) { f.descriptorSize = 3 }, diskimage.ErrCorrupt, "footer: descriptorSize"},
		{"directory at the end", func(f *sparseHeader, _ []byte) { f.gdOffset = gdAtEnd }, diskimage.ErrCorrupt, "footer: gdOffset"},
		{"directory beyond the end", func(f *sparseHeader, _ []byte) { f.gdOffset = 500 }, diskimage.ErrTruncated, "header: gdOffset"},
		{"no header", func(_ *sparseHeader, b []byte) { b[sectorSize] = 'X' }, diskimage.ErrCorrupt, "footer: magicNumber"},
		{"other marker", func(_ *sparseHeader, b []byte) { b[offMarkerType] = markerGD }, diskimage.ErrTruncated, "footer"},
		{"no end of stream", func(_ *sparseHeader, b []byte) { b[2*sectorSize] = 1 }, diskimage.ErrTruncated, "footer"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := h
			f.gdOffset = 26
			end := make([]byte, footerSectors*sectorSize)
			c.change(&f, make([]byte, len(end)))
			marker{val: 1, kind: markerFooter}.encode(end)
			copy(end[sectorSize:], f.encode())
			c.change(&sparseHeader{}, end)
			file := append(h.encode(), make([]byte, 127*sectorSize)...)
			got, err := readHeader(source(append(file, end...)))
			if c.kind == "" {
				require.NoError(t, err)
				require.EqualValues(t, 26, got.gdOffset)
				return
			}
			require.ErrorIs(t, err, c.kind)
			var e *diskimage.Error
			require.ErrorAs(t, err, &e)
			require.Equal(t, c.field, e.Field)
		})
	}
}
