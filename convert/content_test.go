package convert

import (
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/internal/disktest"
	"github.com/diskimage-go/diskimage/internal/imagetest"
)

// TestHostileContents reads the rows of the list of hostile input that are about
// what a file's content is: each is refused as it should be, by Detect already
// where the file itself is not to be read, or it is a raw disk.
func TestHostileContents(t *testing.T) {
	for _, c := range imagetest.ContentCases() {
		t.Run(c.ID+" "+c.Name, func(t *testing.T) {
			src := source(c.Build())
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			start := time.Now()
			d, err := Open(t.Context(), src, OpenOptions{})
			runtime.ReadMemStats(&after)
			require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(1<<20))
			if !disktest.Race {
				require.Less(t, time.Since(start), 2*time.Second)
			}
			if c.Kind != "" {
				require.ErrorIs(t, err, c.Kind)
				require.ErrorContains(t, err, c.Field)
				var e *diskimage.Error
				require.True(t, errors.As(err, &e))
				require.Equal(t, c.Off, e.Off)
				_, detectErr := Detect(src)
				require.Equal(t, c.Kind == diskimage.ErrExternal, detectErr == nil)
				return
			}
			require.NoError(t, err)
			require.Equal(t, Raw, FormatOf(d))
			require.Equal(t, src.Size(), d.Size())
			r, err := ToFile(t.Context(), filepath.Join(t.TempDir(), "target"), d, Options{Format: QCOW2})
			require.NoError(t, err)
			require.Equal(t, c.Note != "", len(r.Notes) > 0)
			require.Contains(t, fmt.Sprint(r.Notes), c.Note)
		})
	}
}
