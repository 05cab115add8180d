package vmdk

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/internal/disktest"
)

// singleFile is options of every kind of image that is one file.
var singleFile = []WriterOptions{
	{},
	{GrainSize: 4 << 10},
	{GrainSize: 2 << 20, Adapter: LSILogic},
	{ZeroedGrains: true, AllocateZeros: true},
	{ParentHint: "parent.vmdk", ParentCID: 7},
	{ParentHint: "parent.vmdk", ZeroedGrains: true},
	{Subformat: StreamOptimized},
	{Subformat: StreamOptimized, Level: 9, Adapter: BusLogic, HWVersion: 13},
	{Subformat: StreamOptimized, AllocateZeros: true},
}

// The bytes are the same however many batches are in flight, and each is
// written once.
func TestWriterOrder(t *testing.T) {
	for _, o := range singleFile {
		guest := guestData(5<<20+700, max(o.GrainSize, 4<<10), mix{6, 2}, 3)
		if !o.AllocateZeros && !testing.Short() { // the second half goes to another grain table
			guest = slices.Concat(guest[:3<<20], make([]byte, 29<<20), guest[3<<20:])
		}
		want := build(t, o, guest)
		o.Size = int64(len(guest))
		for _, inFlight := range []int{2, 8} {
			r := record(t, o)
			_, err := drive(r, o, guest, inFlight, uint64(inFlight))
			require.NoError(t, err)
			require.True(t, bytes.Equal(want, r.whole(t)), "%+v with %d batches", o, inFlight)
		}
		require.Zero(t, len(want)%sectorSize)
	}
}

// TestWriterGolden holds the bytes of some images fast: they are the same on
// every machine. A change of the encoder changes the compressed ones; nothing
// else may.
func TestWriterGolden(t *testing.T) {
	want := []string{
		"22b325031ce8d723", "762c57bc10638deb", "6d5fd9c64721c944", "a973c3864b462f7b", "e0ee59f0c40734ed", "307c2110b2deb17c",
		"adedbcb31c1dfaf1", "171dd293bbdbf4c5", "2a208b49778a11ac",
	}
	for i, o := range singleFile {
		img := build(t, o, guestData(4<<20+513, max(o.GrainSize, 4<<10), mixed, 17))
		sum := sha256.Sum256(img)
		if got := hex.EncodeToString(sum[:8]); got != want[i] {
			t.Errorf("digest %s, not %s, of %+v", got, want[i], o)
		}
	}
}

// A pipe is served in one pass where the image has no prefix, else in two: the
// first keeps the prefix only, the second emits it and what follows in order.
func TestWriterPasses(t *testing.T) {
	for _, o := range singleFile {
		guest := guestData(3<<20+512, 64<<10, mixed, 23)
		want := build(t, o, guest)
		o.Size = int64(len(guest))
		first := pass{prefix: record(t, o).prefix}
		if first.prefix > 0 {
			_, err := drive(&first, o, guest, 2, 2)
			require.NoError(t, err)
			require.Len(t, first.front, int(first.prefix))
		}
		second := pass{prefix: first.prefix, ordered: true, pipe: bytes.Clone(first.front)}
		_, err := drive(&second, o, guest, 1, 3)
		require.NoError(t, err)
		require.Zero(t, second.skipped)
		require.True(t, bytes.Equal(want, second.pipe), "%+v", o)
	}
}

// A pass is an Output that keeps the prefix, and what comes in order.
type pass struct {
	prefix      int64
	front, pipe []byte
	ordered     bool
	skipped     int
}

func (p *pass) WriteAt(b []byte, off int64) (int, error) {
	switch {
	case off < p.prefix:
		p.front = bytes.Clone(b)
	case !p.ordered:
	case off == int64(len(p.pipe)):
		p.pipe = append(p.pipe, b...)
	default:
		p.skipped++
	}
	return len(b), nil
}

// Batches of zeros, and ranges that no batch covers, leave no trace.
func TestWriterZerosLeaveNoTrace(t *testing.T) {
	const size = 40 << 20
	guest := make([]byte, size)
	copy(guest[36<<20:], guestData(200<<10, 64<<10, allSoft, 2))
	guest[3] = 1
	for _, kind := range []Subformat{MonolithicSparse, StreamOptimized} {
		o := WriterOptions{Size: size, Subformat: kind}
		want := build(t, o, guest)
		r := record(t, o)
		w, err := NewWriter(r, o)
		require.NoError(t, err)
		for _, off := range []int64{0, 36 << 20} {
			b := w.NewBatch()
			b.Reset(off, diskimage.BatchSize)
			disktest.Fill(b, guest, w.Unit())
			step(t, w, b)
		}
		require.NoError(t, w.Finish(context.Background()))
		require.True(t, bytes.Equal(want, r.whole(t)), kind)
	}
}

// step takes a batch through the three steps.
func step(t testing.TB, w *Writer, b *diskimage.Batch) {
	require.NoError(t, w.Encode(b))
	require.NoError(t, w.Place(b))
	require.NoError(t, w.Store(context.Background(), b))
}

// Every write that fails, fails the image; and so does a cancelled context.
func TestWriterFaults(t *testing.T) {
	for _, o := range []WriterOptions{{GrainSize: 4096}, {Subformat: StreamOptimized}} {
		guest := guestData(2<<20+9000, 4096, mix{6, 3}, 11)
		o.Size = int64(len(guest))
		good := record(t, o)
		_, err := drive(good, o, guest, 2, 0)
		require.NoError(t, err)
		require.GreaterOrEqual(t, good.writes, 3)
		for n := 1; n <= good.writes; n++ {
			r := &recorder{prefix: good.prefix, failAt: n}
			w, err := drive(r, o, guest, 2, 0)
			require.ErrorIs(t, err, os.ErrDeadlineExceeded, "write %d", n)
			require.ErrorContains(t, err, "vmdk: writing ")
			require.False(t, r.sealed)
			require.Error(t, w.Finish(context.Background()))
		}

		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		w, err := NewWriter(record(t, o), o)
		require.NoError(t, err)
		b := w.NewBatch()
		b.Reset(0, diskimage.BatchSize)
		disktest.Fill(b, guest, w.Unit())
		require.NoError(t, w.Encode(b))
		require.NoError(t, w.Place(b))
		require.ErrorIs(t, w.Store(ctx, b), context.Canceled)
		require.Error(t, w.Finish(context.Background()))
	}
}

// An ableFile is a file with every ability that an Output can have.
type ableFile struct {
	*os.File
	calls []string
	fails string // what fails
}

func (f *ableFile) ZeroFilled() bool { return true }

func (f *ableFile) call(name string) error {
	f.calls = append(f.calls, name)
	if f.fails == name {
		return os.ErrDeadlineExceeded
	}
	return nil
}

func (f *ableFile) Sync() error { return f.call("sync") }

func (f *ableFile) Truncate(n int64) error {
	if err := f.call("truncate"); err != nil {
		return err
	}
	return f.File.Truncate(n)
}

func (f *ableFile) WriteAt(p []byte, off int64) (int, error) {
	if off == 0 {
		if err := f.call("start"); err != nil {
			return 0, err
		}
	}
	return f.File.WriteAt(p, off)
}

// The bytes are the same in a file that was longer, and is cut and synced; each
// of which can fail.
func TestWriterOutputAbilities(t *testing.T) {
	guest := guestData(7<<20+512, 64<<10, mixed, 13)
	for kind, calls := range map[Subformat][]string{
		MonolithicSparse: {"truncate", "sync", "start", "sync"},
		StreamOptimized:  {"start", "truncate", "sync"},
	} {
		o := WriterOptions{Size: int64(len(guest)), Subformat: kind}
		want := build(t, o, guest)
		for i, fails := range append([]string{""}, calls...) {
			f, err := os.Create(filepath.Join(t.TempDir(), fmt.Sprint(i)))
			require.NoError(t, err)
			defer f.Close()
			require.NoError(t, f.Truncate(64<<20))
			able := &ableFile{File: f, fails: fails}
			_, err = drive(able, o, guest, 3, 3)
			if fails != "" {
				require.ErrorIs(t, err, os.ErrDeadlineExceeded, fails)
				require.Equal(t, fails, able.calls[len(able.calls)-1])
				continue
			}
			require.NoError(t, err)
			require.Equal(t, calls, able.calls)
			got, err := os.ReadFile(f.Name())
			require.NoError(t, err)
			require.True(t, bytes.Equal(want, got), kind)
		}
	}
}

// Once warm, a batch allocates next to nothing.
func TestWriterSteadyState(t *testing.T) {
	for _, kind := range []Subformat{MonolithicSparse, StreamOptimized} {
		w, err := NewWriter(discard{}, WriterOptions{Size: 1 << 36, Subformat: kind})
		require.NoError(t, err)
		guest := guestData(diskimage.BatchSize, 64<<10, mixed, 19)
		b := w.NewBatch()
		copy(b.Buf, guest)
		var off int64
		allocs := testing.AllocsPerRun(10, func() {
			b.Reset(off, diskimage.BatchSize)
			b.Blocks = append(b.Blocks, diskimage.Block{Off: off, Len: b.Len, Data: b.Buf})
			off += b.Len
			step(t, w, b)
		})
		require.LessOrEqual(t, allocs, 1.0, kind)
		require.LessOrEqual(t, cap(b.Plan.(*writePlan).arena), diskimage.BatchSize+32*pieceMost)
	}
}
