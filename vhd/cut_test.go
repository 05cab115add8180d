package vhd

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/internal/imagetest"
)

// TestCut cuts images of every kind at every sector and a byte beside it. Each is
// refused before any of its data is read: when it is opened, which is told to
// be a cut where enough is left to know it by.
func TestCut(t *testing.T) {
	opener := files{"base.vhd": imagetest.VHDBase().Bytes}
	for name, f := range flippedImages(t) {
		m := f.image
		for at := int64(0); at < int64(len(m.Bytes)); at += sectorSize {
			for _, n := range []int64{at, at + 1, at + 300, at + sectorSize - 1} {
				if n >= int64(len(m.Bytes)) {
					continue
				}
				file := m.Bytes[:n]
				d, err := Open(t.Context(), source(file), Options{Opener: opener})
				if err == nil && n == m.Footer+oldFooterLen {
					// What is left is a footer of old, and all that it says.
					want := look(t, m.Bytes, opener, view{})
					require.Equal(t, want, look(t, file, opener, view{}), name)
					require.NoError(t, d.CheckMap())
					continue
				}
				var e *diskimage.Error
				require.True(t, errors.As(err, &e), "%s cut to %d: %v", name, n, err)
				switch {
				case m.Header > 0 && n > footerLen:
					require.Equal(t, diskimage.ErrTruncated, e.Kind, "%s cut to %d: %v", name, n, err)
				case m.Header > 0 && n >= oldFooterLen: // the copy is all there is
					require.Equal(t, diskimage.ErrCorrupt, e.Kind, "%s cut to %d: %v", name, n, err)
				default:
					require.Equal(t, diskimage.ErrFormat, e.Kind, "%s cut to %d: %v", name, n, err)
				}
			}
		}
	}
}
