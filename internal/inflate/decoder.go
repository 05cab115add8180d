package inflate

import (
	"errors"
	"io"
)

// A CorruptError says which rule of RFC 1951 a stream breaks.
type CorruptError string

func (e CorruptError) Error() string { return "inflate: " + string(e) }

// ErrTooLong says that a stream gives more bytes than there is room for.
var ErrTooLong = errors.New("inflate: the stream gives more bytes than there is room for")

const (
	errBlockType   = CorruptError("a block of the reserved type")
	errStored      = CorruptError("a stored block's length and its complement differ")
	errCounts      = CorruptError("a block has too many code lengths")
	errRepeat      = CorruptError("a code length is repeated where there is none, or too often")
	errCodeLengths = CorruptError("the code for code lengths is not complete")
	errLitLen      = CorruptError("the code for literals and lengths is not complete")
	errDist        = CorruptError("the code for distances is not complete")
	errSymbol      = CorruptError("a symbol that has no code or no meaning")
	errDistance    = CorruptError("a match reaches back to before the start")
)

// A Decoder holds what decoding needs: about 40 KiB of tables. The zero value
// is ready. It is not safe for concurrent use.
type Decoder struct {
	src, dst []byte
	in, out  int    // how much of them is used
	buf      uint64 // bits taken from src and not yet used, the next one lowest
	cnt      uint   // how many, at most 63; the bits above them are zero
	far      int    // the longest distance so far
	begun    int    // what out was at the last block with a code of its own

	ready    bool // the next three are made
	fixed    tables
	litBase  [maxLitLen]uint32
	distBase [maxDist]uint64

	own    tables // of the current block
	codes  [1 << codeBits]uint32
	lens   [maxLitLen + maxDist]uint8
	sorted [maxLitLen]uint16
}

// Decode decodes the stream that src begins with into dst. It returns how many
// bytes of dst it filled and how many of src the stream took, its last byte
// counted whole, and the longest distance of a match.
//
// The error is io.ErrUnexpectedEOF if src ends before the stream does,
// ErrTooLong if dst is full before it does, or a CorruptError. Then the
// content of dst is undefined.
func (d *Decoder) Decode(dst, src []byte) (n, used, maxDistance int, err error) {
	d.src, d.dst = src, dst
	d.in, d.out, d.buf, d.cnt, d.far, d.begun = 0, 0, 0, 0, 0, -len(dst)
	err = d.stream()
	d.src, d.dst = nil, nil
	if err != nil {
		return 0, 0, 0, err
	}
	return d.out, d.in - int(d.cnt/8), d.far, nil
}

// stream decodes all blocks (RFC 1951, section 3.2.3).
func (d *Decoder) stream() error {
	for {
		h, err := d.take(3)
		if err != nil {
			return err
		}
		switch h >> 1 {
		case 0:
			err = d.stored()
		case 1:
			d.prepare()
			err = d.block(&d.fixed)
		case 2:
			d.prepare()
			if err = d.readCodes(); err == nil {
				err = d.block(&d.own)
			}
		default:
			err = errBlockType
		}
		if err != nil || h&1 == 1 {
			return err
		}
	}
}

// refill takes whole bytes from src until 56 bits or more are there, or src is
// used up.
func (d *Decoder) refill() {
	for d.cnt < 56 && d.in < len(d.src) {
		d.buf |= uint64(d.src[d.in]) << (d.cnt & 63)
		d.in++
		d.cnt += 8
	}
}

// take returns the next n bits, n at most 32.
func (d *Decoder) take(n uint) (uint, error) {
	if d.cnt < n {
		d.refill()
		if d.cnt < n {
			return 0, io.ErrUnexpectedEOF
		}
	}
	v := uint(d.buf & (1<<(n&63) - 1))
	d.buf >>= n & 63
	d.cnt -= n
	return v, nil
}

// stored copies a block that is not compressed (section 3.2.4).
func (d *Decoder) stored() error {
	if _, err := d.take(d.cnt & 7); err != nil {
		return err
	}
	n, err := d.take(16)
	if err != nil {
		return err
	}
	complement, err := d.take(16)
	if err != nil {
		return err
	}
	if n != complement^0xffff {
		return errStored
	}
	d.in -= int(d.cnt / 8)
	d.buf, d.cnt = 0, 0
	if int(n) > len(d.src)-d.in {
		return io.ErrUnexpectedEOF
	}
	if int(n) > len(d.dst)-d.out {
		return ErrTooLong
	}
	d.out += copy(d.dst[d.out:], d.src[d.in:d.in+int(n)])
	d.in += int(n)
	return nil
}
