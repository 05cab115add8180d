package codec

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
)

// zstdMaxWindow is the largest window of a frame that is accepted: what the
// reference implementation's decoder takes unless told otherwise. It costs
// nothing here, since the output is the window.
const zstdMaxWindow = 128 << 20

// zstdSlack is how much room beyond a unit lets the module decode a block
// without looking at the end of the room all the time, which takes a third
// longer: the largest block, and a little more.
const zstdSlack = 128<<10 + 64

// A zstdDecoder decodes zstd frames.
type zstdDecoder struct {
	dec *zstd.Decoder
	buf []byte // of one frame, and zstdSlack
}

// decode decodes frames from stream until dst is full. A frame that would give
// more than fits is an error, and so is dst's end inside of a frame.
func (d *zstdDecoder) decode(dst, stream []byte) (Result, error) {
	if d.dec == nil {
		dec, err := zstd.NewReader(nil,
			zstd.WithDecoderConcurrency(1), // no goroutines
			zstd.WithDecodeAllCapLimit(true),
			zstd.WithDecoderMaxMemory(zstdMaxWindow),
			zstd.WithDecoderMaxWindow(zstdMaxWindow))
		if err != nil {
			return Result{}, err
		}
		d.dec = dec
	}
	n, used := 0, 0
	for n < len(dst) {
		if used > 0 && used == len(stream) {
			return Result{}, ErrTooShort
		}
		size, skip, err := zstdFrame(stream[used:])
		if err != nil {
			if used > 0 && err == errZstdMagic {
				err = ErrTooShort // what follows the last frame is padding
			}
			return Result{}, err
		}
		if !skip {
			room := len(dst) - n + zstdSlack
			if cap(d.buf) < room {
				d.buf = make([]byte, room)
			}
			out, err := d.dec.DecodeAll(stream[used:used+size], d.buf[:0:room])
			if err != nil {
				return Result{}, zstdError(err)
			}
			if len(out) > len(dst)-n {
				return Result{}, ErrTooLong
			}
			n += copy(dst[n:], out)
		}
		used += size
	}
	return Result{Used: used}, nil
}

// zstdError translates the module's errors.
func zstdError(err error) error {
	switch {
	case errors.Is(err, zstd.ErrDecoderSizeExceeded):
		return ErrTooLong
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		// The frame is all there, as its block headers say: a block ended early.
		return errors.New("zstd: a block is damaged")
	}
	return fmt.Errorf("zstd: %w", err)
}

var (
	errZstdMagic = errors.New("zstd: no frame begins here")
	errZstdBlock = errors.New("zstd: a block of the reserved type")
)

// zstdFrame returns the length in bytes of the frame that p begins with, as its
// header and its blocks' headers tell, and whether it is one to be skipped
// (RFC 8878, sections 3.1.1 and 3.1.2).
func zstdFrame(p []byte) (size int, skip bool, err error) {
	const (
		magic     = 0xfd2fb528
		skippable = 0x184d2a50 // to 0x184d2a5f
	)
	if len(p) < 4 {
		return 0, false, io.ErrUnexpectedEOF
	}
	switch m := binary.LittleEndian.Uint32(p); {
	case m == magic:
	case m&^0xf == skippable:
		if len(p) < 8 {
			return 0, false, io.ErrUnexpectedEOF
		}
		n := int64(binary.LittleEndian.Uint32(p[4:])) + 8
		if n > int64(len(p)) {
			return 0, false, io.ErrUnexpectedEOF
		}
		return int(n), true, nil
	default:
		return 0, false, errZstdMagic
	}
	if len(p) < 5 {
		return 0, false, io.ErrUnexpectedEOF
	}
	flags := p[4]
	single := flags>>5&1 == 1
	pos := 5
	if !single {
		pos++ // Window_Descriptor
	}
	pos += [4]int{0, 1, 2, 4}[flags&3] // Dictionary_ID
	switch flags >> 6 {                // Frame_Content_Size
	case 0:
		if single {
			pos++
		}
	case 1:
		pos += 2
	case 2:
		pos += 4
	case 3:
		pos += 8
	}
	for last := false; !last; {
		if len(p)-pos < 3 {
			return 0, false, io.ErrUnexpectedEOF
		}
		h := int(p[pos]) | int(p[pos+1])<<8 | int(p[pos+2])<<16
		pos += 3
		last = h&1 == 1
		n := h >> 3
		switch h >> 1 & 3 {
		case 1: // RLE_Block: one byte, n times
			n = 1
		case 3:
			return 0, false, errZstdBlock
		}
		if len(p)-pos < n {
			return 0, false, io.ErrUnexpectedEOF
		}
		pos += n
	}
	if flags>>2&1 == 1 { // Content_Checksum
		pos += 4
	}
	if pos > len(p) {
		return 0, false, io.ErrUnexpectedEOF
	}
	return pos, false, nil
}

// A zstdEncoder encodes a unit as one frame.
type zstdEncoder struct {
	enc   *zstd.Encoder
	quick *zstd.Encoder // of units with few different bytes; nil: enc
}

func newZstdEncoder(level int) (*zstdEncoder, error) {
	if level != 0 {
		enc, err := newZstdWriter(level)
		return &zstdEncoder{enc: enc}, err
	}
	enc, err := newZstdWriter(3)
	if err != nil {
		return nil, err
	}
	quick, err := newZstdWriter(1)
	return &zstdEncoder{enc: enc, quick: quick}, err
}

func newZstdWriter(level int) (*zstd.Encoder, error) {
	return zstd.NewWriter(nil,
		zstd.WithEncoderConcurrency(1), // no goroutines
		zstd.WithEncoderLevel(zstd.EncoderLevelFromZstd(level)),
		zstd.WithWindowSize(zstdEncodeWindow),
		zstd.WithEncoderCRC(false),
		zstd.WithSingleSegment(true),
		zstd.WithZeroFrames(true))
}

// zstdEncodeWindow is the largest unit that there is: a QCOW2 cluster.
const zstdEncodeWindow = 2 << 20

func (e *zstdEncoder) encode(dst, src []byte) []byte {
	if e.quick != nil && len(src) <= quickSize && fewBytes(src) {
		return e.quick.EncodeAll(src, dst)
	}
	return e.enc.EncodeAll(src, dst)
}

// quickSize is the largest unit that level 1 is good enough for. In larger ones
// level 3 finds more: of clusters of 2 MiB it made images 9 % larger than the
// reference's.
const quickSize = 128 << 10

// fewBytes reports whether few of the 256 bytes make up most of p, as in text
// and in tables: whether two bytes of p are alike more often than one in 32.
// Level 3 makes those little shorter. (Measured on 3 GiB of programs, libraries
// and documents: an eighth less time, 3.6 % more bytes.)
func fewBytes(p []byte) bool {
	const step = 7 // a sample; prime, for what is in rows
	var count [256]uint64
	for i := 0; i < len(p); i += step {
		count[p[i]]++
	}
	n, pairs := uint64(len(p)+step-1)/step, uint64(0)
	for _, c := range count {
		pairs += c * c
	}
	return 32*pairs > n*n
}
