package convert

import (
	"context"
	"io"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/internal/spool"
)

// Spool copies what r gives, to its end, to a temporary file in the folder dir
// and returns it, so that [Open] can read with random access what came from a
// pipe. The default for an empty dir is the system's folder for such files. The
// file is gone when the Source, an io.Closer, is closed, and however the
// program ends. A full file system is an error.
//
// The context is asked between reads of r.
func Spool(ctx context.Context, r io.Reader, dir string) (diskimage.Source, error) {
	f, err := spool.Fill(ctx, r, dir)
	if err != nil {
		return nil, err // not f, which would be no nil Source
	}
	return f, nil
}
