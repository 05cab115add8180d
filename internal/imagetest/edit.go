package imagetest

import (
	"bytes"
	"encoding/binary"
)

// A Field is a number of so many bytes in an image's file.
type Field struct {
	Off int64
	Len int
}

func (f Field) of(file []byte) []byte { return file[f.Off:][:f.Len] }

// Edit changes fields of a file as a fuzzer wants it: every four bytes of edits
// say which, what is done to it, and with which number or other field.
func Edit(file []byte, order binary.ByteOrder, fields []Field, edits []byte) {
	big := order == binary.ByteOrder(binary.BigEndian)
	low := func(p []byte, n int) []byte { // the lowest bytes of a number
		if big {
			return p[len(p)-n:]
		}
		return p[:n]
	}
	place := func(p []byte, i int) *byte { // its i-th lowest
		if big {
			i = len(p) - 1 - i
		}
		return &p[i]
	}
	for ; len(edits) >= 4; edits = edits[4:] {
		p := fields[int(binary.BigEndian.Uint16(edits))%len(fields)].of(file)
		arg := int(edits[3])
		other := fields[arg%len(fields)].of(file)
		n := min(len(p), len(other))
		switch edits[2] % 7 {
		case 0:
			clear(p)
		case 1:
			clear(p)
			*place(p, 0) = 1
		case 2: // a power of two
			clear(p)
			*place(p, arg/8%len(p)) = 1 << (arg % 8)
		case 3: // the largest
			for i := range p {
				p[i] = 0xff
			}
		case 4: // one more, in a byte
			p[arg%len(p)]++
		case 5: // the same as another
			copy(low(p, n), low(other, n))
		case 6: // exchanged with another
			p, other = low(p, n), low(other, n)
			kept := bytes.Clone(p)
			copy(p, other)
			copy(other, kept)
		}
	}
}
