package imagefile

import "context"

const (
	stagingBytes = 256 << 10
	directBytes  = 32 << 10 // less is gathered first: copying costs less than a call
)

// zeroBytes are written where a segment is zeros, and are never written to.
var zeroBytes [1 << 20]byte

// A segment is bytes for one place in a file.
type segment struct {
	file  *File
	off   int64
	data  []byte
	zeros int64 // so many zeros, instead of data
}

// Writes is what is to be written, in this order. The zero value is empty. It
// is for one goroutine at a time.
type Writes struct {
	list    []segment
	staging []byte
}

// Reset forgets what was added, and keeps the memory.
func (w *Writes) Reset() { w.list = w.list[:0] }

// Add adds data, which is not copied.
func (w *Writes) Add(f *File, off int64, data []byte) {
	if n := len(w.list); n > 0 {
		if last := &w.list[n-1]; last.file == f && last.off+int64(len(last.data)) == off && Follows(last.data, data) {
			last.data = last.data[:len(last.data)+len(data)]
			return
		}
	}
	w.list = append(w.list, segment{file: f, off: off, data: data})
}

// AddZeros is Add for n zeros, which may be very many.
func (w *Writes) AddZeros(f *File, off, n int64) {
	w.list = append(w.list, segment{file: f, off: off, zeros: n})
}

// Store writes all in few calls: small ones that follow each other are
// gathered.
func (w *Writes) Store(ctx context.Context) error {
	var into segment // what is gathered
	into.data = w.staging[:0]
	flush := func() error {
		if len(into.data) == 0 {
			return nil
		}
		err := into.file.WriteAt(ctx, into.data, into.off)
		into.data = into.data[:0]
		return err
	}
	for _, s := range w.list {
		direct := len(s.data) >= directBytes || s.zeros > 0
		if direct || into.file != s.file || into.off+int64(len(into.data)) != s.off || len(into.data)+len(s.data) > stagingBytes {
			if err := flush(); err != nil {
				return err
			}
		}
		if direct {
			if err := s.store(ctx); err != nil {
				return err
			}
			continue
		}
		if len(into.data) == 0 {
			into.file, into.off = s.file, s.off
		}
		into.data = append(into.data, s.data...)
	}
	err := flush()
	w.staging = into.data
	return err
}

// store writes the segment by itself.
func (s segment) store(ctx context.Context) error {
	if s.zeros == 0 {
		return s.file.WriteAt(ctx, s.data, s.off)
	}
	for at := int64(0); at < s.zeros; {
		n := min(s.zeros-at, int64(len(zeroBytes)))
		if err := s.file.WriteAt(ctx, zeroBytes[:n], s.off+at); err != nil {
			return err
		}
		at += n
	}
	return nil
}

// Follows reports whether b lies right behind a in memory that a reaches over.
func Follows(a, b []byte) bool {
	return len(a) > 0 && len(b) > 0 && cap(a)-len(a) >= len(b) && &a[:len(a)+1][len(a)] == &b[0]
}
