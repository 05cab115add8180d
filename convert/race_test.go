package convert

import (
	"bytes"
	"context"
	"io"
	"path/filepath"
	"runtime"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/internal/imagetest"
	"github.com/diskimage-go/diskimage/qcow2"
	"github.com/diskimage-go/diskimage/raw"
	"github.com/diskimage-go/diskimage/vmdk"
)

// All that runs concurrently gives the same, by any number of workers on any
// number of processors. Meant for the race detector.
func TestRaces(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	ctx := t.Context()
	d := patchworkDisk(11, 4<<20+4608) // three batches
	size := d.Size()
	grains := grainsOf(t, mixedContent(36), func(off int64) bool { return off/grain%20 == 19 })
	var image memOutput
	_, err := ToOutput(ctx, &image, d, moving)
	require.NoError(t, err)
	stream := imagetest.VMDKShapes()["exported-128"].Build()

	dir := t.TempDir()
	into := func(name string) string { return filepath.Join(dir, name) }
	first := map[string][]byte{}
	same := func(job string, got []byte) {
		t.Helper()
		if first[job] == nil {
			first[job] = bytes.Clone(got)
		}
		require.True(t, bytes.Equal(first[job], got), job)
	}
	for procs := 1; procs <= 8; procs++ {
		runtime.GOMAXPROCS(procs)
		for _, workers := range []int{1, 2, 8} {
			if testing.Short() && workers < 8 && procs > 2 {
				continue // the fewer have nothing to do with the more
			}
			with := func(o Options) Options {
				o.Workers, o.Digest, o.Unsynced = workers, true, true
				return o
			}
			verified := with(moving)
			verified.Verify = true
			rep, err := ToFile(ctx, into("verified.qcow2"), d, verified) // spawns all of it: moved units, digest, verify
			require.NoError(t, err)
			same("digest", rep.Digest)
			same("digest", rep.OutputDigest)

			var out memOutput
			_, err = grains.into(&out, false, verified)
			require.NoError(t, err)
			same("grains", out.data)
			out = memOutput{}
			_, err = grains.into(&out, true, verified)
			require.NoError(t, err)
			same("grains", out.data)

			out = memOutput{}
			_, err = StreamToOutput(ctx, &out, raw.NewStream(bytes.NewReader(d.content), -1), with(Options{Format: QCOW2}))
			require.NoError(t, err)
			same("streamed", out.data)
			var pipe bytes.Buffer
			_, err = ToWriter(ctx, &pipe, d, with(Options{Format: VMDK, VMDK: vmdk.WriterOptions{FileName: "disk.vmdk", Subformat: vmdk.StreamOptimized}}))
			require.NoError(t, err)
			same("piped", pipe.Bytes())

			s, err := OpenStream(ctx, bytes.NewReader(stream.Bytes), OpenOptions{})
			require.NoError(t, err)
			scattered := with(Options{Verify: true})
			scattered.Digest = false
			_, err = StreamToFile(ctx, into("scattered.raw"), s, scattered)
			require.NoError(t, err)
			require.True(t, bytes.Equal(stream.Guest, guest(t, into("scattered.raw"), Raw)))

			spooled, err := Spool(ctx, bytes.NewReader(image.data), dir)
			require.NoError(t, err)
			q, err := Open(ctx, spooled, OpenOptions{})
			require.NoError(t, err)
			all := func() error { // compare, check and look at the map of what others read
				var wg sync.WaitGroup
				errs := make([]error, 3)
				wg.Go(func() {
					c, err := Compare(ctx, d, q, CompareOptions{Workers: workers})
					if errs[0] = err; err == nil && !c.Identical {
						errs[0] = io.ErrUnexpectedEOF
					}
				})
				wg.Go(func() { _, errs[1] = qcow2.Check(context.WithoutCancel(ctx), spooled, qcow2.CheckOptions{}) })
				wg.Go(func() { errs[2] = q.(diskimage.MapChecker).CheckMap() })
				wg.Wait()
				for _, err := range errs {
					if err != nil {
						return err
					}
				}
				return nil
			}
			require.NoError(t, all())
			require.Equal(t, roundUp(size, 512), q.Size())
			require.NoError(t, q.Close())
		}
	}
}
