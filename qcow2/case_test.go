package qcow2_test

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/internal/disktest"
	"github.com/diskimage-go/diskimage/internal/imagetest"
	"github.com/diskimage-go/diskimage/qcow2"
)

// TestEveryRow asserts that each QCOW2 row of the list of hostile input has a
// fixture.
func TestEveryRow(t *testing.T) {
	rows := make(map[string]bool)
	for _, c := range imagetest.QCOW2Cases() {
		rows[c.ID] = true
	}
	for n := 1; n <= 57; n++ {
		switch n {
		case 13, 38, 43, 46, 48: // there are none of these numbers
		default:
			require.True(t, rows[fmt.Sprintf("Q%02d", n)], n)
		}
	}
	require.Len(t, rows, 52)
}

// bounded calls f, which is to take less than two seconds and allocate less
// than 64 MiB and a few clusters, all that it gives up again included.
func bounded(t *testing.T, f func()) {
	t.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	start := time.Now()
	f()
	require.Less(t, time.Since(start), 2*time.Second)
	runtime.ReadMemStats(&after)
	require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(64<<20+4*(2<<20)))
}

// TestHostileInput reads every row of the list of hostile input, and nothing
// of it may read well that should not. To open, to check and to read the map of
// any of them takes little time and memory.
func TestHostileInput(t *testing.T) {
	disktest.Alone(t)
	for _, c := range imagetest.QCOW2Cases() {
		t.Run(c.ID+" "+c.Name, func(t *testing.T) {
			file := c.Build()
			bounded(t, func() {
				_, _ = qcow2.Check(t.Context(), imagetest.Source(file), qcow2.CheckOptions{})
				if d, err := qcow2.Open(t.Context(), imagetest.Source(file), qcow2.Options{}); err == nil {
					_ = d.CheckMap()
					_ = disktest.TryWalk(d)
				}
			})
			d, err := qcow2.Open(t.Context(), imagetest.Source(file), qcow2.Options{})
			if c.Kind != "" && c.Stage == imagetest.AtOpen {
				imagetest.RequireError(t, c, qcow2.Name, err)
				return
			}
			require.NoError(t, err)
			defer d.Close()
			var notes []string
			for _, n := range d.Notes() {
				notes = append(notes, n.String())
			}
			switch {
			case c.Note != "":
				require.Len(t, notes, 1)
				require.Contains(t, notes[0], c.Note)
			default:
				require.Empty(t, notes)
			}
			if c.Stage == imagetest.AtRead {
				_, err = d.ReadAt(make([]byte, 512), c.Guest)
				imagetest.RequireError(t, c, qcow2.Name, err)
				if !strings.Contains(c.Name, "compressed data ") || c.Kind != diskimage.ErrCorrupt {
					imagetest.RequireError(t, c, qcow2.Name, disktest.TryWalk(d))
				}
				return
			}
			require.NoError(t, disktest.TryWalk(d))
		})
	}
}
