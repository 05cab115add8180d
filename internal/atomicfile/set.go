package atomicfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/diskimage-go/diskimage/internal/hostfile"
)

// ErrExists says that a file of a set stands there already and Force was not
// given.
var ErrExists = errors.New("exists: a set of files is only written over another if that is forced")

// A Set is several files in one folder that appear together: the main file,
// which names the others, last. Each is under a temporary name, locked, until
// then, so that a set has two open files for each of its own.
//
// What stood under the names is refused unless Options.Force is set. Then a
// crash while the files are renamed, when all are complete, leaves no main file,
// if others are replaced with it: an old one would name new files. In all other
// cases what stood there stays whole until the new main file has its name.
//
// Symbolic links, and all else that is no regular file, are refused: the
// files are to lie beside each other.
type Set struct {
	main   *File
	others []*File
	names  map[string]bool // of all, without the folder
	o      Options         // of the files
	force  bool
	done   bool
}

// CreateSet starts the set whose main file Commit will give the name name.
func CreateSet(name string, o Options) (*Set, error) {
	if err := mayReplace(name, o.Force); err != nil {
		return nil, err
	}
	s := &Set{o: o, force: o.Force, names: map[string]bool{filepath.Base(name): true}}
	s.o.Force = false // of a File it is to write to a block device
	main, err := Create(name, s.o)
	if err != nil {
		return nil, err
	}
	s.main = main
	return s, nil
}

// mayReplace looks at what stands under the name of a file of a set.
func mayReplace(name string, force bool) error {
	info, err := os.Lstat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return &fs.PathError{Op: "create", Path: name,
			Err: errors.New("is " + hostfile.Describe(info.Mode()) + ": a set of files is written beside and over regular files only")}
	case !force:
		return &fs.PathError{Op: "create", Path: name, Err: ErrExists}
	}
	return nil
}

// Has reports whether a file of this name, without a folder, is of the set.
func (s *Set) Has(base string) bool { return s.names[base] }

// Main returns the main file.
func (s *Set) Main() *File { return s.main }

// Create starts another file of the set, by its name without a folder.
func (s *Set) Create(base string) (*File, error) {
	bad := func(why string) error { return &fs.PathError{Op: "create", Path: base, Err: errors.New(why)} }
	switch {
	case base != filepath.Base(base) || !filepath.IsLocal(base) || base == ".":
		return nil, bad("is not the plain name of a file")
	case s.names[base]:
		return nil, bad("is a file of the set already")
	}
	name := filepath.Join(filepath.Dir(s.main.target), base)
	if err := mayReplace(name, s.force); err != nil {
		return nil, err
	}
	f, err := Create(name, s.o)
	if err != nil {
		return nil, err
	}
	s.others, s.names[base] = append(s.others, f), true
	return f, nil
}

// Commit gives the files their final names, the main file's last. Unless the
// set was made Unsynced, all bytes are made durable first, then the names. An
// error means that nothing of the set is left; except an error of syncing the
// folder in the end, which says so.
//
// Commit or Abort is called once; after either, both do nothing.
func (s *Set) Commit() error {
	if s.done {
		return nil
	}
	for _, f := range s.files() {
		if err := f.seal(); err != nil {
			return errors.Join(err, s.Abort())
		}
	}
	if err := s.rename(); err != nil {
		return errors.Join(err, s.Abort())
	}
	s.done = true
	for _, f := range s.files() {
		f.unlock()
	}
	if err := s.syncFolder(); err != nil {
		return fmt.Errorf("%s is complete, but its name may not survive a crash: %w", s.main.target, err)
	}
	return nil
}

// files returns all of the set's files, the main one last.
func (s *Set) files() []*File { return append(s.others[:len(s.others):len(s.others)], s.main) }

// rename gives complete files their names. After an error the main file has
// not got its own.
func (s *Set) rename() error {
	replaces := false // others
	for _, f := range s.files() {
		if err := mayReplace(f.target, s.force); err != nil { // who came meanwhile
			return err
		}
		_, err := os.Lstat(f.target)
		replaces = replaces || err == nil && f != s.main
		s.main.replaces = err == nil
	}
	removed := s.main.replaces && replaces
	if removed {
		if err := os.Remove(s.main.target); err != nil {
			return err
		}
	}
	err := s.renameAll(removed)
	if err != nil && removed {
		return fmt.Errorf("what stood under the name %s is removed, and the new files did not get their names: %w", s.main.target, err)
	}
	return err
}

// renameAll makes the folder durable whenever the order counts: after the old
// main file was removed, before the first of the others has its name; and before
// the main file has.
func (s *Set) renameAll(removed bool) error {
	if removed {
		if err := s.syncFolder(); err != nil {
			return err
		}
	}
	for _, f := range s.others {
		if err := os.Rename(f.temp, f.target); err != nil {
			return err
		}
		f.temp = f.target // for Abort to remove
	}
	if err := s.syncFolder(); err != nil {
		return err
	}
	if err := os.Rename(s.main.temp, s.main.target); err != nil {
		return err
	}
	for _, f := range s.files() {
		f.done = true
	}
	return nil
}

func (s *Set) syncFolder() error {
	if s.o.Unsynced {
		return nil
	}
	return syncFolder(filepath.Dir(s.main.target))
}

// Abort gives up and removes the files.
func (s *Set) Abort() error {
	if s.done {
		return nil
	}
	s.done = true
	var err error
	for _, f := range s.files() {
		err = errors.Join(err, f.Abort())
	}
	return err
}
