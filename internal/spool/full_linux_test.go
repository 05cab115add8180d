package spool_test

import (
	"crypto/rand"
	"io"
	"syscall"
	"testing"

	"github.com/diskimage-go/diskimage/internal/spool"
	"github.com/stretchr/testify/require"
)

// TestFull: a copy that does not fit is an error, and nothing is left of it.
func TestFull(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("spool", dir, "tmpfs", 0, "size=2m"); err != nil {
		t.Skipf("a small file system cannot be had: %v", err)
	}
	defer syscall.Unmount(dir, 0)
	_, err := spool.Fill(t.Context(), io.LimitReader(rand.Reader, 4<<20), dir)
	require.ErrorIs(t, err, syscall.ENOSPC)
	require.Empty(t, names(t, dir))
	f, err := spool.Fill(t.Context(), io.LimitReader(rand.Reader, 1<<20), dir)
	require.NoError(t, err)
	require.NoError(t, f.Close())
}
