package codec

import (
	"errors"
	"fmt"

	"github.com/diskimage-go/diskimage"
)

// What Decode says of a stream that is well-formed and does not give what it
// should. A stream that ends early gives io.ErrUnexpectedEOF.
var (
	ErrTooLong  = errors.New("the stream gives more bytes than its unit holds")
	ErrTooShort = errors.New("the stream gives fewer bytes than its unit holds")
)

// A Result says what [Decoder.Decode] learned of a stream.
type Result struct {
	Used        int // bytes of the stream, from its start to its end; what follows is padding
	MaxDistance int // Deflate: the farthest that a match reaches back, in bytes; 0 without matches
}

// A Decoder decodes compressed units. It is not safe for concurrent use. It
// holds no goroutine and needs no Close.
type Decoder struct {
	deflate inflater
	zstd    zstdDecoder
}

// NewDecoder returns a Decoder. Tables are made when they are first needed.
func NewDecoder() *Decoder { return new(Decoder) }

// Decode decodes the unit that stream begins with and fills dst exactly. Bytes
// behind the stream's end are ignored, and Result says where that is.
//
// It is an error if the stream gives fewer bytes than dst holds (ErrTooShort),
// or more (ErrTooLong, or for zstd also an error without a name), if it is cut
// (io.ErrUnexpectedEOF), or if it breaks its format's rules; then dst's content
// is undefined, and nothing beyond it was written.
func (d *Decoder) Decode(dst, stream []byte, enc diskimage.Encoding) (Result, error) {
	switch enc {
	case diskimage.Deflate:
		return d.deflate.decode(dst, stream)
	case diskimage.Zstd:
		return d.zstd.decode(dst, stream)
	}
	return Result{}, fmt.Errorf("codec: no decoder for encoding %v", enc)
}
