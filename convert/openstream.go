package convert

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"slices"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/raw"
	"github.com/diskimage-go/diskimage/vhd"
	"github.com/diskimage-go/diskimage/vmdk"
)

// streamFront is what is read of a stream before its format is known.
const streamFront = 1 << 20

// OpenStream shows the image that r gives, front to back, as a disk that can be
// read once: a streamOptimized VMDK, by itself or in an OVA, a fixed VHD, or
// the bytes as a raw disk if they are declared raw or are nothing else. Its
// format is told by the first bytes, as [Detect] has it, and for a fixed VHD,
// unless it is declared, by the last ones: of what is declared raw a VHD's
// footer at the end is an error of NextBlock there. A format that can only be
// read with random access is [diskimage.ErrUnsupported]: see [Spool]. What is
// compressed or in an archive is unwrapped if o.Unwrap or the name says so.
//
// The context bounds the opening. r is not closed, and what it gave is lost
// after an error.
func OpenStream(ctx context.Context, r io.Reader, o OpenOptions) (diskimage.Stream, error) {
	return openStream(ctx, r, -1, o, false)
}

// openStream opens an image whose file is so many bytes long, -1 where that is
// not known, and which lies in a package or not.
func openStream(ctx context.Context, r io.Reader, size int64, o OpenOptions, packed bool) (diskimage.Stream, error) {
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	b := bufio.NewReaderSize(r, streamFront)
	first, err := b.Peek(streamFront)
	if err != nil && err != io.EOF {
		return nil, err
	}
	if o.wrapper(first) != "" {
		return openUnwrappedStream(ctx, b, o)
	}
	src := diskimage.NewSource(bytes.NewReader(first), int64(len(first)))
	if err == nil {
		src = endsSource{head: first}
	}
	format := o.Format
	refuse := func(msg string) error {
		return &diskimage.Error{Kind: diskimage.ErrUnsupported, Format: format.String(), Off: -1, Msg: msg}
	}
	format, notes, err := decide(src, o.Format, o.RawAnyway)
	if err != nil {
		if o.Format != VHD || !isUnknown(src) { // a fixed one is known by its end
			return nil, err
		}
		format = VHD
	}
	switch {
	case o.Member != "" && format != OVA:
		return nil, refuse("this is no OVA, disk " + diskimage.Quote(o.Member) + " of one was asked for")
	case o.Snapshot != "" && format != QCOW2:
		return nil, refuse("the format has no snapshots, asked for was " + diskimage.Quote(o.Snapshot))
	}
	switch format {
	case Raw:
		switch {
		case o.Format == Auto && size < 0:
			return limited(vhd.NewStream(b, vhd.StreamOptions{SizeRule: o.SizeRule, OrRaw: true, Notes: notes}), o), nil
		case o.Format != Raw || !o.RawAnyway:
			return limited(&rawStream{raw.NewStream(&tailReader{r: b}, size), notes}, o), nil
		}
		return limited(&rawStream{raw.NewStream(b, size), notes}, o), nil
	case VHD:
		if vhdAt(first) != vhdNone {
			return nil, refuse(needsRandomAccess)
		}
		return limited(vhd.NewStream(b, vhd.StreamOptions{SizeRule: o.SizeRule, Notes: notes}), o), nil
	case OVA:
		if packed {
			return nil, refuse("a package in a package is not read")
		}
		return openPackageStream(ctx, b, o, func(ctx context.Context, r io.Reader, size int64, o OpenOptions) (diskimage.Stream, error) {
			return openStream(ctx, r, size, o, true)
		})
	case VMDK:
		if o.Salvage {
			return nil, refuse("what can be read of a damaged image is found with random access: give the file's name, or a folder for a copy (--spool)")
		}
		s, err := vmdk.NewStream(b, vmdk.StreamOptions{Notes: notes})
		if err != nil {
			return nil, err // not s, which would be no nil Stream
		}
		if err := checkVirtualSize(s.Size(), o.MaxVirtualSize); err != nil {
			return nil, err
		}
		return s, nil
	}
	return nil, refuse(needsRandomAccess)
}

// isUnknown reports whether a file has no mark of any format.
func isUnknown(src diskimage.Source) bool {
	found, err := identify(src)
	return err == nil && !slices.ContainsFunc(found, func(c content) bool { return c.class != onDisk })
}

const needsRandomAccess = "where its data is, its tables tell, which may come behind it: give the file's name instead of a stream, or a folder for a copy (--spool)"

// An endsSource is a long file of which the first and the last bytes are known:
// the rest reads as zeros.
type endsSource struct{ head, tail []byte }

func (s endsSource) Size() int64 { return 1 << 62 }

func (s endsSource) ReadAt(p []byte, off int64) (int, error) {
	clear(p)
	if off < int64(len(s.head)) {
		copy(p, s.head[off:])
	}
	if at := s.Size() - int64(len(s.tail)); off >= at {
		copy(p, s.tail[off-at:])
	} else if skip := at - off; skip < int64(len(p)) {
		copy(p[skip:], s.tail)
	}
	return len(p), nil
}

// A rawStream is a raw disk with notes.
type rawStream struct {
	*raw.Stream
	notes []diskimage.Note
}

func (s *rawStream) Notes() []diskimage.Note { return s.notes }

// A tailReader passes bytes through, and at their end looks for what marks an
// image there.
type tailReader struct {
	r    io.Reader
	tail []byte // the last bytes so far, vhdFooterLen at most
}

func (t *tailReader) Read(p []byte) (int, error) {
	n, err := t.r.Read(p)
	if n >= vhdFooterLen {
		t.tail = append(t.tail[:0], p[n-vhdFooterLen:n]...)
	} else if n > 0 {
		t.tail = append(t.tail, p[:n]...)
		t.tail = append(t.tail[:0], t.tail[max(0, len(t.tail)-vhdFooterLen):]...)
	}
	if err != io.EOF {
		return n, err
	}
	found, ierr := identify(endsSource{tail: t.tail})
	if ierr != nil {
		return n, ierr
	}
	if len(found) > 0 {
		return n, mismatch("the stream ends as " + allNames(found) + " does: give the file's name, or a folder for a copy (--spool), or declare it raw (--raw-anyway)")
	}
	return n, io.EOF
}
