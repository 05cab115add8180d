package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage/convert"
)

func TestStream(t *testing.T) {
	const source = "../../testdata/zlib.qcow2"
	var got bytes.Buffer
	require.NoError(t, stream(t.Context(), &got, source))

	disk, err := convert.OpenFile(t.Context(), source, convert.OpenOptions{})
	require.NoError(t, err)
	defer disk.Close()
	target := filepath.Join(t.TempDir(), "target.qcow2")
	_, err = convert.ToFile(t.Context(), target, disk, convert.Options{Format: convert.QCOW2})
	require.NoError(t, err)
	want, err := os.ReadFile(target)
	require.NoError(t, err)
	require.True(t, bytes.Equal(want, got.Bytes()), "a pipe gets what a file gets")
}
