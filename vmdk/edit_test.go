package vmdk_test

import (
	"bytes"
	"encoding/binary"
	"slices"

	"github.com/diskimage-go/diskimage/internal/imagetest"
)

// edited returns an image with its fields changed, see [imagetest.Edit]. If both
// is set the footer gets the header's changes, but for where the directory is.
func edited(m *imagetest.VMDKImage, edits []byte, both bool) []byte {
	file := bytes.Clone(m.Bytes)
	imagetest.Edit(file, binary.LittleEndian, fieldsOf(m), edits)
	if both && m.Footer != 0 {
		copy(file[m.Footer:][:imagetest.VMDKGDOffset], file)
		copy(file[m.Footer+imagetest.VMDKOverHead:][:512-imagetest.VMDKOverHead], file[imagetest.VMDKOverHead:])
	}
	return file
}

// fieldsOf returns the fields of all of an image's structures: headers,
// directories, the entries of tables that are used and some that are not,
// markers.
func fieldsOf(m *imagetest.VMDKImage) (all []imagetest.Field) {
	add := func(base int64, pairs ...int) {
		for ; len(pairs) > 0; pairs = pairs[2:] {
			all = append(all, imagetest.Field{Off: base + int64(pairs[0]), Len: pairs[1]})
		}
	}
	headers := []int64{0}
	if m.Footer != 0 {
		headers = append(headers, m.Footer)
	}
	for _, base := range headers {
		add(base, imagetest.VMDKVersion, 4, imagetest.VMDKFlags, 4, imagetest.VMDKCapacity, 8, imagetest.VMDKGrainSize, 8, imagetest.VMDKDescriptorOffset, 8,
			imagetest.VMDKDescriptorSize, 8, imagetest.VMDKNumGTEsPerGT, 4, imagetest.VMDKRGDOffset, 8, imagetest.VMDKGDOffset, 8, imagetest.VMDKOverHead, 8,
			imagetest.VMDKUncleanShutdown, 1, imagetest.VMDKNewlines, 4, imagetest.VMDKCompressAlgorithm, 2)
	}
	for _, gd := range []int64{m.GD, m.RGD} {
		if gd != 0 {
			add(gd, 0, 4, 4, 4, 8, 4)
		}
	}
	marker := []int{0, 8, 8, 4, 12, 4}
	for _, gt := range slices.Concat(m.GTs, m.RGTs) {
		if gt == 0 {
			continue
		}
		for i := range 8 {
			add(gt, i*4, 4)
		}
		add(gt, 511*4, 4, 87*4, 4)
		if m.Footer != 0 {
			add(gt-512, marker...)
		}
	}
	if m.Footer != 0 {
		for _, at := range []int64{m.GD - 512, m.Footer - 512, m.Footer + 512} {
			add(at, marker...)
		}
	}
	if m.Get32(imagetest.VMDKFlags)&(1<<17) != 0 {
		for _, at := range m.Data {
			if at != 0 {
				add(at, 0, 8, 8, 4, 12, 2)
			}
		}
	}
	return all
}
