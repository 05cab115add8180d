package qcow2_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/internal/imagetest"
	"github.com/diskimage-go/diskimage/qcow2"
)

// TestCheckCases holds Check and CheckMap against the list of hostile input.
func TestCheckCases(t *testing.T) {
	for _, c := range imagetest.QCOW2Cases() {
		t.Run(c.ID+" "+c.Name, func(t *testing.T) {
			file := c.Build()
			src := diskimage.NewSource(bytes.NewReader(file), int64(len(file)))
			start := time.Now()
			var lines []string
			r, err := qcow2.Check(t.Context(), src, qcow2.CheckOptions{Report: func(f qcow2.Finding) { lines = append(lines, f.Text) }})
			require.Less(t, time.Since(start), 5*time.Second)
			switch c.Check {
			case imagetest.Refused:
				require.ErrorIs(t, err, c.Kind)
				require.ErrorContains(t, err, c.Field)
			case imagetest.Sound:
				require.NoError(t, err)
				require.Empty(t, lines)
				require.Zero(t, r.Leaks+r.Corruptions+r.CheckErrors)
			case imagetest.Corrupt:
				require.NoError(t, err)
				require.Positive(t, r.Corruptions)
				require.NotEmpty(t, lines)
			case imagetest.Unsaid:
				require.NoError(t, err)
			}
			d, err := qcow2.Open(t.Context(), src, qcow2.Options{SkipExternal: true})
			if err != nil {
				require.NotEqual(t, imagetest.Sound, c.Check)
				return
			}
			err = d.CheckMap()
			switch {
			case c.Kind == "" || c.Kind == diskimage.ErrExternal:
				require.NoError(t, err)
			case c.Stage == imagetest.AtMap || c.Check == imagetest.Corrupt:
				require.ErrorIs(t, err, c.Kind)
				require.ErrorContains(t, err, c.Field)
			}
		})
	}
}
