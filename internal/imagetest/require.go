package imagetest

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage"
)

// RequireError fails t unless err, which a format's reader returned, is what c
// says of it.
func RequireError(t testing.TB, c Case, format string, err error) {
	t.Helper()
	require.ErrorIs(t, err, c.Kind)
	require.ErrorContains(t, err, c.Field)
	require.NotContains(t, err.Error(), "\n")
	var e *diskimage.Error
	require.True(t, errors.As(err, &e))
	require.Equal(t, c.Off, e.Off, "%v", err)
	require.Equal(t, format, e.Format)
}
