//go:build !windows

package spool

import "os"

// create makes a file that has no name any more.
func create(dir string) (*os.File, error) {
	f, err := os.CreateTemp(dir, ".diskimage-spool-*.tmp")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
