package vmdk_test

import (
	"bytes"
	"encoding/binary"
	"slices"

	"github.com/diskimage-go/diskimage/internal/imagetest"
)

// A place is a field of so many bytes in a file.
type place struct {
	off int64
	n   int
}

func (p place) of(file []byte) []byte { return file[p.off:][:p.n] }

// edited returns an image with its fields changed: every four bytes of edits say
// a field, what is done to it, and with which number or other field. If both is
// set the footer gets the header's changes, but for where the directory is.
func edited(m *imagetest.VMDKImage, edits []byte, both bool) []byte {
	file := bytes.Clone(m.Bytes)
	fields := fieldsOf(m)
	for ; len(edits) >= 4; edits = edits[4:] {
		p := fields[int(binary.BigEndian.Uint16(edits))%len(fields)].of(file)
		other := fields[int(edits[3])%len(fields)].of(file)
		n := min(len(p), len(other))
		switch edits[2] % 7 {
		case 0:
			clear(p)
		case 1: // 1
			clear(p)
			p[0] = 1
		case 2: // a power of two
			clear(p)
			p[int(edits[3])/8%len(p)] = 1 << (edits[3] % 8)
		case 3: // the largest
			copy(p, bytes.Repeat([]byte{0xff}, len(p)))
		case 4: // one more, in a byte
			p[int(edits[3])%len(p)]++
		case 5: // the same as another
			copy(p[:n], other)
		case 6: // exchanged with another
			kept := bytes.Clone(p[:n])
			copy(p, other[:n])
			copy(other, kept)
		}
	}
	if both && m.Footer != 0 {
		copy(file[m.Footer:][:imagetest.VMDKGDOffset], file)
		copy(file[m.Footer+imagetest.VMDKOverHead:][:512-imagetest.VMDKOverHead], file[imagetest.VMDKOverHead:])
	}
	return file
}

// fieldsOf returns the fields of all of an image's structures: headers,
// directories, the entries of tables that are used and some that are not,
// markers.
func fieldsOf(m *imagetest.VMDKImage) (all []place) {
	headers := []int64{0}
	if m.Footer != 0 {
		headers = append(headers, m.Footer)
	}
	for _, base := range headers {
		for _, f := range []place{
			{imagetest.VMDKVersion, 4}, {imagetest.VMDKFlags, 4}, {imagetest.VMDKCapacity, 8}, {imagetest.VMDKGrainSize, 8}, {imagetest.VMDKDescriptorOffset, 8},
			{imagetest.VMDKDescriptorSize, 8}, {imagetest.VMDKNumGTEsPerGT, 4}, {imagetest.VMDKRGDOffset, 8}, {imagetest.VMDKGDOffset, 8}, {imagetest.VMDKOverHead, 8},
			{imagetest.VMDKUncleanShutdown, 1}, {imagetest.VMDKNewlines, 4}, {imagetest.VMDKCompressAlgorithm, 2},
		} {
			all = append(all, place{base + f.off, f.n})
		}
	}
	for _, gd := range []int64{m.GD, m.RGD} {
		if gd != 0 {
			all = append(all, place{gd, 4}, place{gd + 4, 4}, place{gd + 8, 4})
		}
	}
	for _, gt := range slices.Concat(m.GTs, m.RGTs) {
		if gt == 0 {
			continue
		}
		for i := range int64(8) {
			all = append(all, place{gt + i*4, 4})
		}
		all = append(all, place{gt + 511*4, 4}, place{gt + 87*4, 4})
		if m.Footer != 0 { // its marker
			all = append(all, place{gt - 512, 8}, place{gt - 504, 4}, place{gt - 500, 4})
		}
	}
	if m.Footer != 0 {
		for _, at := range []int64{m.GD - 512, m.Footer - 512, m.Footer + 512} {
			all = append(all, place{at, 8}, place{at + 8, 4}, place{at + 12, 4})
		}
	}
	if m.Get32(imagetest.VMDKFlags)&(1<<17) != 0 {
		for _, at := range m.Data {
			if at != 0 {
				all = append(all, place{at, 8}, place{at + 8, 4}, place{at + 12, 2})
			}
		}
	}
	return all
}
