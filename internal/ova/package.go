package ova

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/diskimage-go/diskimage"
)

// A Package is an OVA that is read at any offset. All methods are safe for
// concurrent use.
type Package struct {
	contents
	src     diskimage.Source
	members map[string]member

	mu       sync.Mutex
	opened   []member
	attested bool
	verdict  error
}

// Open reads the tar's headers, the descriptor and the manifest of the package
// in src. Everything but the files' digests is checked.
func Open(ctx context.Context, src diskimage.Source, o Options) (*Package, error) {
	size := src.Size()
	a := newArchive(io.NewSectionReader(src, 0, size))
	p := &Package{contents: contents{o: o}, src: src, members: a.seen}
	err := p.start(a)
	for err == nil {
		if err = ctx.Err(); err != nil {
			break
		}
		var m member
		if m, err = a.next(); err != nil {
			break
		}
		if m.size > size-m.off {
			err = failure(diskimage.ErrTruncated, memberField(m.name), m.off,
				fmt.Sprintf("has %d bytes, the file ends after %d of them", m.size, max(size-m.off, 0)))
			break
		}
		err = p.meet(a, m)
	}
	if err != io.EOF {
		return nil, err
	}
	if err := p.finish(a); err != nil {
		return nil, err
	}
	return p, nil
}

// A File is a member of a package: a diskimage.Source, and a
// diskimage.ChangeDetector if the package's own is one.
type File struct {
	*io.SectionReader
	p   *Package
	off int64
}

// Offset returns where in the package the file lies.
func (f *File) Offset() int64 { return f.off }

// Prefetch passes a hint on, as [diskimage.Prefetcher] has it.
func (f *File) Prefetch(off, n int64) {
	if p, ok := f.p.src.(diskimage.Prefetcher); ok && off >= 0 && off < f.Size() {
		p.Prefetch(f.off+off, min(n, f.Size()-off))
	}
}

// Disk returns the file of a disk, as it lies in the package: compressed, if d
// says so.
func (p *Package) Disk(d Disk) (*File, error) {
	if d.unreadable != nil {
		return nil, d.unreadable
	}
	return p.File(d.File)
}

// File returns the member of this name. One that is not there is ErrCorrupt.
func (p *Package) File(name string) (*File, error) {
	m, ok := p.members[name]
	if !ok {
		return nil, missing(name)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !slices.Contains(p.opened, m) {
		p.opened = append(p.opened, m)
	}
	return &File{io.NewSectionReader(p.src, m.off, m.size), p, m.off}, nil
}

func missing(name string) error {
	return corrupt(memberField(name), -1, "the package does not hold it")
}

// Changed asks the package's source, if it can tell, whether it has changed.
func (f *File) Changed() error {
	if c, ok := f.p.src.(diskimage.ChangeDetector); ok {
		return c.Changed()
	}
	return nil
}

// Attest reads the members that File and Disk have returned, once, and returns
// an error of kind ErrCorrupt if they are not what the manifest has digests
// of. What it found it says again when it is called again.
func (p *Package) Attest(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.attested || p.manifest == nil {
		return p.verdict
	}
	for _, m := range p.opened {
		h := newHasher(p.manifest, m.name)
		if len(h.sums) == 0 {
			continue
		}
		if err := hashRange(ctx, h, p.src, m); err != nil {
			return err
		}
		if p.verdict = p.manifest.check(m, h); p.verdict != nil {
			break
		}
	}
	p.attested = true
	return p.verdict
}

// hashRange hashes a member.
func hashRange(ctx context.Context, h *hasher, src io.ReaderAt, m member) error {
	buf := make([]byte, min(m.size, 1<<20))
	for off := int64(0); off < m.size; {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		p := buf[:min(int64(len(buf)), m.size-off)]
		n, err := src.ReadAt(p, m.off+off)
		if n < len(p) {
			if err == nil || errors.Is(err, io.EOF) {
				return failure(diskimage.ErrTruncated, memberField(m.name), m.off+off+int64(n), "the file ends here")
			}
			return err
		}
		h.Write(p)
		off += int64(n)
	}
	return nil
}
