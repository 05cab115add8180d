package vmdk_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/internal/disktest"
	"github.com/diskimage-go/diskimage/internal/imagetest"
	"github.com/diskimage-go/diskimage/vmdk"
)

// A folder opens the files that lie beside an image, and records what it is
// asked for.
type folder struct {
	files map[string][]byte
	asked []string
}

// folderOf returns the folder that a case's image lies in.
func folderOf(c imagetest.Case, file []byte) *folder {
	f := &folder{files: map[string][]byte{}}
	if c.File != "" {
		f.files[c.File] = file
	}
	for name, build := range c.Files {
		f.files[name] = build()
	}
	return f
}

func (f *folder) OpenSource(_ context.Context, ref diskimage.Reference) (diskimage.Source, error) {
	f.asked = append(f.asked, ref.Name)
	b, ok := f.files[ref.Name]
	if !ok {
		return nil, &fs.PathError{Op: "open", Path: ref.Name, Err: fs.ErrNotExist}
	}
	return imagetest.Source(b), nil
}

func (f *folder) OpenDisk(ctx context.Context, ref diskimage.Reference) (diskimage.VirtualDisk, error) {
	src, err := f.OpenSource(ctx, ref)
	if err != nil {
		return nil, err
	}
	return vmdk.Open(ctx, src, vmdk.Options{Name: ref.Name, Opener: f, Depth: ref.Depth})
}

// TestEveryRow holds that each row of the list has an image.
func TestEveryRow(t *testing.T) {
	rows := make(map[string]bool)
	for _, c := range imagetest.VMDKCases() {
		rows[c.ID] = true
	}
	for n := 1; n <= 37; n++ {
		switch n {
		case 9, 10, 20, 32: // there are none of these numbers
		default:
			require.True(t, rows[fmt.Sprintf("V%02d", n)], n)
		}
	}
	require.Len(t, rows, 33)
}

// TestHostileInput reads every row of the list of hostile input, and nothing
// of it may read well that should not.
func TestHostileInput(t *testing.T) {
	for _, c := range imagetest.VMDKCases() {
		t.Run(c.ID+" "+c.Name, func(t *testing.T) {
			file := c.Build()
			disktest.Bounded(t, func() { readCase(t, c, file) })
		})
	}
}

func readCase(t *testing.T, c imagetest.Case, file []byte) {
	beside := folderOf(c, file)
	o := vmdk.Options{Name: c.File}
	if c.Allow {
		o.Opener = beside
	}
	d, err := vmdk.Open(t.Context(), imagetest.Source(file), o)
	if c.Kind != "" && c.Stage == imagetest.AtOpen {
		imagetest.RequireError(t, c, vmdk.Name, err)
		return
	}
	require.NoError(t, err)
	defer d.Close()
	if c.Stage == imagetest.AtMap {
		imagetest.RequireError(t, c, vmdk.Name, d.CheckMap())
		return
	}
	if c.Stage == imagetest.AtRead {
		_, err = d.ReadAt(make([]byte, 512), c.Guest)
		imagetest.RequireError(t, c, vmdk.Name, err)
		if strings.HasPrefix(c.Field, "grain ") { // else it is the grain itself, which no table tells
			imagetest.RequireError(t, c, vmdk.Name, disktest.TryWalk(d))
			imagetest.RequireError(t, c, vmdk.Name, d.CheckMap())
		}
		return
	}
	require.NoError(t, d.CheckMap())
	require.NoError(t, disktest.TryWalk(d))
	content := make([]byte, d.Size())
	_, err = d.ReadAt(content, 0)
	require.NoError(t, err)
	require.Equal(t, imagetest.VMDKBase().Guest, content)
	var notes []string
	for _, n := range d.Notes() {
		notes = append(notes, n.String())
	}
	if c.Note != "" {
		require.NotEmpty(t, notes)
		require.Contains(t, strings.Join(notes, "\n"), c.Note)
	} else {
		require.Empty(t, notes)
	}
	require.Empty(t, beside.asked)
}

// TestHostileStreams reads every row of the list that is one file front to back.
// What is refused at random access is refused here too, and what is not gives
// the same disk or is refused for its layout: that of a plain extent, or grains
// that are out of order.
func TestHostileStreams(t *testing.T) {
	for _, c := range imagetest.VMDKCases() {
		if c.Allow || c.Kind == diskimage.ErrExternal {
			continue // other files are not what a stream can have
		}
		t.Run(c.ID+" "+c.Name, func(t *testing.T) {
			file := c.Build()
			disktest.Bounded(t, func() {
				got, err := readStream(t, bytes.NewReader(file), false)
				switch {
				case c.Kind != "":
					require.Error(t, err)
					var e *diskimage.Error // else it is the decoder's
					if errors.As(err, &e) && e.Kind != diskimage.ErrUnsupported {
						require.Equal(t, c.Kind, e.Kind, "%v", err)
					}
				case c.ID == "V37":
					require.ErrorIs(t, err, diskimage.ErrUnsupported)
					require.ErrorContains(t, err, "order")
					got, err = readStream(t, bytes.NewReader(file), true)
					require.NoError(t, err)
					fallthrough
				case err == nil:
					require.Equal(t, imagetest.VMDKBase().Guest, got)
				default:
					require.ErrorIs(t, err, diskimage.ErrUnsupported)
				}
			})
		})
	}
}
