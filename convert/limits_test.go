package convert

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/internal/disktest"
	"github.com/diskimage-go/diskimage/internal/imagetest"
	"github.com/diskimage-go/diskimage/raw"
	"github.com/diskimage-go/diskimage/vmdk"
)

// noOpener is asked for nothing.
type noOpener struct{ t *testing.T }

func (o noOpener) OpenDisk(_ context.Context, ref diskimage.Reference) (diskimage.VirtualDisk, error) {
	o.t.Errorf("asked for %q", ref.Name)
	return nil, errors.New("asked")
}

func (o noOpener) OpenSource(_ context.Context, ref diskimage.Reference) (diskimage.Source, error) {
	o.t.Errorf("asked for %q", ref.Name)
	return nil, errors.New("asked")
}

// A disk larger than what the caller takes is refused when it is opened, by
// what its own file says: nothing else is opened for it.
func TestVirtualSizeAtOpening(t *testing.T) {
	differencing := imagetest.VHDBase().Bytes
	for name, c := range map[string]struct {
		file    []byte
		size    int64
		another bool // names one
	}{
		"raw":            {file: bytes.Repeat([]byte{1, 2}, 4096), size: 8192},
		"qcow2":          {file: imagetest.Base().Bytes, size: 256 << 10},
		"qcow2, backed":  {file: imagetest.QCOW2{Size: 1 << 40, Backing: "base"}.Build().Bytes, size: 1 << 40, another: true},
		"qcow2, no file": {file: imagetest.QCOW2{Size: 64 << 40}.Build().Bytes, size: 64 << 40},
		"vmdk":           {file: imagetest.VMDKBase().Bytes, size: -1},
		"vmdk, flat":     {file: []byte(flatDescriptor), size: 9 << 40, another: true},
		"vhd":            {file: differencing, size: -1},
		"ova":            {file: imagetest.BaseOVA().Build(), size: -1},
	} {
		t.Run(name, func(t *testing.T) {
			open := func(o OpenOptions) (diskimage.VirtualDisk, error) { return Open(t.Context(), source(c.file), o) }
			if c.size < 0 {
				d, err := open(OpenOptions{})
				require.NoError(t, err)
				c.size = d.Size()
			}
			_, err := open(OpenOptions{MaxVirtualSize: c.size - 1, Opener: noOpener{t}})
			require.ErrorIs(t, err, diskimage.ErrLimit)
			require.ErrorContains(t, err, fmt.Sprintf("virtual size: %d bytes, the limit is %d", c.size, c.size-1))
			if !c.another {
				d, err := open(OpenOptions{MaxVirtualSize: c.size, Opener: noOpener{t}})
				require.NoError(t, err)
				require.Equal(t, c.size, d.Size())
			}
			_, err = open(OpenOptions{MaxVirtualSize: -1})
			require.ErrorContains(t, err, "a limit of -1 bytes")
		})
	}
}

const flatDescriptor = `# Disk DescriptorFile
version=1
CID=fffffffe
parentCID=ffffffff
createType="monolithicFlat"
RW 19327352832 FLAT "disk-flat.vmdk" 0
`

// A stream is held to the limit where it says its size and where it does not.
func TestVirtualSizeOfStreams(t *testing.T) {
	v := imagetest.VMDK{Dialect: imagetest.Exported, Sectors: 2048}
	open := func(file []byte, limit int64) error {
		s, err := OpenStream(t.Context(), bytes.NewReader(file), OpenOptions{MaxVirtualSize: limit})
		for err == nil {
			_, err = s.NextBlock(make([]byte, 64<<10))
		}
		return err
	}
	for name, c := range map[string]struct {
		file []byte
		size int64
		says string
	}{
		"vmdk":          {v.Build().Bytes, 1 << 20, "1048576 bytes, the limit is 1048575"},
		"raw":           {bytes.Repeat([]byte{1}, 100_000), 100_000, "more than the limit of 99999 bytes"},
		"raw, 2 pieces": {bytes.Repeat([]byte{1}, 1<<20), 1 << 20, "more than the limit of 1048575 bytes"},
	} {
		require.Equal(t, io.EOF, open(c.file, c.size), name)
		require.Equal(t, io.EOF, open(c.file, 1<<63-1), name)
		err := open(c.file, c.size-1)
		require.ErrorIs(t, err, diskimage.ErrLimit, name)
		require.ErrorContains(t, err, "virtual size: "+c.says, name)
	}
}

// limitTargets are targets and the kinds that have several files.
func limitTargets() map[string]Options {
	all := maps.Clone(targets)
	for _, kind := range setKinds {
		all[kind.String()] = toVMDK(kind)
	}
	return all
}

// A conversion holds its source to the limit, and leaves nothing.
func TestVirtualSizeOfConversion(t *testing.T) {
	disktest.Alone(t)
	const size = 1 << 20
	d := patchworkDisk(3, size)
	ctx := t.Context()
	for name, o := range limitTargets() {
		dir := t.TempDir()
		into := filepath.Join(dir, "disk.vmdk")
		unsized := func() diskimage.Stream { return raw.NewStream(bytes.NewReader(d.content), -1) }
		sized := func() diskimage.Stream { return raw.NewStream(bytes.NewReader(d.content), size) }
		needsSize := o.Format == VMDK || o.Format == VHD
		for _, limit := range []int64{size, size - 1, 1} {
			o.MaxVirtualSize, o.Force, o.Workers = limit, true, 2
			check := func(_ *Report, err error) {
				t.Helper()
				if limit == size {
					require.NoError(t, err, name)
					return
				}
				require.ErrorIs(t, err, diskimage.ErrLimit, name)
				require.ErrorContains(t, err, fmt.Sprint(limit), name)
				require.Empty(t, names(t, dir), name)
			}
			check(ToFile(ctx, into, d, o))
			check(StreamToFile(ctx, into, sized(), o))
			if !needsSize {
				check(StreamToFile(ctx, into, unsized(), o))
			}
			if !o.several() {
				var pipe bytes.Buffer
				check(ToWriter(ctx, &pipe, d, o))
				require.Equal(t, limit == size, pipe.Len() > 0, name)
				var out memOutput
				check(ToOutput(ctx, &out, d, o))
				require.Equal(t, limit == size, out.writes > 0, name)
			}
			for base := range names(t, dir) {
				require.NoError(t, os.Remove(filepath.Join(dir, base)))
			}
		}
	}
	var pipe bytes.Buffer
	_, err := StreamToWriter(ctx, &pipe, raw.NewStream(bytes.NewReader(d.content), -1), Options{MaxVirtualSize: size - 1})
	require.ErrorIs(t, err, diskimage.ErrLimit)
	_, err = StreamToOutput(ctx, &memOutput{}, raw.NewStream(endless{}, -1), Options{MaxVirtualSize: size})
	require.ErrorIs(t, err, diskimage.ErrLimit)
	_, err = ToOutput(ctx, &memOutput{}, d, Options{MaxVirtualSize: -1})
	require.ErrorContains(t, err, "negative")
}

// endless reads as zeros.
type endless struct{}

func (endless) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// The image may have as many bytes as it is allowed, and not one more: in
// files, of which nothing is left, in memory and in a pipe, to which nothing
// went where the image is planned first.
func TestOutputSize(t *testing.T) {
	d := patchworkDisk(4, 2<<20+1000)
	ctx := t.Context()
	for name, o := range limitTargets() {
		if testing.Short() && (o.QCOW2.Compression != diskimage.Plain || o.QCOW2.ClusterSize != 0) {
			continue
		}
		dir := t.TempDir()
		into := filepath.Join(dir, "disk.vmdk")
		o.VMDK.FileName = "disk.vmdk"
		exact, err := MeasureExactly(ctx, d, o)
		require.NoError(t, err)
		for _, limit := range []int64{exact, exact - 1, 1} {
			o.MaxOutputSize, o.Force = limit, true
			check := func(_ *Report, err error) {
				t.Helper()
				if limit == exact {
					require.NoError(t, err, name)
					return
				}
				require.ErrorIs(t, err, diskimage.ErrLimit, name)
				require.ErrorContains(t, err, "output size: ", name)
				require.ErrorContains(t, err, "limit ", name)
				require.ErrorContains(t, err, fmt.Sprint(limit), name)
				require.Empty(t, names(t, dir), name)
			}
			for _, workers := range []int{1, 4} {
				o.Workers = workers
				check(ToFile(ctx, into, d, o))
				for base := range names(t, dir) {
					require.NoError(t, os.Remove(filepath.Join(dir, base)))
				}
				if o.several() {
					continue
				}
				var out memOutput
				check(ToOutput(ctx, &out, d, o))
				require.LessOrEqual(t, out.Size(), limit, name)
				if o.storesAll() && limit < d.Size() {
					require.Zero(t, out.writes, name)
				}
				var pipe bytes.Buffer
				check(ToWriter(ctx, &pipe, d, o))
				require.LessOrEqual(t, int64(pipe.Len()), limit, name)
				if o.Format == QCOW2 && limit < exact {
					require.Zero(t, pipe.Len(), name)
				}
			}
		}
	}
}

// Of a stream whose length is not known the limits are met on the way.
func TestOutputSizeOfStreams(t *testing.T) {
	content := patchworkDisk(5, 2<<20+1).content
	for name, o := range targets {
		if o.Format == VMDK || o.Format == VHD {
			continue // which need to know it
		}
		dir := t.TempDir()
		stream := func() diskimage.Stream { return raw.NewStream(bytes.NewReader(content), -1) }
		var out memOutput
		_, err := StreamToOutput(t.Context(), &out, stream(), o)
		require.NoError(t, err)
		o.MaxOutputSize = out.Size()
		_, err = StreamToFile(t.Context(), filepath.Join(dir, "fits"), stream(), o)
		require.NoError(t, err, name)
		require.NoError(t, os.Remove(filepath.Join(dir, "fits")))
		o.MaxOutputSize--
		_, err = StreamToFile(t.Context(), filepath.Join(dir, "does not"), stream(), o)
		require.ErrorIs(t, err, diskimage.ErrLimit, name)
		require.Empty(t, names(t, dir))
		if o.Format == Raw {
			var pipe bytes.Buffer
			_, err = StreamToWriter(t.Context(), &pipe, stream(), o)
			require.ErrorIs(t, err, diskimage.ErrLimit, name)
		}
	}
	kind := toVMDK(vmdk.StreamOptimized)
	kind.MaxOutputSize = 4096
	var pipe bytes.Buffer
	_, err := StreamToWriter(t.Context(), &pipe, raw.NewStream(bytes.NewReader(content), int64(len(content))), kind)
	require.ErrorIs(t, err, diskimage.ErrLimit)
	require.LessOrEqual(t, pipe.Len(), 4096)
}
