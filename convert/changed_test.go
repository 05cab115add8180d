package convert

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage"
)

// A source that is written to, or cut, while it is converted is an error, and
// leaves no target. (Row R16 of the hostile inputs.)
func TestSourceChangesWhileItIsRead(t *testing.T) {
	const size = 24 << 20
	for name, change := range map[string]func(f *os.File) error{
		"grows":   func(f *os.File) error { return f.Truncate(size + 512) },
		"shrinks": func(f *os.File) error { return f.Truncate(size / 2) },
	} {
		for _, format := range []Format{Raw, QCOW2} {
			t.Run(name+" "+format.String(), func(t *testing.T) {
				dir := t.TempDir()
				source := filepath.Join(dir, "source.raw")
				require.NoError(t, os.WriteFile(source, patchworkDisk(21, size).content, 0o600))
				f, err := os.OpenFile(source, os.O_RDWR, 0)
				require.NoError(t, err)
				defer f.Close()
				d, err := OpenFile(context.Background(), source, OpenOptions{Format: Raw})
				require.NoError(t, err)
				defer d.Close()

				changed := false
				_, err = ToFile(context.Background(), filepath.Join(dir, "target"), d, Options{Format: format, Workers: 1, Unsynced: true,
					Progress: func(Progress) {
						if !changed {
							changed = true
							require.NoError(t, change(f))
						}
					}})
				require.ErrorIs(t, err, diskimage.ErrChanged)
				entries, err := os.ReadDir(dir)
				require.NoError(t, err)
				require.Len(t, entries, 1)
			})
		}
	}
}
