package codec

import (
	"io"

	"github.com/klauspost/compress/flate"
)

// A deflater encodes a unit as one bare deflate stream.
type deflater struct {
	w   *flate.Writer
	out sliceWriter
}

// newDeflater returns a deflater of a level from 1 to 9 with a window of
// 32 KiB, or, where level is negative, one of -level bytes.
func newDeflater(level int) (*deflater, error) {
	var w *flate.Writer
	var err error
	if level < 0 {
		w, err = flate.NewWriterWindow(io.Discard, -level)
	} else {
		w, err = flate.NewWriter(io.Discard, level)
	}
	if err != nil {
		return nil, err
	}
	return &deflater{w: w}, nil
}

func (d *deflater) encode(dst, src []byte) []byte {
	d.out.p = dst
	d.w.Reset(&d.out)
	// Errors could only come from sliceWriter, which has none.
	_, _ = d.w.Write(src)
	_ = d.w.Close()
	dst, d.out.p = d.out.p, nil
	return dst
}

// A sliceWriter appends to a slice.
type sliceWriter struct{ p []byte }

func (w *sliceWriter) Write(p []byte) (int, error) {
	w.p = append(w.p, p...)
	return len(p), nil
}
