package convert

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/internal/atomicfile"
	"github.com/diskimage-go/diskimage/internal/hostfile"
	"github.com/diskimage-go/diskimage/vmdk"
)

// several reports whether the target consists of several files.
func (o *Options) several() bool { return o.Format == VMDK && o.VMDK.Subformat.Several() }

// toFiles is toFile for a target of several files, of which name is the one
// that names the others.
func (r *run) toFiles(ctx context.Context, name string) (*Report, error) {
	if r.o.VMDK.Creator != nil {
		return nil, errors.New("convert: option VMDK.Creator: ToFile makes the files itself; ToOutput takes a Creator")
	}
	set, err := atomicfile.CreateSet(name, atomicfile.Options{Force: r.o.Force, Unsynced: r.o.Unsynced})
	if err != nil {
		return nil, err
	}
	defer set.Abort()
	r.o.VMDK.Creator = setCreator{set}
	old := extentsOf(ctx, name)
	if err := r.toOutput(ctx, set.Main(), !r.o.Unsynced, filepath.Base(name)); err != nil {
		return nil, err
	}
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	if err := set.Commit(); err != nil {
		return nil, err
	}
	old = slices.DeleteFunc(old, func(base string) bool {
		_, err := os.Lstat(filepath.Join(filepath.Dir(name), base))
		return err != nil || set.Has(base)
	})
	if n := len(old); n > 0 {
		r.note("extents of the image that was overwritten are left, %d of them: %s to %s", n, old[0], old[n-1])
	}
	return r.report(), nil
}

// extentsOf returns the plain names of the files that the VMDK of this name
// names, if there is one.
func extentsOf(ctx context.Context, name string) []string {
	f, err := hostfile.Open(name)
	if err != nil {
		return nil
	}
	defer f.Close()
	d, err := vmdk.Open(ctx, f, vmdk.Options{SkipExternal: true})
	if err != nil {
		return nil
	}
	var names []string
	for _, e := range d.Info().Extents {
		if e.FileName != "" && e.FileName == filepath.Base(e.FileName) {
			names = append(names, e.FileName)
		}
	}
	return names
}

// A setCreator makes the files of a set.
type setCreator struct{ *atomicfile.Set }

func (s setCreator) Create(name string) (diskimage.Output, error) { return s.Set.Create(name) }

// A meteredCreator meters the files that another Creator makes.
type meteredCreator struct {
	diskimage.Creator
	written *written
	o       *Options
}

func (c *meteredCreator) Create(name string) (diskimage.Output, error) {
	out, err := c.Creator.Create(name)
	if err != nil {
		return nil, err
	}
	if err := c.o.readBack(out); err != nil {
		return nil, err
	}
	main := c.written.meter
	m := &meter{out: out, sync: main.sync, allowed: main.allowed, seals: main.seals}
	c.written.files[name] = m
	return m.asOutput(), nil
}

// A written is all that was written: what a verification opens.
type written struct {
	*meter                   // the image's own file
	files  map[string]*meter // those that it names
	below  nothingBelow      // the parent, if it has one
}

// bytes returns how many there are in all files.
func (w *written) bytes() int64 {
	n := w.n.Load()
	for _, m := range w.files {
		n += m.n.Load()
	}
	return n
}

// unbroken returns an error unless what the files were closed with is in them.
func (w *written) unbroken() error {
	for _, m := range w.files {
		if err := w.seals.unbroken(m); err != nil {
			return err
		}
	}
	return w.seals.unbroken(w.meter)
}

// OpenDisk stands for the image below the one that was written, whatever that
// holds: it was not converted, and is not compared.
func (w *written) OpenDisk(context.Context, diskimage.Reference) (diskimage.VirtualDisk, error) {
	return w.below, nil
}

func (w *written) OpenSource(_ context.Context, ref diskimage.Reference) (diskimage.Source, error) {
	m, ok := w.files[ref.Name]
	if !ok {
		return nil, diskimage.Refuse("", ref, "it was not written")
	}
	return m.source()
}
