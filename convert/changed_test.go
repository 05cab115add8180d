package convert

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage"
)

// A source file that is written to, cut or grows while it is converted is an
// error, whatever its format, and leaves no target. (Row R16 of the hostile
// inputs.)
func TestSourceChangesWhileItIsRead(t *testing.T) {
	d := patchworkDisk(53, 3<<20)
	for name, file := range images(t, d) {
		for change, do := range map[string]func(f *os.File, size int64) error{
			"grows":   func(f *os.File, size int64) error { return f.Truncate(size + 512) },
			"shrinks": func(f *os.File, size int64) error { return f.Truncate(size - 512) },
			"is written to": func(f *os.File, size int64) error {
				_, err := f.WriteAt(file[:1], 0)
				return errors.Join(err, os.Chtimes(f.Name(), time.Time{}, time.Now().Add(time.Second))) // clocks tick slowly
			},
		} {
			t.Run(name+" "+change, func(t *testing.T) {
				dir := t.TempDir()
				source := filepath.Join(t.TempDir(), "source")
				require.NoError(t, os.WriteFile(source, file, 0o600))
				f, err := os.OpenFile(source, os.O_RDWR, 0)
				require.NoError(t, err)
				defer f.Close()
				format := targets[name].Format
				if name == "ova" {
					format = OVA
				}
				disk, err := OpenFile(context.Background(), source, OpenOptions{Format: format, RawAnyway: true})
				require.NoError(t, err)
				defer disk.Close()
				once := sync.OnceFunc(func() { require.NoError(t, do(f, int64(len(file)))) })
				to := []Format{Raw, QCOW2}[len(name)%2]
				_, err = ToFile(t.Context(), filepath.Join(dir, "target"), disk, Options{Format: to, Workers: 1, Unsynced: true, Progress: func(Progress) { once() }})
				require.Error(t, err)
				if !strings.Contains(err.Error(), "ova") { // whose digests may be the first to tell
					require.ErrorIs(t, err, diskimage.ErrChanged)
				}
				require.Empty(t, names(t, dir))
			})
		}
	}
}
