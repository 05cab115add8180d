package ova

import (
	"fmt"
	"io"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/diskimage-go/diskimage"
)

// Options say how an OVA is read.
type Options struct {
	// Salvage makes notes of digests and sizes that are wrong, and of files
	// that are missing, if the disk can be read all the same. Default: errors.
	Salvage bool
}

// contents are what is known of a package, however it is read.
type contents struct {
	o        Options
	env      *envelope
	ovf      member
	ovfText  []byte
	manifest *manifest // nil: not met
	signed   string    // the name of the file with the signature, "" if there is none
	notes    []diskimage.Note
}

// start reads the descriptor, which is the first member.
func (c *contents) start(a *archive) error {
	m, err := a.next()
	if err == io.EOF {
		return failure(diskimage.ErrFormat, "archive", -1, "is empty, which no package is")
	}
	if err != nil {
		return err
	}
	if !hasSuffix(m.name, ".ovf") {
		return failure(diskimage.ErrFormat, memberField(m.name), m.off, "comes first, where the descriptor (.ovf) of a package must be")
	}
	c.ovf = m
	if c.ovfText, err = a.text(m, maxDescriptor); err != nil {
		return err
	}
	c.env, err = parseEnvelope(m.name, c.ovfText)
	return err
}

func hasSuffix(name, suffix string) bool {
	return len(name) >= len(suffix) && strings.EqualFold(name[len(name)-len(suffix):], suffix)
}

// meet looks at a member that a.next came to, and reads it if it is the
// manifest.
func (c *contents) meet(a *archive, m member) error {
	for _, f := range c.env.files {
		if f.name == m.name && f.size >= 0 && f.size != m.size {
			if err := c.forgive(corrupt(memberField(m.name), m.off, fmt.Sprintf("has %d bytes, the descriptor says %d", m.size, f.size))); err != nil {
				return err
			}
		}
	}
	stem := strings.TrimSuffix(c.ovf.name, path.Ext(c.ovf.name))
	switch {
	case strings.EqualFold(m.name, stem+".cert"):
		c.signed = m.name
	case strings.EqualFold(m.name, stem+".mf") && c.manifest == nil:
		text, err := a.text(m, maxManifest)
		if err != nil {
			return err
		}
		var notes []diskimage.Note
		if c.manifest, notes, err = parseManifest(m.name, text); err != nil {
			return err
		}
		c.notes = append(c.notes, notes...)
		h := newHasher(c.manifest, c.ovf.name)
		h.Write(c.ovfText)
		return c.forgive(c.manifest.check(c.ovf, h))
	}
	return nil
}

// finish tells what can be told when all members were met.
func (c *contents) finish(a *archive) error {
	if a.lone {
		c.notes = append(c.notes, note("the archive's end mark is one block of zeros, not two"))
	}
	for _, f := range c.env.files {
		if _, ok := a.seen[f.name]; !ok && plainName(f.name) && !f.chunked {
			c.notes = append(c.notes, note("the package does not hold "+diskimage.Quote(f.name)+", which its descriptor lists"))
		}
	}
	if c.manifest == nil {
		c.notes = append(c.notes, note("the package has no manifest: nothing tells whether its files are what they were"))
	} else {
		for _, name := range c.manifest.names {
			if _, ok := a.seen[name]; !ok {
				if err := c.forgive(corrupt(memberField(name), -1, "is missing, the manifest has a digest of it")); err != nil {
					return err
				}
			}
		}
		for _, name := range c.worthy(a) {
			if len(c.manifest.digests[name]) == 0 {
				c.notes = append(c.notes, note("the manifest has no digest of "+diskimage.Quote(name)+" that could be verified"))
			}
		}
	}
	if c.signed != "" {
		c.notes = append(c.notes, note("the signature in "+diskimage.Quote(c.signed)+" is not verified"))
	}
	return nil
}

// worthy returns the names of the descriptor and of the disks' files that are
// there.
func (c *contents) worthy(a *archive) []string {
	names := []string{c.ovf.name}
	for _, d := range c.env.disks {
		if _, ok := a.seen[d.File]; ok && !slices.Contains(names, d.File) {
			names = append(names, d.File)
		}
	}
	return names
}

// forgive makes a note of err where that is asked for.
func (c *contents) forgive(err error) error {
	if err == nil || !c.o.Salvage {
		return err
	}
	c.notes = append(c.notes, note(strings.TrimPrefix(err.Error(), Name+": ")))
	return nil
}

// Notes returns what was noted so far.
func (c *contents) Notes() []diskimage.Note { return slices.Clone(c.notes) }

// Disks returns the disks that the descriptor lists, in its order.
func (c *contents) Disks() []Disk { return slices.Clone(c.env.disks) }

// Find returns the disk that which means: its number, the name of its file, or
// its id. If which is empty it is the only one that has a file; where there
// are several the error lists them.
func (c *contents) Find(which string) (Disk, error) {
	if which == "" {
		var found []Disk
		for _, d := range c.env.disks {
			if !d.empty {
				found = append(found, d)
			}
		}
		switch len(found) {
		case 0:
			return Disk{}, failure(diskimage.ErrUnsupported, "", -1, "the package has no disk with a file; it lists "+c.list())
		case 1:
			return found[0], nil
		}
		return Disk{}, failure(diskimage.ErrUnsupported, "", -1, "the package has several disks, one has to be chosen: "+c.list())
	}
	n, err := strconv.Atoi(which)
	for _, is := range []func(d Disk) bool{
		func(d Disk) bool { return err == nil && d.Number == n },
		func(d Disk) bool { return d.File == which },
		func(d Disk) bool { return d.ID == which },
	} {
		if i := slices.IndexFunc(c.env.disks, is); i >= 0 {
			return c.env.disks[i], nil
		}
	}
	return Disk{}, failure(diskimage.ErrUnsupported, "", -1, "the package has no disk "+diskimage.Quote(which)+"; it lists "+c.list())
}

// list returns the disks, as many as fit a line.
func (c *contents) list() string {
	const most = 16
	var all []string
	for _, d := range c.env.disks[:min(len(c.env.disks), most)] {
		what := diskimage.Quote(d.File)
		if d.File == "" {
			what = "no file"
		}
		if d.Capacity >= 0 {
			what += fmt.Sprintf(", %d bytes", d.Capacity)
		}
		all = append(all, fmt.Sprintf("%d (%s)", d.Number, what))
	}
	if len(c.env.disks) > most {
		all = append(all, "...")
	}
	if len(all) == 0 {
		return "none"
	}
	return strings.Join(all, ", ")
}
