package ova

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/internal/zero"
)

// Limits of ours: real packages have some ten members.
const (
	maxMembers = 4096
	maxName    = 1024 // bytes
)

// A member is a file in the archive.
type member struct {
	name string
	off  int64 // of its data in the archive
	size int64
}

// An archive goes through a tar from member to member, and lets pass what an
// OVA may hold. The layout is that of POSIX.1 "ustar", with the extensions for
// long names and large sizes of pax and GNU tar; archive/tar knows them.
type archive struct {
	in    *tape
	tar   *tar.Reader
	seen  map[string]member
	count int  // with folders
	lone  bool // the end mark is half of one
}

func newArchive(r io.Reader) *archive {
	a := &archive{in: &tape{r: r}, seen: map[string]member{}}
	a.tar = tar.NewReader(a.in)
	if s, ok := r.(*io.SectionReader); ok { // unlike a pipe's, its Seek works
		a.tar = tar.NewReader(seekingTape{a.in, s})
	}
	return a
}

// next goes to the next file, whose data can then be read from a.tar. At the
// archive's end it returns io.EOF.
func (a *archive) next() (member, error) {
	for {
		start := a.in.end
		hdr, err := a.tar.Next()
		if err == io.EOF {
			return member{}, a.atEnd()
		}
		if err != nil && !errors.Is(err, tar.ErrInsecurePath) {
			return member{}, a.fault(err, start)
		}
		if a.count++; a.count > maxMembers {
			return member{}, failure(diskimage.ErrLimit, "archive", start, fmt.Sprintf("more than %d members", maxMembers))
		}
		m := member{name: strings.TrimPrefix(hdr.Name, "./"), off: a.in.at, size: hdr.Size}
		folder := hdr.Typeflag == tar.TypeDir
		if folder {
			m.name, m.size = strings.TrimSuffix(m.name, "/"), 0
		}
		a.in.end = (m.off + m.size + blockSize - 1) &^ (blockSize - 1)
		if what := oddity(hdr); what != "" {
			return member{}, corrupt(memberField(hdr.Name), start, "is "+what+", not a plain file")
		}
		if folder && m.name == "" { // "./", where a folder was packed
			continue
		}
		switch {
		case len(m.name) > maxName:
			return member{}, corrupt(memberField(hdr.Name), start, fmt.Sprintf("a name of %d bytes; %d at most", len(m.name), maxName))
		case !plainName(m.name):
			return member{}, corrupt(memberField(hdr.Name), start, "the name is not that of a file inside the package")
		}
		if folder {
			continue
		}
		if _, ok := a.seen[m.name]; ok {
			return member{}, corrupt(memberField(hdr.Name), start, "there is another one of this name")
		}
		a.seen[m.name] = m
		return m, nil
	}
}

// plainName reports whether a name, with slashes, leads to a file below the
// folder it is looked up in, on any system.
func plainName(name string) bool {
	return fs.ValidPath(name) && name != "." && !strings.ContainsAny(name, "\\\x00")
}

// oddity returns what a member is that is neither plain file nor folder.
func oddity(hdr *tar.Header) string {
	for key := range hdr.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return "a sparse file"
		}
	}
	switch hdr.Typeflag {
	case tar.TypeReg, tar.TypeDir:
		return ""
	case tar.TypeLink:
		return "a hard link to " + diskimage.Quote(hdr.Linkname)
	case tar.TypeSymlink:
		return "a symbolic link to " + diskimage.Quote(hdr.Linkname)
	case tar.TypeChar, tar.TypeBlock:
		return "a device"
	case tar.TypeFifo:
		return "a FIFO"
	case tar.TypeGNUSparse:
		return "a sparse file"
	case tar.TypeXGlobalHeader:
		return "a pax header for all that follows"
	}
	return fmt.Sprintf("of type %q", hdr.Typeflag)
}

// atEnd returns io.EOF if the archive ends as it must, with two blocks of
// zeros: archive/tar takes any end of the input for the archive's. What follows
// the two is undefined (POSIX.1, pax, "ustar Interchange Format").
func (a *archive) atEnd() error {
	switch behind := a.in.at - a.in.end; {
	case a.in.zeros > 0 && behind == int64(a.in.zeros)*blockSize:
		a.lone = a.in.zeros == 1
		return io.EOF
	case a.in.zeros > 0:
		return corrupt("archive", a.in.end, "a header for a member that does not follow")
	}
	return failure(diskimage.ErrTruncated, "archive", a.in.at, "the file ends here, without the end mark of an archive")
}

// fault returns the error for what archive/tar, or reading, came upon behind
// the offset at.
func (a *archive) fault(err error, at int64) error {
	switch {
	case a.in.err != nil:
		return fmt.Errorf("ova: reading at %#x: %w", a.in.at, a.in.err)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return failure(diskimage.ErrTruncated, "archive", a.in.at, "the file ends here, inside a member or its header")
	case errors.Is(err, tar.ErrFieldTooLong):
		return failure(diskimage.ErrLimit, "tar header", at, "an extension that is too long")
	}
	return corrupt("tar header", at, "is not valid")
}

// read fills p from the member that next came to, and says of a failure whose
// it is.
func (a *archive) read(m member, p []byte) (int, error) {
	n, err := a.tar.Read(p)
	if err != nil && err != io.EOF {
		if a.in.err == nil && errors.Is(err, io.ErrUnexpectedEOF) {
			return n, failure(diskimage.ErrTruncated, memberField(m.name), a.in.at,
				fmt.Sprintf("the file ends here, the member is to have %d bytes", m.size))
		}
		return n, a.fault(err, m.off)
	}
	return n, err
}

// text reads all of a member that next came to, if it is not too long.
func (a *archive) text(m member, most int64) ([]byte, error) {
	if m.size > most {
		return nil, failure(diskimage.ErrLimit, memberField(m.name), m.off, fmt.Sprintf("has %d bytes; %d at most", m.size, most))
	}
	p := make([]byte, m.size)
	for n := 0; n < len(p); {
		k, err := a.read(m, p[n:])
		n += k
		if err != nil && n < len(p) {
			return nil, err
		}
	}
	return p, nil
}

// A tape is what an archive is read from.
type tape struct {
	r     io.Reader
	at    int64
	end   int64 // of the last member and its padding
	zeros int   // how many blocks of zeros were read last, behind end
	err   error // other than io.EOF
}

const blockSize = 512

// Read reads what may be a header whole.
func (t *tape) Read(p []byte) (n int, err error) {
	n, err = t.r.Read(p)
	for err == nil && n < len(p) && len(p) == blockSize {
		var m int
		m, err = t.r.Read(p[n:])
		n += m
	}
	if err != nil && err != io.EOF {
		t.err = err
	}
	switch {
	case n == 0:
	case n == blockSize && t.at >= t.end && zero.Is(p[:n]):
		t.zeros++
	default:
		t.zeros = 0
	}
	t.at += int64(n)
	return n, err
}

// A seekingTape passes over data without reading it.
type seekingTape struct {
	*tape
	s io.Seeker
}

func (t seekingTape) Seek(off int64, whence int) (int64, error) {
	at, err := t.s.Seek(off, whence)
	if err == nil {
		t.at = at
	}
	return at, err
}
