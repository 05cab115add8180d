//go:build unix

package main

import (
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// makeFIFO makes one, and adds it to the targets that are refused.
func makeFIFO(t *testing.T, cases map[string]string) {
	t.Helper()
	require.NoError(t, syscall.Mkfifo("fifo", 0o666))
	cases["fifo"] = "is a FIFO"
}
