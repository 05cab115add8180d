package qcow2_test

import (
	"context"
	"errors"
	"io"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/internal/disktest"
	"github.com/diskimage-go/diskimage/internal/imagetest"
	"github.com/diskimage-go/diskimage/qcow2"
)

// opener opens images in memory and keeps account.
type opener struct {
	files map[string][]byte
	asked []diskimage.Reference
	open  int
}

type counted struct {
	diskimage.Source
	o *opener
}

func (c counted) Close() error { c.o.open--; return nil }

func (o *opener) OpenSource(_ context.Context, ref diskimage.Reference) (diskimage.Source, error) {
	o.asked = append(o.asked, ref)
	b, ok := o.files[ref.Name]
	if !ok {
		return nil, errors.New("no such file")
	}
	o.open++
	return counted{imagetest.Source(b), o}, nil
}

func (o *opener) OpenDisk(ctx context.Context, ref diskimage.Reference) (diskimage.VirtualDisk, error) {
	src, err := o.OpenSource(ctx, ref)
	if err != nil {
		return nil, err
	}
	d, err := qcow2.Open(ctx, src, qcow2.Options{Name: ref.Name, Opener: o, Depth: ref.Depth})
	if err != nil {
		src.(io.Closer).Close()
		return nil, err
	}
	return d, nil
}

// overlay returns an image of n absent clusters over a backing file.
func overlay(name string, n int) shape {
	return shape{ClusterBits: 12, Backing: name, Clusters: make([]imagetest.Cluster, n),
		Extensions: []ext{{Type: imagetest.ExtBackingFormat, Data: []byte("qcow2")}}}
}

// TestBackingChain holds what openers are told, whose bytes are read, and that
// all is closed.
func TestBackingChain(t *testing.T) {
	top, middle := overlay("middle", 4), overlay("base", 3)
	middle.Clusters[1] = imagetest.Cluster{Kind: imagetest.Packed, Data: []byte("middle")}
	base := shape{ClusterBits: 12, Clusters: append(one(imagetest.Packed), imagetest.Cluster{Kind: imagetest.Plain, Data: []byte("hidden")})}
	o := &opener{files: map[string][]byte{"middle": middle.Build().Bytes, "base": base.Build().Bytes}}
	o.open++
	d, err := qcow2.Open(t.Context(), counted{imagetest.Source(top.Build().Bytes), o}, qcow2.Options{Name: "dir/top", Opener: o})
	require.NoError(t, err)
	require.Empty(t, cmp.Diff([]diskimage.Reference{
		{Name: "middle", Role: diskimage.RoleBacking, Format: "qcow2", From: "dir/top", Depth: 1},
		{Name: "base", Role: diskimage.RoleBacking, Format: "qcow2", From: "middle", Depth: 2},
	}, o.asked))
	want := make([]byte, 4<<12)
	copy(want, "guest data")
	copy(want[4096:], "middle")
	disktest.Conform(t, d, want)

	var got []diskimage.Extent
	for _, e := range disktest.Walk(t, d) {
		if e.Stored != diskimage.Plain {
			stored, err := d.ReadStored(e, nil)
			require.NoError(t, err)
			require.NotEmpty(t, stored.Stream)
			e.HostLen, e.Host = 0, 0
		}
		got = append(got, e)
	}
	require.Empty(t, cmp.Diff([]diskimage.Extent{
		{Off: 0, Len: 4096, Stored: diskimage.Deflate, Depth: 2},
		{Off: 4096, Len: 4096, Stored: diskimage.Deflate, Depth: 1},
		{Off: 8192, Len: 4096, Kind: diskimage.Hole, Depth: 2, Host: -1}, // base ends here
		{Off: 12288, Len: 4096, Kind: diskimage.Hole, Depth: 1, Host: -1},
	}, got))
	require.Equal(t, 3, o.open)
	require.NoError(t, d.Close())
	require.Zero(t, o.open)
}

// TestReferencesRefused holds what is not opened, and that nothing stays open.
func TestReferencesRefused(t *testing.T) {
	top := overlay("base", 4).Build().Bytes
	loop := &opener{files: map[string][]byte{"base": top}}
	_, err := qcow2.Open(t.Context(), imagetest.Source(top), qcow2.Options{Opener: loop})
	require.ErrorIs(t, err, diskimage.ErrLimit)
	require.Len(t, loop.asked, diskimage.MaxDepth)
	require.Less(t, len(err.Error()), 200, "one link is named, not all of them: %v", err)
	require.Zero(t, loop.open)

	_, err = qcow2.Open(t.Context(), imagetest.Source(top), qcow2.Options{Opener: &opener{}})
	require.ErrorContains(t, err, `backing file "base": no such file`)

	// A damaged image is told before anything is opened.
	bad := overlay("base", 4).Build()
	bad.Put32(imagetest.L1Size, 0)
	o := &opener{}
	_, err = qcow2.Open(t.Context(), imagetest.Source(bad.Bytes), qcow2.Options{Opener: o})
	require.ErrorIs(t, err, diskimage.ErrCorrupt)
	require.Empty(t, o.asked)

	// What is not opened does not read.
	d := openBytes(t, top, qcow2.Options{SkipExternal: true})
	require.Equal(t, "base", d.Info().BackingFile)
	require.Equal(t, "qcow2", d.Info().BackingFormat)
	_, err = d.ReadAt(make([]byte, 1), 0)
	require.ErrorIs(t, err, diskimage.ErrExternal)
	_, err = d.NextExtent(0)
	require.ErrorIs(t, err, diskimage.ErrExternal)

	// An error of the backing image says whose it is.
	broken := shape{ClusterBits: 12, Clusters: one(imagetest.Plain)}.Build()
	broken.SetL2(0, 1<<40)
	d = openBytes(t, top, qcow2.Options{Opener: &opener{files: map[string][]byte{"base": broken.Bytes}}})
	_, err = d.NextExtent(0)
	require.ErrorIs(t, err, diskimage.ErrTruncated)
	require.ErrorContains(t, err, `backing file "base"`)
	_, err = d.ReadAt(make([]byte, 1), 0)
	require.ErrorIs(t, err, diskimage.ErrTruncated)
	require.ErrorContains(t, err, `backing file "base"`)
}

// dataImage returns an image of three clusters in a data file: data, nothing,
// data; changed by change if that is not nil.
func dataImage(change func(m *imagetest.Image)) []byte {
	m := shape{ClusterBits: 12, Incompatible: 4, Clusters: []imagetest.Cluster{{Kind: imagetest.Zeros}, {}, {}},
		Extensions: []ext{{Type: imagetest.ExtDataFile, Data: []byte("data")}}}.Build()
	m.SetL2(0, imagetest.Copied) // at 0, which only COPIED tells from nothing
	m.SetL2(2, 2<<12|imagetest.Copied)
	if change != nil {
		change(m)
	}
	return m.Bytes
}

// TestDataFile reads clusters out of an external data file.
func TestDataFile(t *testing.T) {
	data := make([]byte, 3<<12)
	for i := range data {
		data[i] = byte(i>>12) + 1
	}
	want := append([]byte(nil), data...)
	clear(want[4096:8192])
	o := &opener{files: map[string][]byte{"data": data}}
	d := openBytes(t, dataImage(nil), qcow2.Options{Name: "a", Opener: o})
	require.Empty(t, cmp.Diff([]diskimage.Reference{{Name: "data", Role: diskimage.RoleDataFile, Format: "raw", From: "a", Depth: 1}}, o.asked))
	disktest.Conform(t, d, want)
	require.Empty(t, cmp.Diff([]diskimage.Extent{
		{Off: 0, Len: 4096, File: 1, Host: 0},
		{Off: 4096, Len: 4096, Kind: diskimage.Hole, Depth: 1, Host: -1},
		{Off: 8192, Len: 4096, File: 1, Host: 8192},
	}, disktest.Walk(t, d)))
	require.True(t, d.Info().HasDataFile)
	require.Equal(t, "data", d.Info().DataFile)

	// A map needs no data, reading does.
	d = openBytes(t, dataImage(nil), qcow2.Options{SkipExternal: true})
	require.NoError(t, disktest.TryWalk(d))
	_, err := d.ReadAt(make([]byte, 1), 0)
	require.ErrorIs(t, err, diskimage.ErrExternal)

	for _, c := range []struct {
		name   string
		data   []byte
		change func(m *imagetest.Image)
		kind   diskimage.ErrorKind
		text   string
	}{
		{"host offset is another", data, func(m *imagetest.Image) { m.SetL2(2, 1<<12|imagetest.Copied) }, diskimage.ErrCorrupt, "is not the guest offset"},
		{"COPIED without an offset", data, func(m *imagetest.Image) { m.SetL2(1, imagetest.Copied) }, diskimage.ErrCorrupt, "is not the guest offset"},
		{"compressed", data, func(m *imagetest.Image) { m.SetL2(1, imagetest.Compressed|4096) }, diskimage.ErrCorrupt, "with a data file"},
		{"data file too short", data[:8192], nil, diskimage.ErrTruncated, "end of the data file"},
		{"data file cut in a cluster", data[:12000], nil, diskimage.ErrTruncated, "end of the data file"},
	} {
		d := openBytes(t, dataImage(c.change), qcow2.Options{Opener: &opener{files: map[string][]byte{"data": c.data}}})
		err := disktest.TryWalk(d)
		require.ErrorIs(t, err, c.kind, c.name)
		require.ErrorContains(t, err, c.text)
	}
	nameless := shape{Incompatible: 4, Size: 1 << 20}.Build().Bytes
	_, err = qcow2.Open(t.Context(), imagetest.Source(nameless), qcow2.Options{Opener: o})
	require.ErrorIs(t, err, diskimage.ErrExternal)
	require.ErrorContains(t, err, "does not name it")

	// If the backing file cannot be opened, the data file is closed again.
	both := shape{Incompatible: 4, Size: 1 << 20, Backing: "none", Extensions: []ext{{Type: imagetest.ExtDataFile, Data: []byte("data")}}}.Build().Bytes
	o = &opener{files: map[string][]byte{"data": data}}
	_, err = qcow2.Open(t.Context(), imagetest.Source(both), qcow2.Options{Opener: o})
	require.ErrorContains(t, err, `backing file "none"`)
	require.Zero(t, o.open)
}
