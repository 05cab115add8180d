package vhd

import (
	"bytes"
	"encoding/binary"
	"slices"

	"github.com/diskimage-go/diskimage/internal/imagetest"
)

// sealed returns a file with the checksums made right where there may be any.
func sealed(file []byte) []byte {
	file = bytes.Clone(file)
	if len(file) < footerLen {
		return file
	}
	imagetest.Checksum(file[:footerLen], offChecksum)
	imagetest.Checksum(file[len(file)-footerLen:], offChecksum)
	if len(file) >= footerLen+headerLen {
		imagetest.Checksum(file[footerLen:footerLen+headerLen], offHeaderChecksum)
	}
	return file
}

// damageable returns small sound images of every kind.
func damageable() []*imagetest.VHDImage {
	data := bytes.Repeat([]byte("not zeros at all"), 4096/16)
	blocks := []imagetest.VHDBlock{{Data: data}, {}, {Data: data[16:], Bits: []byte{0b11000110}}, {Data: data}}
	blocks[2].Data = append(blocks[2].Data[:4080:4080], "and the last one"...)
	full := slices.Clone(blocks)
	full[2].Bits = nil
	names := []imagetest.VHDLocator{{Platform: "W2ru", Name: imagetest.UTF16(`.\base.vhd`)}, {Platform: "MacX", Name: []byte("file:///d/base.vhd")}}
	var images []*imagetest.VHDImage
	for _, v := range []imagetest.VHD{
		{Size: 4 * 4096, BlockSize: 4096, Blocks: full},
		{Size: 4*4096 - 512, BlockSize: 4096, Blocks: blocks, Creator: "vpc "},
		{Size: 3 * 512, BlockSize: 512, Blocks: []imagetest.VHDBlock{{}, {Data: data[:512]}, {Data: data[512:1024]}}, Old: true},
		{Size: 4 * 4096, BlockSize: 4096, Blocks: blocks, Locators: names, ParentID: [16]byte{1, 2, 3, 4}},
		{Size: 4096, Fixed: data},
	} {
		images = append(images, v.Build())
	}
	return images
}

// edited returns an image with its fields changed, see [imagetest.Edit], if seal
// is set with the checksums made right, and if both is set with the footer's
// changes made to its copy too.
func edited(m *imagetest.VHDImage, edits []byte, seal, both bool) []byte {
	file := bytes.Clone(m.Bytes)
	imagetest.Edit(file, binary.BigEndian, fieldsOf(m), edits)
	if both && m.Header > 0 {
		copy(file[:footerLen], file[m.Footer:])
	}
	if !seal {
		return file
	}
	imagetest.Checksum(file[m.Footer:], offChecksum)
	if m.Header > 0 {
		imagetest.Checksum(file[:footerLen], offChecksum)
		imagetest.Checksum(file[m.Header:][:headerLen], offHeaderChecksum)
	}
	return file
}

// fieldsOf returns the fields of all of an image's structures.
func fieldsOf(m *imagetest.VHDImage) (all []imagetest.Field) {
	add := func(base int64, pairs ...int) {
		for ; len(pairs) > 0; pairs = pairs[2:] {
			all = append(all, imagetest.Field{Off: base + int64(pairs[0]), Len: pairs[1]})
		}
	}
	footer := []int{
		offCookie, 8, offFeatures, 4, offFormatVersion, 4, offDataOffset, 8, offTimeStamp, 4, offCreator, 4, offOriginalSize, 8, offCurrentSize, 8,
		offCylinders, 2, offHeads, 1, offSectors, 1, offDiskType, 4, offChecksum, 4, offUniqueID, 16, offSavedState, 1,
	}
	add(m.Footer, footer...)
	if m.Header == 0 {
		return all
	}
	add(0, footer...)
	add(m.Header, 0, 8, offTableOffset, 8, offHeaderVersion, 4, offMaxTableEntries, 4, offBlockSize, 4, offHeaderChecksum, 4, offParentUniqueID, 16, offParentName, 16)
	for i := range locators {
		add(m.Header+offLocators+int64(i)*locatorLen, 0, 4, 4, 4, 8, 4, 16, 8)
	}
	for i, off := range m.Blocks {
		add(m.Table, 4*i, 4)
		if off > 0 {
			add(off, 0, 1, 0, 512)
		}
	}
	return all
}
