package qcow2_test

import (
	"bytes"
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/internal/disktest"
	"github.com/diskimage-go/diskimage/internal/imagetest"
	"github.com/diskimage-go/diskimage/qcow2"
)

// ExampleCheck counts what is wrong with an image in which two guest clusters
// lie in one host cluster.
func ExampleCheck() {
	image := imagetest.Base()
	image.SetL2(1, image.Get64(image.L2Entry(0)))
	src := diskimage.NewSource(bytes.NewReader(image.Bytes), int64(len(image.Bytes)))

	result, err := qcow2.Check(context.Background(), src, qcow2.CheckOptions{
		Report: func(f qcow2.Finding) { fmt.Printf("%s: %s\n", f.Kind, f.Text) },
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("leaks:", result.Leaks, "corruptions:", result.Corruptions)
	// Output:
	// corruption: ERROR cluster 5 refcount=1 reference=2
	// leak: Leaked cluster 6 refcount=1 reference=0
	// leaks: 1 corruptions: 1
}

// oneBacking opens one backing file.
type oneBacking []byte

func (b oneBacking) OpenDisk(ctx context.Context, ref diskimage.Reference) (diskimage.VirtualDisk, error) {
	return qcow2.Open(ctx, diskimage.NewSource(bytes.NewReader(b), int64(len(b))), qcow2.Options{Depth: ref.Depth})
}

func (oneBacking) OpenSource(context.Context, diskimage.Reference) (diskimage.Source, error) {
	return nil, diskimage.ErrExternal
}

// TestCheckMapChain finds the damage in the image below.
func TestCheckMapChain(t *testing.T) {
	top := imagetest.QCOW2{Backing: "base.qcow2", Size: 4 << 16, Clusters: []imagetest.Cluster{{}}}.Build().Bytes
	base := imagetest.Base()
	check := func() error {
		d, err := qcow2.Open(t.Context(), diskimage.NewSource(bytes.NewReader(top), int64(len(top))), qcow2.Options{Opener: oneBacking(base.Bytes)})
		require.NoError(t, err)
		return d.CheckMap()
	}
	require.NoError(t, check())
	base.SetL2(1, base.Get64(base.L2Entry(0)))
	err := check()
	require.ErrorIs(t, err, diskimage.ErrCorrupt)
	require.ErrorContains(t, err, `backing file "base.qcow2": qcow2: l2 table 0: entry 1`)
}

// TestCheckCases holds Check and CheckMap against the list of hostile input.
func TestCheckCases(t *testing.T) {
	disktest.Alone(t)
	for _, c := range imagetest.QCOW2Cases() {
		t.Run(c.ID+" "+c.Name, func(t *testing.T) {
			file := c.Build()
			src := diskimage.NewSource(bytes.NewReader(file), int64(len(file)))
			start := time.Now()
			var lines []string
			r, err := qcow2.Check(t.Context(), src, qcow2.CheckOptions{Report: func(f qcow2.Finding) { lines = append(lines, f.Text) }})
			require.Less(t, time.Since(start), 2*time.Second)
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
			case c.Stage == imagetest.AtMap:
				imagetest.RequireError(t, c, qcow2.Name, err)
			case c.Check == imagetest.Corrupt:
				require.ErrorIs(t, err, c.Kind)
				require.ErrorContains(t, err, c.Field)
			}
		})
	}
}
