package disktest

import (
	"bytes"
	"errors"
	"io"
	"runtime"
	"sync/atomic"
	"testing"

	"github.com/diskimage-go/diskimage"
	"github.com/stretchr/testify/require"
)

// disk is a right one: data, zeros, and a hole at the end. Each fault breaks
// one law.
type disk struct {
	p     []byte
	fault string
	reads atomic.Int64
}

const part = 10_000 // bytes of each of its three extents

func newDisk(fault string) *disk {
	p := bytes.Repeat([]byte{1, 2, 3}, part)
	clear(p[part:])
	return &disk{p: p, fault: fault}
}

func (d *disk) Close() error { return nil }

func (d *disk) Size() int64 {
	if d.fault == "size" {
		return int64(len(d.p)) - 1
	}
	return int64(len(d.p))
}

func (d *disk) ReadAt(p []byte, off int64) (int, error) {
	reads := d.reads.Add(1)
	switch {
	case off < 0 && d.fault == "EOF before the disk":
		return 0, io.EOF
	case off < 0:
		return 0, errors.New("negative")
	case off >= d.Size() && d.fault == "zeros after the end":
		clear(p)
		return len(p), nil
	case off >= d.Size():
		return 0, io.EOF
	}
	n := copy(p, d.p[off:])
	switch {
	case n < len(p) && d.fault == "no EOF":
		return n, nil
	case n < len(p):
		return n, io.EOF
	case d.fault == "zeros not written" && off >= part:
		for i := range p {
			p[i] = 0xa5
		}
	case d.fault == "odd offsets" && off%512 != 0:
		p[0]++
	case d.fault == "early EOF" && off+int64(n) > part/2:
		return n, io.EOF
	case d.fault == "short" && n > 4096:
		return 4096, nil
	case d.fault == "beyond p" && cap(p) > len(p):
		p[:len(p)+1][len(p)] = 0
	case d.fault == "now and then" && reads > 150 && reads%50 == 0:
		p[n-1]++
	}
	return n, nil
}

func (d *disk) NextExtent(off int64) (diskimage.Extent, error) {
	switch {
	case off == d.Size() && d.fault == "no end of extents":
		return diskimage.Extent{}, errors.New("outside")
	case off == d.Size():
		return diskimage.Extent{}, io.EOF
	case (off < 0 || off > d.Size()) && d.fault == "EOF outside":
		return diskimage.Extent{}, io.EOF
	case off < 0 || off > d.Size():
		return diskimage.Extent{}, errors.New("outside")
	}
	i := off / part
	e := diskimage.Extent{Off: off, Len: (i+1)*part - off, Host: off}
	e.Kind = diskimage.Kind(i)
	if e.Kind == diskimage.Hole {
		e.Host, e.Depth = -1, 1
	}
	switch d.fault {
	case "empty":
		e.Len = 0
	case "too long":
		e.Len += part
	case "elsewhere":
		e.Off++
	case "from its start":
		e.Off = i * part
		e.Len = part
	case "lies":
		e.Kind = diskimage.Zero
	case "kind":
		e.Kind += 3
	case "compressed zeros":
		e.Stored = diskimage.Zstd
	case "depth":
		e.Depth = -1
	case "host":
		e.Host = -2
	case "host length":
		e.HostLen = 1
	case "changes its mind":
		if off%2 == 1 {
			e.Depth++
		}
	case "host of the start":
		if e.Kind == diskimage.Data {
			e.Host = 0
		}
	}
	return e, nil
}

// failed runs f on a T of its own and reports whether it failed.
func failed(f func(t testing.TB)) bool {
	rec := &recorder{}
	done := make(chan struct{})
	go func() {
		defer close(done)
		f(rec)
	}()
	<-done
	return rec.failed.Load()
}

// A recorder is a testing.TB that only notes failing.
type recorder struct {
	testing.TB
	failed atomic.Bool
}

func (r *recorder) Helper()               {}
func (r *recorder) Name() string          { return "recorder" }
func (r *recorder) Errorf(string, ...any) { r.failed.Store(true) }
func (r *recorder) FailNow()              { r.failed.Store(true); runtime.Goexit() }
func (r *recorder) Fatalf(string, ...any) { r.FailNow() }
func (r *recorder) Failed() bool          { return r.failed.Load() }

func TestRightDiskConforms(t *testing.T) {
	d := newDisk("")
	ConformHost(t, d, d.p, func(int, int) io.ReaderAt { return bytes.NewReader(d.p) })
	Conform(t, &disk{}, nil)
}

// TestEveryFaultIsFound: the suite fails for each broken law.
func TestEveryFaultIsFound(t *testing.T) {
	for _, fault := range []string{
		"size", "EOF before the disk", "zeros after the end", "no EOF", "zeros not written", "odd offsets", "early EOF",
		"short", "beyond p", "now and then", "no end of extents", "EOF outside", "empty", "too long", "elsewhere",
		"from its start", "lies", "kind", "compressed zeros", "depth", "host", "host length",
		"changes its mind", "host of the start",
	} {
		d := newDisk(fault)
		require.True(t, failed(func(t testing.TB) { Conform(t, d, newDisk("").p) }), fault)
	}
	d, other := newDisk(""), newDisk("")
	other.p[17]++
	require.True(t, failed(func(t testing.TB) { Conform(t, d, other.p) }), "other bytes")
	require.True(t, failed(func(t testing.TB) {
		ConformHost(t, d, d.p, func(int, int) io.ReaderAt { return bytes.NewReader(other.p) })
	}), "other bytes in the host's file")
	require.True(t, failed(func(t testing.TB) {
		ConformHost(t, d, d.p, func(int, int) io.ReaderAt { return bytes.NewReader(d.p[:part-1]) })
	}), "a host's file that is too short")
}
