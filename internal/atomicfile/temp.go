package atomicfile

import (
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf8"
)

const (
	tempMark   = ".diskimage-"
	tempSuffix = ".tmp"
	tempDigits = 8

	// longestName is what is kept of a target's name, so that the temporary
	// one is no longer than the 255 bytes that file systems allow.
	longestName = 200
)

// tempPrefix returns what the temporary names of a target start with, without
// the folder.
func tempPrefix(targetName string) string {
	base := filepath.Base(targetName)
	if len(base) > longestName {
		h := fnv.New64a()
		h.Write([]byte(base))
		cut := longestName
		for cut > 0 && !utf8.RuneStart(base[cut]) {
			cut--
		}
		base = fmt.Sprintf("%s-%016x", base[:cut], h.Sum64())
	}
	return "." + base + tempMark
}

// isTemp reports whether base is a temporary name with this prefix.
func isTemp(base, prefix string) bool {
	digits, ok := strings.CutPrefix(base, prefix)
	if !ok {
		return false
	}
	digits, ok = strings.CutSuffix(digits, tempSuffix)
	return ok && len(digits) == tempDigits && strings.Trim(digits, "0123456789abcdef") == ""
}

// openTemp makes the temporary file and locks it.
func (f *File) openTemp(perm fs.FileMode) error {
	dir, prefix := filepath.Dir(f.target), tempPrefix(f.target)
	for range 100 {
		name := filepath.Join(dir, fmt.Sprintf("%s%0*x%s", prefix, tempDigits, rand.Uint32(), tempSuffix))
		// It must be ours to write and read, whatever the one to be replaced is.
		file, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, perm|0o600)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err != nil {
			return err
		}
		lock, ours := lockTemp(file, name)
		if !ours {
			// Someone who cleans up took it for a leftover in the moment
			// before it was locked; it is theirs to remove.
			file.Close()
			continue
		}
		f.f, f.lock, f.temp = file, lock, name
		return nil
	}
	return &fs.PathError{Op: "create", Path: f.target, Err: errors.New("no temporary name is free")}
}

// removeLeftovers removes the target's temporary files that nobody holds. What
// cannot be removed is left: it is in nobody's way.
func removeLeftovers(targetName string) {
	dir, prefix := filepath.Dir(targetName), tempPrefix(targetName)
	d, err := os.Open(dir)
	if err != nil {
		return
	}
	defer d.Close()
	for {
		names, err := d.Readdirnames(1000)
		for _, base := range names {
			if isTemp(base, prefix) {
				removeLeftover(filepath.Join(dir, base))
			}
		}
		if err != nil || len(names) == 0 {
			return
		}
	}
}

// sameFile reports whether name is the file that is open as f.
func sameFile(f *os.File, name string) bool {
	a, err := f.Stat()
	if err != nil {
		return false
	}
	b, err := os.Lstat(name)
	return err == nil && os.SameFile(a, b)
}
