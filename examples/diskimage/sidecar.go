package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/diskimage-go/diskimage/convert"
	"github.com/diskimage-go/diskimage/internal/atomicfile"
	"github.com/diskimage-go/diskimage/internal/hostfile"
)

// sidecarName is where --sidecar writes the digests of the target's files.
func sidecarName(target string) string { return target + ".sha256" }

var errNoSidecar = errors.New("--sidecar: the target is no new file, and nothing is written beside it")

// checkSidecar is checkTarget for the sidecar, if one is asked for.
func (c *conversion) checkSidecar(reads []fs.FileInfo) error {
	if !c.sidecar {
		return nil
	}
	if info, err := os.Stat(c.target); err == nil && hostfile.IsBlockDevice(info) {
		return errNoSidecar
	}
	return checkTarget(sidecarName(c.target), false, reads)
}

// writeSidecar writes the digests of the target's files beside it.
func (c *conversion) writeSidecar(files []convert.WrittenFile) error {
	var list bytes.Buffer
	writeSums(&list, "", files)
	f, err := atomicfile.Create(sidecarName(c.target), atomicfile.Options{Unsynced: c.Unsynced})
	if err != nil {
		return err
	}
	defer f.Abort()
	if _, err := f.WriteAt(list.Bytes(), 0); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return f.Commit()
}

// writeSums writes digests of files in a folder in the form that sha256sum
// reads. GNU coreutils' manual, md5sum invocation: a line that starts with a
// backslash has a name in which some bytes are escaped.
func writeSums(w io.Writer, dir string, files []convert.WrittenFile) {
	for _, f := range files {
		name := filepath.Join(dir, f.Name)
		if f.Name == "" {
			name = "-" // which is how it names standard input
		}
		escaped := strings.NewReplacer("\\", `\\`, "\n", `\n`, "\r", `\r`).Replace(name)
		mark := ""
		if escaped != name {
			mark = `\`
		}
		fmt.Fprintf(w, "%s%x  %s\n", mark, f.SHA256, escaped)
	}
}
