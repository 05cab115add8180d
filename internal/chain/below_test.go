package chain

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage"
)

// flat is a disk of one data extent, or one that fails.
type flat struct {
	*bytes.Reader
	err error
}

func (f flat) Close() error    { return f.err }
func (f flat) CheckMap() error { return f.err }
func (f flat) Changed() error  { return f.err }

func (f flat) NextExtent(off int64) (diskimage.Extent, error) {
	return diskimage.Extent{Off: off, Len: f.Size() - off, Host: off}, f.err
}

type opener struct {
	disk diskimage.VirtualDisk
	err  error
}

func (o opener) OpenDisk(context.Context, diskimage.Reference) (diskimage.VirtualDisk, error) {
	return o.disk, o.err
}

func (o opener) OpenSource(context.Context, diskimage.Reference) (diskimage.Source, error) {
	return nil, o.err
}

func TestBelow(t *testing.T) {
	ctx := context.Background()
	b := Below{Format: "qcow2", Ref: diskimage.Reference{Name: "base", Role: diskimage.RoleBacking, Depth: 1}}

	_, err := b.Extent(0, 10)
	require.ErrorIs(t, err, diskimage.ErrExternal, "not opened")
	require.ErrorIs(t, b.Read(make([]byte, 1), 0), diskimage.ErrExternal, "not opened")
	require.ErrorIs(t, b.Open(ctx, nil), diskimage.ErrExternal)
	deep := b
	deep.Ref.Depth = diskimage.MaxDepth + 1
	require.ErrorIs(t, deep.Open(ctx, opener{}), diskimage.ErrLimit)
	failure := errors.New("no such file")
	require.EqualError(t, b.Open(ctx, opener{err: failure}), `qcow2: backing file "base": no such file`)
	require.Equal(t, At("vpc", b.Ref, failure).Error(), At("qcow2", b.Ref, At("vpc", b.Ref, failure)).Error(), "the innermost file is named")

	require.NoError(t, b.Open(ctx, opener{disk: flat{bytes.NewReader([]byte("0123456789")), nil}}))
	e, err := b.Extent(2, 5)
	require.NoError(t, err)
	require.Equal(t, diskimage.Extent{Off: 2, Len: 5, Host: 2, Depth: 1}, e)
	e, err = b.Extent(10, 5)
	require.NoError(t, err)
	require.Equal(t, diskimage.Extent{Off: 10, Len: 5, Kind: diskimage.Hole, Host: -1, Depth: 1}, e)
	p := []byte("xxxxxx")
	require.NoError(t, b.Read(p, 7))
	require.Equal(t, "789\x00\x00\x00", string(p))
	_, err = b.ReadStored(e, nil)
	require.Error(t, err)
	require.NoError(t, errors.Join(b.CheckMap(), b.Changed(), b.Close()))

	b.Disk = flat{bytes.NewReader(nil), failure}
	require.ErrorContains(t, b.CheckMap(), `backing file "base": no such file`)
	require.ErrorIs(t, b.Changed(), failure)
	require.ErrorIs(t, b.Close(), failure)
	require.ErrorIs(t, b.wrap(io.EOF), io.ErrUnexpectedEOF)
}

func TestNothingBelow(t *testing.T) {
	var b Below
	e, err := b.Extent(3, 4)
	require.NoError(t, err)
	require.Equal(t, diskimage.Extent{Off: 3, Len: 4, Kind: diskimage.Hole, Host: -1, Depth: 1}, e)
	p := []byte("xx")
	require.NoError(t, b.Read(p, 0))
	require.Equal(t, "\x00\x00", string(p))
	require.NoError(t, errors.Join(b.CheckMap(), b.Changed(), b.Close()))
}
