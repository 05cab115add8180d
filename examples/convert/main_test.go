package main

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage/convert"
)

func TestToQCOW2(t *testing.T) {
	const source = "../../testdata/zstd.qcow2.gz"
	target := filepath.Join(t.TempDir(), "target.qcow2")
	_, err := toQCOW2(t.Context(), source, target)
	require.ErrorContains(t, err, "gzip")
	require.NoFileExists(t, target)

	report, err := toQCOW2(t.Context(), "../../testdata/zlib.qcow2", target)
	require.NoError(t, err)
	require.True(t, report.Verified)
	a, err := convert.OpenFile(t.Context(), "../../testdata/zlib.qcow2", convert.OpenOptions{})
	require.NoError(t, err)
	defer a.Close()
	b, err := convert.OpenFile(t.Context(), target, convert.OpenOptions{})
	require.NoError(t, err)
	defer b.Close()
	same, err := convert.Compare(t.Context(), a, b, convert.CompareOptions{})
	require.NoError(t, err)
	require.True(t, same.Identical)
}
