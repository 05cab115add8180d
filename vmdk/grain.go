package vmdk

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/internal/adler32"
	"github.com/diskimage-go/diskimage/internal/codec"
	"github.com/diskimage-go/diskimage/internal/units"
)

// A compressed grain is a zlib stream (RFC 1950): two bytes of header, a bare
// deflate stream, and the big-endian Adler-32 of what it decodes to.
const (
	zlibHeaderLen = 2
	adlerLen      = 4
	minStreamLen  = zlibHeaderLen + 1 + adlerLen
)

// unwrapZlib returns what follows the header of a zlib stream of minStreamLen
// bytes or more: the bare deflate stream and its checksum. RFC 1950, section
// 2.2: deflate, without a preset dictionary.
func unwrapZlib(p []byte) ([]byte, error) {
	if head := binary.BigEndian.Uint16(p); head>>8&15 != 8 || head%31 != 0 || head&0x20 != 0 {
		return nil, fmt.Errorf("%#04x does not start a zlib stream", head)
	}
	return p[zlibHeaderLen:], nil
}

// A grainReader reads the compressed grains of a sparse extent. It is safe for
// concurrent use.
type grainReader struct {
	s     *sparse
	most  int64 // bytes that a stored grain may take, with its marker
	units units.Reader
}

func (u *grainReader) init(s *sparse) {
	u.s, u.most = s, 2*s.grain // QEMU
	u.units.Init(s.grain)      // at most 2 MiB
}

// read fills p with guest bytes of one compressed grain: those at off, which m
// maps.
func (u *grainReader) read(p []byte, off int64, m mapping) error {
	in := off & (u.s.grain - 1)
	guest := off - in
	return u.units.Read(p, in, units.Key{Guest: guest, Host: m.host, HostLen: m.guess}, func(b *units.Buffer, dst []byte) error {
		stream, err := u.readStream(&b.Stored, guest, m)
		if err != nil {
			return err
		}
		return u.decode(b.Decoder, dst, stream, guest, m)
	})
}

// decode fills dst, of a grain's size, with the grain at the guest offset
// guest.
func (u *grainReader) decode(d *codec.Decoder, dst, stream []byte, guest int64, m mapping) error {
	res, err := d.Decode(dst, stream, diskimage.Deflate)
	if err == codec.ErrTooShort && u.s.size()-guest < u.s.grain {
		// QEMU stores no more of the last grain than the disk has.
		dst = dst[:u.s.size()-guest]
		res, err = d.Decode(dst, stream, diskimage.Deflate)
	}
	switch rest := len(stream) - res.Used; {
	case err != nil:
		return u.bad(diskimage.ErrCorrupt, guest, m, "%d bytes do not hold a grain: %v", len(stream), err)
	case rest < adlerLen:
		return u.bad(diskimage.ErrCorrupt, guest, m, "the checksum is missing")
	case rest > adlerLen && u.s.h.markers():
		return u.bad(diskimage.ErrCorrupt, guest, m, "%d bytes more than the marker says of its %d are none of the stream's", rest-adlerLen, len(stream))
	}
	want := binary.BigEndian.Uint32(stream[res.Used:])
	if got := adler32.Checksum(dst); got != want {
		return u.bad(diskimage.ErrCorrupt, guest, m, "the data's checksum is %#x, not %#x", got, want)
	}
	return nil
}

// readStream reads the compressed grain at the guest offset guest to *buf, and
// returns its bare deflate stream with the checksum behind it. If there are no
// markers more may follow.
func (u *grainReader) readStream(buf *[]byte, guest int64, m mapping) ([]byte, error) {
	left := u.s.fileSize - m.host
	n := min(u.most, left)
	if u.s.h.markers() {
		n = m.guess
	}
	if err := u.fill(buf, 0, n, guest, m); err != nil {
		return nil, err
	}
	stream := *buf
	if u.s.h.markers() {
		if n < grainMarkerLen+minStreamLen {
			return nil, u.bad(diskimage.ErrTruncated, guest, m, "the file ends %d bytes behind its start", n)
		}
		size, err := u.storedSize(decodeMarker(stream), guest, m)
		if err != nil {
			return nil, err
		}
		if grainMarkerLen+size > n {
			if err := u.fill(buf, n, grainMarkerLen+size, guest, m); err != nil {
				return nil, err
			}
		}
		stream = (*buf)[grainMarkerLen:][:size]
	}
	if len(stream) < minStreamLen {
		return nil, u.bad(diskimage.ErrTruncated, guest, m, "the file ends %d bytes behind its start", n)
	}
	stream, err := unwrapZlib(stream)
	if err != nil {
		return nil, u.bad(diskimage.ErrCorrupt, guest, m, "%v", err)
	}
	return stream, nil
}

// storedSize returns the bytes of the stream behind a grain's marker, which must
// be that of the grain at the guest offset guest.
func (u *grainReader) storedSize(mk marker, guest int64, m mapping) (int64, error) {
	size := int64(mk.size)
	switch {
	case size < minStreamLen || size > u.most-grainMarkerLen:
		return 0, u.bad(diskimage.ErrCorrupt, guest, m, "the marker's size %d is not in %d to %d", size, minStreamLen, u.most-grainMarkerLen)
	case mk.val != uint64(guest/sectorSize):
		return 0, u.bad(diskimage.ErrCorrupt, guest, m, "the marker is of guest sector %#x, not %#x", mk.val, guest/sectorSize)
	case grainMarkerLen+size > u.s.fileSize-m.host:
		return 0, u.bad(diskimage.ErrTruncated, guest, m, "%d bytes end beyond the end of the file at %#x", size, u.s.fileSize)
	}
	return size, nil
}

// fill reads the bytes from have to want of the grain's place in the file to
// the same place in *buf.
func (u *grainReader) fill(buf *[]byte, have, want, guest int64, m mapping) error {
	b := slices.Grow((*buf)[:have], int(want-have))[:want] // at most 4 MiB, and inside the file
	*buf = b
	if err := readFull(u.s.src, b[have:], m.host+have, "grain"); err != nil {
		return within(err, "guest offset %#x", guest)
	}
	return nil
}

func (u *grainReader) bad(kind diskimage.ErrorKind, guest int64, m mapping, format string, args ...any) error {
	return fail(kind, m.host, fmt.Sprintf("compressed grain of guest offset %#x", guest), format, args...)
}
