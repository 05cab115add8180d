// Package unwrap reads, front to back, what is compressed as a whole: gzip
// files (RFC 1952) and Zstandard ones (RFC 8878), of any number of members.
package unwrap

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"

	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/diskimage-go/diskimage"
)

// A Kind is a way to compress a whole file.
type Kind uint8

const (
	None Kind = iota
	Gzip
	Zstd
)

func (k Kind) String() string { return [...]string{"none", "gzip", "zstd"}[k] }

// Probe returns what a file that begins with prefix is compressed with, and
// None if that is nothing known here. Four bytes are enough.
func Probe(prefix []byte) Kind {
	switch {
	case len(prefix) >= 3 && string(prefix[:3]) == gzipMagic:
		return Gzip
	case len(prefix) >= 4 && (string(prefix[:4]) == zstdMagic || isSkippable(prefix)):
		return Zstd
	}
	return None
}

const (
	gzipMagic = "\x1f\x8b\x08" // RFC 1952, section 2.3.1: ID1, ID2 and the one method there is
	zstdMagic = "\x28\xb5\x2f\xfd"
)

// magic is what a member begins with, skippable frames aside.
func (k Kind) magic() string {
	if k == Gzip {
		return gzipMagic
	}
	return zstdMagic
}

// isSkippable reports whether p begins with the magic number of a skippable
// frame (RFC 8878, section 3.1.2).
func isSkippable(p []byte) bool { return p[0]&0xf0 == 0x50 && string(p[1:4]) == "\x2a\x4d\x18" }

// Options say how a file is read.
type Options struct {
	// Kind is what the file is compressed with. Default: told by its content.
	Kind Kind

	// Limit is the most bytes that may come out: more is ErrLimit. A few KiB of
	// gzip can hold some MiB, and of zstd any number. Default: no limit.
	Limit int64

	// Format and Field are what errors and notes name. Default: the kind's name,
	// and nothing.
	Format, Field string
}

// FileLimit returns a Limit for the file of a disk that holds so many bytes, or
// at most so many. No format takes more than a sixteenth of it for tables;
// snapshots would.
func FileLimit(capacity int64) int64 {
	most := capacity + capacity/16 + 64<<20
	if most < 0 {
		return math.MaxInt64
	}
	return most
}

// A Reader gives what a compressed file holds. What follows its last member and
// is none is noted and not read. It is not safe for concurrent use.
//
// Errors are ErrTruncated where the file ends too early, ErrCorrupt where it is
// damaged, its checksums among that, ErrLimit, and the input's own.
type Reader struct {
	o     Options
	kind  Kind
	in    *bufio.Reader
	gzip  *gzip.Reader
	zstd  *zstd.Decoder
	frame frame
	out   int64
	notes []diskimage.Note
	err   error
}

// NewReader reads the beginning of a compressed file. It fails with ErrFormat
// if that is of no kind. Closing the Reader leaves r open.
func NewReader(r io.Reader, o Options) (*Reader, error) {
	u := &Reader{o: o, in: bufio.NewReaderSize(r, 64<<10)}
	prefix, err := u.in.Peek(4)
	if err != nil && err != io.EOF {
		return nil, err
	}
	switch u.kind = Probe(prefix); {
	case o.Kind != None && strings.HasPrefix(o.Kind.magic(), string(prefix)): // or cut
		u.kind = o.Kind
	case o.Kind != None && u.kind != o.Kind:
		return nil, u.failure(diskimage.ErrCorrupt, "the content is not compressed with "+o.Kind.String())
	case u.kind == None:
		return nil, u.failure(diskimage.ErrFormat, "the content is compressed neither with gzip nor with zstd")
	}
	if o.Format == "" {
		u.o.Format = u.kind.String()
	}
	if err := u.next(); err != nil {
		return nil, err
	}
	return u, nil
}

// Kind returns what the file is compressed with.
func (u *Reader) Kind() Kind { return u.kind }

// Notes returns what was noted so far.
func (u *Reader) Notes() []diskimage.Note { return u.notes }

// Close gives memory back.
func (u *Reader) Close() error {
	if u.zstd != nil {
		u.zstd.Close()
	}
	u.err = errClosed
	return nil
}

var errClosed = errors.New("unwrap: the reader is closed")

// Read fills p from the member that is at hand, or the next.
func (u *Reader) Read(p []byte) (n int, err error) {
	for n == 0 && len(p) > 0 && u.err == nil {
		if u.kind == Gzip {
			n, err = u.gzip.Read(p)
		} else {
			n, err = u.zstd.Read(p)
		}
		if u.out += int64(n); u.o.Limit > 0 && u.out > u.o.Limit {
			n, err = 0, u.failure(diskimage.ErrLimit, fmt.Sprintf("unpacks to more than the limit of %d bytes", u.o.Limit))
		}
		if err == io.EOF {
			err = u.another()
		} else if err != nil {
			err = u.fault(err)
		}
		u.err = err
	}
	if n > 0 {
		return n, nil
	}
	return n, u.err
}

// another goes to the member behind one that has ended, or returns io.EOF.
func (u *Reader) another() error {
	switch { // the decoder takes for a file's end what fails in front of a frame
	case u.kind == Zstd && u.frame.err != nil:
		return u.fault(u.frame.err)
	case u.kind == Zstd && !u.frame.ended():
		return u.failure(diskimage.ErrCorrupt, "a frame's data ends before its last block")
	}
	p, err := u.in.Peek(4)
	switch {
	case len(p) == 0:
		return err // io.EOF, or why there is no more
	case u.kind == Gzip && strings.HasPrefix(string(p), gzipMagic[:2]), // whatever its method
		len(p) == 4 && Probe(p) == u.kind,
		err != nil && strings.HasPrefix(u.kind.magic(), string(p)): // cut
		return u.next()
	case err != nil && err != io.EOF:
		return err
	}
	u.notes = append(u.notes, diskimage.Note{Format: u.o.Format,
		Text: "something follows the " + u.kind.String() + " data" + of(u.o.Field) + ", and was not read"})
	return io.EOF
}

// zstdMaxWindow is the largest window of a frame that is accepted, and so what
// one takes of memory: what the reference implementation's decoder takes unless
// told otherwise.
const zstdMaxWindow = 128 << 20

// next begins a member.
func (u *Reader) next() (err error) {
	switch {
	case u.kind == Zstd && u.zstd == nil:
		u.frame.in = u.in
		u.frame.begin()
		u.zstd, err = zstd.NewReader(&u.frame,
			zstd.WithDecoderConcurrency(1), // no goroutines
			zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxWindow(zstdMaxWindow))
	case u.kind == Zstd:
		u.frame.begin()
		err = u.zstd.Reset(&u.frame)
	case u.gzip == nil:
		u.gzip, err = gzip.NewReader(u.in)
	default:
		err = u.gzip.Reset(u.in)
	}
	if err != nil {
		return u.fault(err)
	}
	if u.kind == Gzip {
		u.gzip.Multistream(false)
	}
	return nil
}

// fault says what is wrong with the data; errors of the input are their own.
func (u *Reader) fault(err error) error {
	var damaged flate.CorruptInputError
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		if u.kind == Zstd && u.frame.ended() {
			return u.failure(diskimage.ErrCorrupt, "the zstd data is damaged")
		}
		return u.failure(diskimage.ErrTruncated, "the "+u.kind.String()+" data ends too early")
	case u.kind == Zstd && u.frame.err != nil && errors.Is(err, u.frame.err) && err != errBlockType:
		return err // the input's own
	case errors.Is(err, zstd.ErrWindowSizeExceeded):
		return u.failure(diskimage.ErrLimit, fmt.Sprintf("a frame of the zstd data needs more memory than %d MiB", zstdMaxWindow>>20))
	case u.kind == Zstd, errors.Is(err, gzip.ErrHeader), errors.Is(err, gzip.ErrChecksum), errors.As(err, &damaged):
		e := u.failure(diskimage.ErrCorrupt, "the "+u.kind.String()+" data is damaged")
		e.Err = err
		return e
	}
	return err
}

func (u *Reader) failure(kind diskimage.ErrorKind, msg string) *diskimage.Error {
	return &diskimage.Error{Kind: kind, Format: u.o.Format, Off: -1, Field: u.o.Field, Msg: msg}
}

// of returns the end of a sentence about a field.
func of(field string) string {
	if field == "" {
		return ""
	}
	return " of " + field
}
