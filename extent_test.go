package diskimage_test

import (
	"testing"

	"github.com/diskimage-go/diskimage"
	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
)

func TestExtentClip(t *testing.T) {
	plain := diskimage.Extent{Off: 100, Len: 50, Host: 1000}
	packed := diskimage.Extent{Off: 100, Len: 50, Stored: diskimage.Deflate, Host: 1000, HostLen: 20}
	hole := diskimage.Extent{Off: 100, Len: 50, Kind: diskimage.Hole, Host: -1}
	for name, c := range map[string]struct {
		in     diskimage.Extent
		off, n int64
		want   diskimage.Extent
	}{
		"all of it":                {plain, 0, 1000, plain},
		"exactly it":               {plain, 100, 50, plain},
		"its front":                {plain, 100, 10, diskimage.Extent{Off: 100, Len: 10, Host: 1000}},
		"its end":                  {plain, 140, 100, diskimage.Extent{Off: 140, Len: 10, Host: 1040}},
		"its middle":               {plain, 110, 5, diskimage.Extent{Off: 110, Len: 5, Host: 1010}},
		"a unit stays whole":       {packed, 110, 5, diskimage.Extent{Off: 110, Len: 5, Stored: diskimage.Deflate, Host: 1000, HostLen: 20}},
		"no host offset stays so":  {hole, 110, 5, diskimage.Extent{Off: 110, Len: 5, Kind: diskimage.Hole, Host: -1}},
		"starting before, cut off": {plain, 50, 60, diskimage.Extent{Off: 100, Len: 10, Host: 1000}},
	} {
		t.Run(name, func(t *testing.T) {
			require.Empty(t, cmp.Diff(c.want, c.in.Clip(c.off, c.n)))
		})
	}
}

func TestExtentContinues(t *testing.T) {
	e := diskimage.Extent{Off: 100, Len: 50, Host: 1000}
	next := diskimage.Extent{Off: 150, Len: 10, Host: 1050}
	require.True(t, e.Continues(next))
	for name, change := range map[string]func(e, next *diskimage.Extent){
		"a gap":               func(_, next *diskimage.Extent) { next.Off++ },
		"another kind":        func(_, next *diskimage.Extent) { next.Kind = diskimage.Zero },
		"another layer":       func(_, next *diskimage.Extent) { next.Depth = 1 },
		"another file":        func(_, next *diskimage.Extent) { next.File = 1 },
		"elsewhere":           func(_, next *diskimage.Extent) { next.Host += 512 },
		"nowhere known":       func(_, next *diskimage.Extent) { next.Host = -1 },
		"from nowhere known":  func(e, _ *diskimage.Extent) { e.Host = -1 },
		"a compressed unit":   func(_, next *diskimage.Extent) { next.Stored = diskimage.Zstd },
		"two units":           func(e, next *diskimage.Extent) { e.Stored, next.Stored = diskimage.Deflate, diskimage.Deflate },
		"behind a compressed": func(e, _ *diskimage.Extent) { e.Stored = diskimage.Deflate },
	} {
		t.Run(name, func(t *testing.T) {
			e, next := e, next
			change(&e, &next)
			require.False(t, e.Continues(next))
		})
	}
	e.Host, next.Host = -1, -1
	require.True(t, e.Continues(next), "both at no known place")
}

func TestExtentKinds(t *testing.T) {
	require.False(t, diskimage.Extent{Kind: diskimage.Data}.IsZero())
	require.True(t, diskimage.Extent{Kind: diskimage.Zero}.IsZero())
	require.True(t, diskimage.Extent{Kind: diskimage.Hole}.IsZero())
	require.EqualValues(t, 30, diskimage.Extent{Off: 10, Len: 20}.End())

	require.Equal(t, "data zero hole Kind(9)", join(diskimage.Data, diskimage.Zero, diskimage.Hole, diskimage.Kind(9)))
	require.Equal(t, "plain deflate zstd Encoding(9)",
		join(diskimage.Plain, diskimage.Deflate, diskimage.Zstd, diskimage.Encoding(9)))
}
