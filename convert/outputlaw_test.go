package convert

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/internal/disktest"
	"github.com/diskimage-go/diskimage/raw"
)

// A law is what a lawOutput demands and how it behaves.
type law struct {
	ascending  bool
	zeroFilled bool
	slow       int // the write that takes as long as anything else goes on, from 1; 0: none
}

// A lawOutput holds what is written to the law of outputs: each byte once, the
// prefix whole and last, all else in ascending order, or nearly.
type lawOutput struct {
	law
	prefix int64 // -1: what is written at 0 when that is not the first

	mu       sync.Mutex
	data     []byte
	begun    []Range
	sealed   bool
	late     int64 // the most bytes behind a write that were written before it was done
	breaches []string
}

func (o *lawOutput) ZeroFilled() bool { return o.zeroFilled }

func (o *lawOutput) breach(format string, args ...any) {
	o.breaches = append(o.breaches, fmt.Sprintf(format, args...))
}

func (o *lawOutput) WriteAt(p []byte, off int64) (int, error) {
	if o.begin(p, off) == o.slow {
		for n := 0; n != o.calls(); time.Sleep(20 * time.Millisecond) {
			n = o.calls()
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	var behind int64
	for _, w := range o.begun {
		if w.Off > off && off >= o.prefix {
			behind += w.Len
		}
	}
	o.late = max(o.late, behind)
	return len(p), nil
}

func (o *lawOutput) calls() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.begun)
}

// begin keeps what is written and returns how many writes there were.
func (o *lawOutput) begin(p []byte, off int64) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	w := Range{off, int64(len(p))}
	end := off + w.Len
	if o.sealed {
		o.breach("a write at %#x after the prefix", off)
	}
	if o.prefix < 0 && off == 0 && len(o.begun) > 0 {
		o.prefix = end
	}
	if off < o.prefix {
		if o.sealed = true; off > 0 || end != o.prefix {
			o.breach("%d bytes at %#x inside the prefix of %d", w.Len, off, o.prefix)
		}
	}
	for _, other := range o.begun {
		if off < other.Off+other.Len && other.Off < end {
			o.breach("%v is written, and %v before", w, other)
		}
		if o.ascending && off >= o.prefix && off < other.Off {
			o.breach("%v is written after %v", w, other)
		}
	}
	if n := end - int64(len(o.data)); n > 0 {
		o.data = append(o.data, make([]byte, n)...)
	}
	copy(o.data[off:], p)
	o.begun = append(o.begun, w)
	return len(o.begun)
}

// require asserts that the law was kept, and that no gap was left if nothing
// says what is in gaps.
func (o *lawOutput) require(t *testing.T, name string) {
	t.Helper()
	require.Empty(t, o.breaches, name)
	require.Equal(t, o.prefix > 0, o.sealed, name)
	if !o.zeroFilled {
		var sum int64
		for _, w := range o.begun {
			sum += w.Len
		}
		require.EqualValues(t, len(o.data), sum, "%s: bytes that nobody wrote", name)
	}
}

// A truncatedLaw is one whose length can be set.
type truncatedLaw struct{ *lawOutput }

func (o truncatedLaw) Truncate(size int64) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if n := size - int64(len(o.data)); n >= 0 {
		o.data = append(o.data, make([]byte, n)...)
	} else {
		o.breach("cut at %#x", size)
	}
	return nil
}

// lawFiles makes the further files of a set.
type lawFiles struct {
	law
	mu  sync.Mutex
	all map[string]*lawOutput
}

func (f *lawFiles) Create(name string) (diskimage.Output, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.all[name] = &lawOutput{law: law{ascending: f.ascending, zeroFilled: f.zeroFilled}, prefix: -1}
	return f.all[name], nil
}

// measured returns how to measure what o makes.
func (o Options) measured() MeasureOptions {
	m := MeasureOptions{Format: o.Format, QCOW2: o.QCOW2, VMDK: o.VMDK, VHD: o.VHD}
	m.QCOW2.AllocateZeros, m.VMDK.AllocateZeros, m.VHD.AllocateZeros = o.AllocateZeros, o.AllocateZeros, o.AllocateZeros
	return m
}

// TestOutputLaw: every writer, with every option, writes each byte once and the
// prefix last. If it is to, it ascends; else no write is late by more than the
// batches in flight, however long one takes. The image is of the size that was
// foretold, and always of the same bytes.
func TestOutputLaw(t *testing.T) {
	disktest.Alone(t)
	d := patchworkDisk(21, 20<<20+512)
	const workers = 2
	for name, o := range limitTargets() {
		if testing.Short() && (o.QCOW2.Compression != diskimage.Plain || o.QCOW2.ClusterSize == 512) {
			continue
		}
		measured := o.measured()
		m, err := Measure(t.Context(), d, measured)
		require.NoError(t, err)
		unit, err := measured.unit(d.Size())
		require.NoError(t, err)
		var image []byte
		for _, how := range []law{
			{zeroFilled: true}, {zeroFilled: true, slow: 1}, {zeroFilled: true, slow: 2}, {zeroFilled: true, slow: 7},
			{ascending: true, slow: 2}, {ascending: true, zeroFilled: true},
		} {
			what := fmt.Sprintf("%s, ascending %v, slow %d", name, how.ascending, how.slow)
			set := &lawFiles{law: how, all: map[string]*lawOutput{}}
			o.Workers, o.Ascending, o.VMDK.FileName = workers, how.ascending, "disk.vmdk"
			if o.several() {
				o.VMDK.Creator = set
			}
			out := &lawOutput{law: how, prefix: m.Prefix}
			_, err := ToOutput(t.Context(), truncatedLaw{out}, d, o)
			require.NoError(t, err, what)
			out.require(t, what)
			require.LessOrEqual(t, out.late, 2*workers*(diskimage.BatchSize+diskimage.BatchSize/8)+16*unit, what)
			all := int64(len(out.data))
			for _, name := range slices.Sorted(maps.Keys(set.all)) {
				set.all[name].require(t, what+", "+name)
				all += int64(len(set.all[name].data))
			}
			require.LessOrEqual(t, all, m.Largest, what)
			if image == nil {
				image = out.data
			}
			require.True(t, bytes.Equal(image, out.data), what)
		}
	}
}

// TestOutputLawOfStreams: the same of a source that is read once.
func TestOutputLawOfStreams(t *testing.T) {
	d := patchworkDisk(22, 9<<20)
	for name, o := range targets {
		if o.Format == VMDK || o.Format == VHD || testing.Short() && o.QCOW2.Compression != diskimage.Plain {
			continue // which need to know the size
		}
		m, err := Measure(t.Context(), d, o.measured())
		require.NoError(t, err)
		for _, size := range []int64{-1, d.Size()} {
			out := &lawOutput{law: law{ascending: true}, prefix: m.Prefix}
			o.Ascending, o.Workers = true, 3
			_, err = StreamToOutput(t.Context(), out, raw.NewStream(bytes.NewReader(d.content), size), o)
			require.NoError(t, err, name)
			out.require(t, name)
			require.LessOrEqual(t, int64(len(out.data)), m.Largest, name)
		}
	}
}
