package qcow2_test

import (
	"errors"
	"io"
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
				requireError(t, c, err)
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
				requireError(t, c, err)
				if !strings.Contains(c.Name, "compressed data ") || c.Kind != diskimage.ErrCorrupt {
					requireError(t, c, walk(d))
				}
				return
			}
			require.NoError(t, walk(d))
		})
	}
}

// requireError holds err against what the case says of it.
func requireError(t *testing.T, c imagetest.Case, err error) {
	t.Helper()
	require.ErrorIs(t, err, c.Kind)
	require.ErrorContains(t, err, c.Field)
	require.NotContains(t, err.Error(), "\n")
	var e *diskimage.Error
	require.True(t, errors.As(err, &e))
	require.Equal(t, c.Off, e.Off, "%v", err)
	require.Equal(t, qcow2.Name, e.Format)
}

// walk asks for all extents.
func walk(d diskimage.VirtualDisk) error {
	for off := int64(0); ; {
		e, err := d.NextExtent(off)
		switch {
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		}
		if err := disktest.Check(e, off, d.Size()); err != nil {
			return err
		}
		off = e.End()
	}
}
