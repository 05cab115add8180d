package codec

import (
	"bytes"
	"errors"
	"io"

	"github.com/klauspost/compress/flate"
)

// An inflater decodes one bare deflate stream at a time.
type inflater struct {
	in   bytes.Reader
	r    io.ReadCloser
	over [1]byte
}

func (d *inflater) decode(dst, stream []byte) (Result, error) {
	d.in.Reset(stream)
	if d.r == nil {
		d.r = flate.NewReader(&d.in)
	} else if err := d.r.(flate.Resetter).Reset(&d.in, nil); err != nil {
		return Result{}, err
	}
	n := 0
	for n < len(dst) {
		m, err := d.r.Read(dst[n:])
		n += m
		if err == io.EOF && n < len(dst) {
			return Result{}, ErrTooShort
		}
		if err != nil && err != io.EOF {
			return Result{}, inflateError(err)
		}
	}
	for range 2 {
		m, err := d.r.Read(d.over[:])
		if m > 0 {
			return Result{}, ErrTooLong
		}
		if err == io.EOF {
			return Result{Used: len(stream) - d.in.Len(), MaxDistance: 32768}, nil
		}
		if err != nil {
			return Result{}, inflateError(err)
		}
	}
	return Result{}, io.ErrNoProgress
}

func inflateError(err error) error {
	if err == io.ErrUnexpectedEOF {
		return err
	}
	return errors.New("deflate: invalid stream")
}
