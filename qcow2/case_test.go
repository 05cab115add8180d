package qcow2_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/internal/disktest"
	"github.com/diskimage-go/diskimage/internal/imagetest"
	"github.com/diskimage-go/diskimage/qcow2"
)

// TestHostileInput reads every row of the list of hostile input, and nothing
// of it may read well that should not.
func TestHostileInput(t *testing.T) {
	for _, c := range imagetest.QCOW2Cases() {
		t.Run(c.ID+" "+c.Name, func(t *testing.T) {
			file := c.Build()
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
