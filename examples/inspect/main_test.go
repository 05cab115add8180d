package main

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestInspect(t *testing.T) {
	var b bytes.Buffer
	require.NoError(t, inspect(t.Context(), &b, "../../testdata/zlib.qcow2"))
	require.Contains(t, b.String(), "qcow2: version 3, clusters of 65536 bytes, 0 snapshots\n")
	require.NotContains(t, b.String(), ", 0 compressed")
	require.Error(t, inspect(t.Context(), &b, "main.go"), "text is no disk image")
}
