package vmdk_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/internal/disktest"
	"github.com/diskimage-go/diskimage/internal/imagetest"
	"github.com/diskimage-go/diskimage/vmdk"
)

// ExampleCheck counts what is wrong with an image in which two guest grains
// lie in one place.
func ExampleCheck() {
	image := imagetest.VMDKBase()
	image.SetGTE(1, image.Get32(image.GTE(0)))
	result, err := vmdk.Check(context.Background(), imagetest.Source(image.Bytes), vmdk.CheckOptions{
		Report: func(f vmdk.Finding) { fmt.Printf("%s: %s\n", f.Kind, f.Text) },
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("leaks:", result.Leaks, "corruptions:", result.Corruptions)
	// Output:
	// corruption: ERROR grain table 0: entry 1 at 0x2c04: the grain at sector 32 overlaps another grain
	// leak: Leaked: nothing refers to the 16 sectors at 0x6000
	// leaks: 1 corruptions: 1
}

// check checks an image, and returns the text of what is found too.
func check(t *testing.T, file []byte, o vmdk.CheckOptions) (*vmdk.CheckResult, []string, error) {
	t.Helper()
	var lines []string
	o.Report = func(f vmdk.Finding) { lines = append(lines, f.Text) }
	r, err := vmdk.Check(t.Context(), imagetest.Source(file), o)
	if err == nil {
		require.EqualValues(t, len(lines), r.Leaks+r.Corruptions+r.CheckErrors)
	}
	return r, lines, err
}

// TestCheckCases holds Check against the list of hostile input.
func TestCheckCases(t *testing.T) {
	for _, c := range imagetest.VMDKCases() {
		t.Run(c.ID+" "+c.Name, func(t *testing.T) {
			file := c.Build()
			o := vmdk.CheckOptions{Name: c.File}
			beside := folderOf(c, file)
			if c.Allow {
				o.Opener = beside
			}
			disktest.Bounded(t, func() {
				r, lines, err := check(t, file, o)
				switch c.Check {
				case imagetest.Refused:
					imagetest.RequireError(t, c, vmdk.Name, err)
				case imagetest.Sound:
					require.NoError(t, err)
					require.Empty(t, lines)
				case imagetest.Corrupt:
					require.NoError(t, err)
					require.Positive(t, r.Corruptions)
				case imagetest.Unsaid:
					if err != nil {
						require.ErrorIs(t, err, c.Kind)
						break
					}
					o.Data = true
					r, _, err = check(t, file, o)
					require.NoError(t, err)
					require.Equal(t, c.Kind == diskimage.ErrCorrupt, r.Corruptions > 0, "data that is bad")
				}
			})
			if !c.Allow {
				require.Empty(t, beside.asked)
			}
		})
	}
}

// TestCheckShapes finds nothing wrong with what is sound.
func TestCheckShapes(t *testing.T) {
	disktest.Alone(t)
	for name, v := range imagetest.VMDKShapes() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := v.Build()
			r, lines, err := check(t, m.Bytes, vmdk.CheckOptions{Data: true})
			require.NoError(t, err)
			require.Empty(t, lines)
			allocated := int64(0)
			for _, off := range m.Data {
				if off != 0 {
					allocated++
				}
			}
			require.Equal(t, allocated, r.AllocatedGrains)
			require.EqualValues(t, len(m.Data), r.TotalGrains)
			end := int64(len(m.Bytes))
			if v.Dialect == imagetest.FrontIndex {
				end -= 512 // the end-of-stream marker: nothing refers to it
			}
			require.Equal(t, end, r.ImageEndOffset)
		})
	}
}

// TestCheckManyFindings counts more than it reports: each entry of a directory
// names the same table.
func TestCheckManyFindings(t *testing.T) {
	if disktest.Race {
		t.Skip("a million findings")
	}
	const tables = 1 << 20
	v := imagetest.VMDK{Grain: 8, NoRGD: true, Grains: make([]imagetest.Grain, 1)}
	v.Text.Extents = []string{fmt.Sprintf(`RW %d SPARSE "disk.vmdk"`, int64(tables*512*8))}
	m := v.Build()
	gd := int64(len(m.Bytes))
	m.Put64(imagetest.VMDKCapacity, tables*512*8)
	m.Put64(imagetest.VMDKGDOffset, uint64(gd/512))
	m.Bytes = append(m.Bytes, make([]byte, tables*4)...)
	for i := range int64(tables) {
		m.Put32(gd+i*4, uint32(m.GTs[0]/512))
	}
	start := time.Now()
	reported := 0
	r, err := vmdk.Check(t.Context(), imagetest.Source(m.Bytes), vmdk.CheckOptions{Report: func(vmdk.Finding) { reported++ }})
	require.NoError(t, err)
	require.Less(t, time.Since(start), 2*time.Second)
	require.EqualValues(t, tables-1, r.Corruptions)
	require.Equal(t, vmdk.MaxReported, reported)
}
