package ova

import (
	"io"
)

// A Reader is an OVA that comes front to back. It is for one goroutine.
type Reader struct {
	contents
	a      *archive
	passed []*passing // in the archive's order
	last   *passing   // of passed
	buf    []byte
	err    error // what ended it; io.EOF at the archive's end
}

// A passing is a member that is, or was, passed by.
type passing struct {
	member
	*hasher
}

// NewReader reads the descriptor, which is the first thing in an OVA.
func NewReader(r io.Reader, o Options) (*Reader, error) {
	p := &Reader{contents: contents{o: o}, a: newArchive(r)}
	if err := p.start(p.a); err != nil {
		return nil, err
	}
	return p, nil
}

// Disk returns what reads the file of a disk as it lies in the package:
// compressed, if d says so. Whatever comes before it is passed over and
// hashed. size is the file's. It is for one disk, and to be called once.
func (p *Reader) Disk(d Disk) (r io.Reader, size int64, err error) {
	if d.unreadable != nil {
		return nil, 0, d.unreadable
	}
	for {
		switch err := p.next(); {
		case err == io.EOF:
			return nil, 0, missing(d.File)
		case err != nil:
			return nil, 0, err
		case p.last.name == d.File:
			return &body{p, p.last}, p.last.size, nil
		}
	}
}

// Finish reads all that is left of the archive, so that one that was cut is
// found, and holds the files that came by against the manifest, wherever it
// came.
func (p *Reader) Finish() error {
	for p.err == nil {
		p.next()
	}
	if p.err != io.EOF {
		return p.err
	}
	if err := p.finish(p.a); err != nil {
		return err
	}
	if p.manifest != nil {
		for _, m := range p.passed {
			if err := p.forgive(p.manifest.check(m.member, m.hasher)); err != nil {
				return err
			}
		}
	}
	_, err := io.Copy(io.Discard, p.a.in) // whoever writes to the pipe is not to fail
	return err
}

// next reads what is left of the member at hand and goes to the next one.
func (p *Reader) next() error {
	if p.buf == nil {
		p.buf = make([]byte, 256<<10)
	}
	for p.err == nil && p.last != nil {
		if _, err := p.read(p.buf); err == io.EOF {
			break
		}
	}
	if p.err != nil {
		return p.err
	}
	var m member
	if m, p.err = p.a.next(); p.err != nil {
		return p.err
	}
	known := p.manifest
	if p.err = p.meet(p.a, m); p.err != nil {
		return p.err
	}
	p.last = &passing{m, newHasher(known, m.name)}
	p.passed = append(p.passed, p.last)
	return nil
}

// read reads from the member at hand.
func (p *Reader) read(b []byte) (int, error) {
	if p.err != nil {
		return 0, p.err
	}
	n, err := p.a.read(p.last.member, b)
	p.last.Write(b[:n])
	if err != io.EOF {
		p.err = err
	}
	return n, err
}

// A body is the data of a member, until the next one is gone to.
type body struct {
	p *Reader
	m *passing
}

func (b *body) Read(p []byte) (int, error) {
	if b.p.last != b.m {
		return 0, io.EOF
	}
	return b.p.read(p)
}
