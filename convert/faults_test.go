package convert

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/internal/imagetest"
)

// noneLeft returns a function that holds that no goroutine is there that was not
// before.
func noneLeft(t *testing.T) func() {
	t.Helper()
	before := runtime.NumGoroutine()
	return func() {
		t.Helper()
		for deadline := time.Now().Add(2 * time.Second); runtime.NumGoroutine() > before; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				stacks := make([]byte, 1<<20)
				require.Fail(t, "goroutines are left", "%s", stacks[:runtime.Stack(stacks, true)])
			}
		}
	}
}

// kinds returns the targets that are one file, and those that are several.
func kinds() map[string]Options {
	all := maps.Clone(targets)
	for _, kind := range setKinds {
		all["vmdk "+kind.String()] = toVMDK(kind)
	}
	return all
}

// A faultySource is a file with something wrong about one of its bytes.
type faultySource struct {
	file  []byte
	at    int64
	fault string
}

func (s *faultySource) Size() int64 { return int64(len(s.file)) }

func (s *faultySource) ReadAt(p []byte, off int64) (int, error) {
	if off > s.at || off+int64(len(p)) <= s.at {
		if s.fault == "it has shrunk" && off > s.at {
			return 0, io.EOF
		}
		return bytes.NewReader(s.file).ReadAt(p, off)
	}
	n := copy(p, s.file[off:s.at])
	switch s.fault {
	case "it cannot be read":
		return n, fmt.Errorf("byte %d: %w", s.at, errBadSector)
	case "it has shrunk":
		return n, io.EOF
	}
	return n, nil // a short read, which io.ReaderAt has no word for
}

// images returns an image of every kind that is read from one file, of the
// same disk.
func images(t *testing.T, d *memDisk) map[string][]byte {
	t.Helper()
	all := map[string][]byte{}
	for name, o := range targets {
		var out memOutput
		_, err := ToOutput(t.Context(), &out, d, o)
		require.NoError(t, err)
		all[name] = out.data
	}
	all["ova"] = imagetest.OVA{Disks: []imagetest.PackedDisk{{Name: "disk.vmdk", Data: all["vmdk stream"], URI: imagetest.URIStream}}, Digest: "SHA256"}.Build()
	return all
}

// A source that fails anywhere gives an error that says where, or the failure
// is of what nobody needs; never a file under the target's name, another beside
// it, a wrong byte or a goroutine that stays. (Row S05 of the hostile inputs.)
func TestFaultySources(t *testing.T) {
	d := patchworkDisk(53, 512<<10)
	for name, file := range images(t, d) {
		t.Run(name, func(t *testing.T) {
			none, failed := noneLeft(t), 0
			places := 12
			if testing.Short() {
				places = 4
			}
			for i := range places {
				at := int64(i) * (int64(len(file)) - 1) / int64(places-1)
				for _, fault := range []string{"it cannot be read", "it has shrunk", "it is read in part"} {
					dir := t.TempDir()
					target := filepath.Join(dir, "target")
					err := convertFaulty(t, target, &faultySource{file, at, fault}, name, 1+i%2)
					if err == nil {
						require.True(t, bytes.Equal(d.content, guest(t, target, QCOW2)), "%s at %d", fault, at)
						continue
					}
					failed++
					if fault == "it cannot be read" {
						require.ErrorIs(t, err, errBadSector, "at %d", at)
					}
					require.Contains(t, err.Error(), "at 0x", "where it is")
					require.Empty(t, names(t, dir), "%s at %d", fault, at)
				}
			}
			require.GreaterOrEqual(t, failed, places, "most of a file is needed")
			none()
		})
	}
}

// convertFaulty opens a source and converts it to QCOW2.
func convertFaulty(t *testing.T, target string, src *faultySource, name string, workers int) error {
	format := targets[name].Format // Raw: not to be guessed from what is read
	if name == "ova" {
		format = OVA
	}
	disk, err := Open(t.Context(), src, OpenOptions{Format: format, RawAnyway: true})
	if err != nil {
		return err
	}
	defer disk.Close()
	_, err = ToFile(t.Context(), target, disk, Options{Format: QCOW2, Workers: workers, Unsynced: true})
	return err
}

// A fault lets one call to an output fail, whichever file of a set it is of.
type outputFault struct {
	call  string // "write", "short write", "sync" or "truncate"
	at    int    // which of them, from 1: that and all that come after
	mu    sync.Mutex
	calls int
}

// hits reports whether a call fails.
func (f *outputFault) hits(calls ...string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if slices.Contains(calls, f.call) {
		f.calls++
	}
	return slices.Contains(calls, f.call) && f.calls >= f.at
}

type faultyOutput struct {
	*memOutput
	fault *outputFault
}

func (o faultyOutput) WriteAt(p []byte, off int64) (int, error) {
	if !o.fault.hits("write", "short write") {
		return o.memOutput.WriteAt(p, off)
	}
	n, err := o.memOutput.WriteAt(p[:len(p)/2], off)
	if err == nil && o.fault.call == "write" {
		err = errNoSpace
	}
	return n, err
}

func (o faultyOutput) Sync() error {
	if o.fault.hits("sync") {
		return errInjected
	}
	return nil
}

func (o faultyOutput) Truncate(size int64) error {
	if o.fault.hits("truncate") {
		return errInjected
	}
	return o.memOutput.Truncate(size)
}

// faultyFiles makes the files of a set.
type faultyFiles struct{ fault *outputFault }

func (f faultyFiles) Create(string) (diskimage.Output, error) {
	return faultyOutput{&memOutput{}, f.fault}, nil
}

// An output that fails in any of its calls is an error, and nobody stays.
func TestFaultyOutputs(t *testing.T) {
	d, step := patchworkDisk(53, 512<<10), 1
	if testing.Short() {
		step = 3
	}
	for name, o := range kinds() {
		t.Run(name, func(t *testing.T) {
			none := noneLeft(t)
			for call, want := range map[string]error{"write": errNoSpace, "short write": io.ErrShortWrite, "sync": errInjected, "truncate": errInjected} {
				for at := 1; ; at += step {
					o, fault := o, &outputFault{call: call, at: at}
					o.Workers = 1 + at%2
					if o.several() {
						o.VMDK.FileName, o.VMDK.Creator = "disk.vmdk", faultyFiles{fault}
					}
					_, err := ToOutput(t.Context(), faultyOutput{&memOutput{}, fault}, d, o)
					if err == nil {
						require.Greater(t, at, 1, "there is no %s", call)
						break
					}
					require.ErrorIs(t, err, want, "%s %d", call, at)
				}
			}
			none()
		})
	}
}

// Where a name cannot be given, since a folder has it by now, nothing is left
// but that.
func TestNameIsTaken(t *testing.T) {
	d := patchworkDisk(53, 512<<10)
	for name, o := range kinds() {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			o.Force, o.Unsynced = true, true
			taken := map[string]string{}
			o.Progress = func(Progress) {
				if len(taken) == 0 {
					taken["target"] = ""
					require.NoError(t, os.MkdirAll(filepath.Join(dir, "target", "full"), 0o777))
				}
			}
			none := noneLeft(t)
			_, err := ToFile(t.Context(), filepath.Join(dir, "target"), d, o)
			require.ErrorContains(t, err, "target")
			require.Equal(t, taken, names(t, dir))
			none()
		})
	}
}
