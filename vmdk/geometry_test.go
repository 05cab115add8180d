package vmdk

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestGeometryFor(t *testing.T) {
	const mib = 2048 // sectors
	tests := []struct {
		sectors   int64
		ide, scsi Geometry
	}{
		{1, Geometry{1, 16, 63}, Geometry{1, 64, 32}},
		{10 * mib, Geometry{20, 16, 63}, Geometry{10, 64, 32}},
		{1024*mib - 1, Geometry{2080, 16, 63}, Geometry{1023, 64, 32}},
		{1024 * mib, Geometry{2080, 16, 63}, Geometry{512, 128, 32}},
		{2048*mib - 1, Geometry{4161, 16, 63}, Geometry{1023, 128, 32}},
		{2048 * mib, Geometry{4161, 16, 63}, Geometry{261, 255, 63}},
		{16777216, Geometry{16383, 16, 63}, Geometry{1044, 255, 63}}, // VirtualBox's own: ide
		{20971520, Geometry{16383, 16, 63}, Geometry{1305, 255, 63}}, // Amazon's: lsilogic
		{33554432, Geometry{16383, 16, 63}, Geometry{2088, 255, 63}}, // VMware's: lsilogic
		{16383*16*63 - 1, Geometry{16382, 16, 63}, Geometry{1027, 255, 63}},
		{2 << 20 * mib, Geometry{16383, 16, 63}, Geometry{267349, 255, 63}},
		{sectorsMax, Geometry{16383, 16, 63}, Geometry{sectorsMax / 255 / 63, 255, 63}},
	}
	for _, test := range tests {
		require.Equal(t, test.ide, geometryFor(test.sectors, true), "ide, %d", test.sectors)
		require.Equal(t, test.scsi, geometryFor(test.sectors, false), "scsi, %d", test.sectors)
	}
}

func TestDescriptorGeometry(t *testing.T) {
	parse := func(lines ...string) *descriptor {
		d, err := parseDescriptor([]byte(minimal(append(lines, "RW 1 ZERO")...)), 0)
		require.NoError(t, err)
		return d
	}
	g, ok := parse(`ddb.geometry.heads="4"`, `ddb.geometry.sectors = "17"`, `ddb.Geometry.Cylinders = "301"`).geometry()
	require.True(t, ok)
	require.Equal(t, Geometry{301, 4, 17}, g)

	for _, value := range []string{"", "-1", "x", "9223372036854775808"} {
		_, ok = parse(`ddb.geometry.heads="4"`, `ddb.geometry.sectors = "17"`, `ddb.geometry.cylinders = "`+value+`"`).geometry()
		require.False(t, ok, "%q", value)
	}
	_, ok = parse(`ddb.geometry.heads="4"`).geometry()
	require.False(t, ok)
}
