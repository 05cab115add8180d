package codec

import "github.com/diskimage-go/diskimage/internal/inflate"

// An inflater decodes one bare deflate stream at a time.
type inflater struct {
	d inflate.Decoder
}

func (d *inflater) decode(dst, stream []byte) (Result, error) {
	n, used, far, err := d.d.Decode(dst, stream)
	switch {
	case err == inflate.ErrTooLong:
		return Result{}, ErrTooLong
	case err != nil:
		return Result{}, err
	case n < len(dst):
		return Result{}, ErrTooShort
	}
	return Result{Used: used, MaxDistance: far}, nil
}
