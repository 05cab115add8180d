package hostfile

import (
	"errors"
	"io/fs"
	"os"
)

// OpenIn opens a regular file inside root for reading, and nothing else: what
// an image names has no business with a device. As Open it does not wait.
// Names and symbolic links that lead out of root are errors of root's.
func OpenIn(root *os.Root, name string) (*File, error) {
	info, err := root.Stat(name)
	if err != nil {
		return nil, err
	}
	if err := regular(name, info); err != nil {
		return nil, err
	}
	f, err := root.OpenFile(name, os.O_RDONLY|openFlags, 0)
	if err != nil {
		return nil, err
	}
	h, err := New(f)
	if err == nil {
		err = regular(name, h.info) // once more: the name may have come to mean something else
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return h, nil
}

func regular(name string, info fs.FileInfo) error {
	if info.Mode().IsRegular() {
		return nil
	}
	return &fs.PathError{Op: "open", Path: name, Err: errors.New("is " + Describe(info.Mode()) + ", not a regular file")}
}
