package unwrap

import (
	"bufio"
	"errors"
	"io"
)

var errBlockType = errors.New("zstd: a block of the reserved type")

// A frame passes one zstd frame through and then ends, as its header and its
// blocks' headers tell (RFC 8878, sections 3.1.1 and 3.1.2). Without it the
// decoder takes what follows a frame for its end or for the next, and bytes cut
// from the next one's front for nothing.
type frame struct {
	in   *bufio.Reader
	left int64 // of what is at hand
	then step
	sum  bool // a checksum comes behind the last block
	err  error
}

// A step is what comes when what is at hand has been passed.
type step uint8

const (
	header step = iota
	block
	checksum
	end
)

// begin takes the next frame in.
func (f *frame) begin() { f.left, f.then, f.err = 0, header, nil }

// ended reports whether all of the frame was passed.
func (f *frame) ended() bool { return f.then == end && f.left == 0 }

func (f *frame) Read(p []byte) (int, error) {
	for f.left == 0 && f.err == nil {
		if f.then == end {
			return 0, io.EOF
		}
		f.err = f.advance()
	}
	if f.err != nil {
		return 0, f.err
	}
	n, err := f.in.Read(p[:min(int64(len(p)), f.left)])
	if f.left -= int64(n); err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	f.err = err
	return n, err
}

// advance finds out how long the next piece is.
func (f *frame) advance() error {
	switch f.then {
	case header:
		h, err := f.peek(5)
		if err != nil {
			return err
		}
		if isSkippable(h) {
			if h, err = f.peek(8); err != nil {
				return err
			}
			n := int64(h[4]) | int64(h[5])<<8 | int64(h[6])<<16 | int64(h[7])<<24
			f.left, f.then = 8+n, end
			return nil
		}
		flags := h[4]
		single := flags>>5&1 == 1
		f.left = 5 + [4]int64{0, 1, 2, 4}[flags&3] // Dictionary_ID
		switch {
		case !single:
			f.left += 1 + [4]int64{0, 2, 4, 8}[flags>>6] // Window_Descriptor, Frame_Content_Size
		default:
			f.left += [4]int64{1, 2, 4, 8}[flags>>6]
		}
		f.sum, f.then = flags>>2&1 == 1, block
	case block:
		h, err := f.peek(3)
		if err != nil {
			return err
		}
		v := int64(h[0]) | int64(h[1])<<8 | int64(h[2])<<16
		n := v >> 3
		switch v >> 1 & 3 {
		case 1: // RLE_Block: one byte, n times
			n = 1
		case 3:
			return errBlockType
		}
		f.left = 3 + n
		if v&1 == 1 { // Last_Block
			f.then = checksum
		}
	case checksum:
		if f.then = end; f.sum {
			f.left = 4
		}
	}
	return nil
}

// peek returns the next n bytes. Too few are io.ErrUnexpectedEOF.
func (f *frame) peek(n int) ([]byte, error) {
	p, err := f.in.Peek(n)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return p, err
}
