package codec

import (
	"fmt"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/internal/deflate"
)

// EncoderOptions says how to encode. The zero value is no encoder: Encoding
// has to be set.
type EncoderOptions struct {
	Encoding diskimage.Encoding // Deflate or Zstd; no default

	// Level trades speed for size: 1 to 9 of Deflate, 1 to 22 of Zstd, of which
	// those that its encoder does not tell apart are equal.
	// Default: 0, which is 1 for Deflate and for Zstd 3, but 1 where that gains
	// little.
	Level int

	// Window is how far back a match of Deflate may reach: 4096 or 32768. Strict
	// readers of QCOW2 images accept only 4096. Zstd reaches over the whole
	// unit, and takes only 0. Default: 0, which is 4096 for Deflate.
	Window int
}

// An Encoder encodes compressed units. It is not safe for concurrent use. It
// holds no goroutine and needs no Close.
type Encoder struct {
	encode func(dst, src []byte) []byte
}

// NewEncoder returns an Encoder, or an error that says which option is wrong.
func NewEncoder(o EncoderOptions) (*Encoder, error) {
	switch o.Encoding {
	case diskimage.Deflate:
		return newDeflate(o)
	case diskimage.Zstd:
		if o.Level < 0 || o.Level > 22 {
			return nil, fmt.Errorf("codec: zstd: level %d is not one of 1 to 22, or 0 for the default", o.Level)
		}
		if o.Window != 0 {
			return nil, fmt.Errorf("codec: zstd: a window (%d) cannot be chosen", o.Window)
		}
		e, err := newZstdEncoder(o.Level)
		if err != nil {
			return nil, fmt.Errorf("codec: %w", err)
		}
		return &Encoder{encode: e.encode}, nil
	}
	return nil, fmt.Errorf("codec: no encoder for encoding %v", o.Encoding)
}

func newDeflate(o EncoderOptions) (*Encoder, error) {
	level, window := o.Level, o.Window
	if level == 0 {
		level = 1
	}
	if level < 1 || level > 9 {
		return nil, fmt.Errorf("codec: deflate: level %d is not one of 1 to 9, or 0 for the default", level)
	}
	switch window {
	case 0:
		window = 4096
	case 4096, 32768:
	default:
		return nil, fmt.Errorf("codec: deflate: a window of %d is neither 4096 nor 32768", window)
	}
	e, err := deflate.New(window, level)
	if err != nil {
		return nil, fmt.Errorf("codec: %w", err)
	}
	return &Encoder{encode: e.Encode}, nil
}

// Encode appends to dst the stream for src and returns the result. The stream
// depends on src and the options alone: not on what was encoded before, nor on
// the machine. It may be longer than src, by a few bytes for each 8 KiB. What
// lies in dst's capacity beyond the result is undefined.
func (e *Encoder) Encode(dst, src []byte) []byte { return e.encode(dst, src) }
