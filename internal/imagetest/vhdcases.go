package imagetest

import (
	"encoding/binary"
	"math/rand/v2"

	"github.com/diskimage-go/diskimage"
)

// Where things lie in VHDBase.
const (
	vhdHeader = 512
	vhdTable  = 1536
	vhdBlock  = 2048               // the first
	vhdStride = 512 + VHDBaseBlock // from one block to the next
	vhdFooter = 2048 + 3*vhdStride // the one at the end
	vhdEnd    = vhdFooter + 512
)

func vhdWith(change func(m *VHDImage)) Build {
	return func() []byte {
		m := VHDBase()
		change(m)
		return m.Bytes
	}
}

func vhdCut(n int) Build { return vhdWith(func(m *VHDImage) { m.Bytes = m.Bytes[:n] }) }

// vhdFixed returns a Build of a fixed disk of 64 KiB.
func vhdFixed(change func(m *VHDImage)) Build {
	return func() []byte {
		v := VHD{Size: 64 << 10, Fixed: noise(rand.New(rand.NewPCG(7, 8)), 64<<10)}
		m := v.Build()
		if change != nil {
			change(m)
		}
		return m.Bytes
	}
}

// vhdDifferencing returns a Build of a disk that differs from one of that name.
func vhdDifferencing(platform, name string, change func(m *VHDImage)) Build {
	return func() []byte {
		v := vhdBase()
		v.Locators = []VHDLocator{{platform, UTF16(name)}}
		v.ParentID = [16]byte{9}
		m := v.Build()
		if change != nil {
			change(m)
		}
		return m.Bytes
	}
}

// VHDCases returns the VHD rows of the list of hostile input, H01 to H22.
func VHDCases() []Case {
	return append(vhdFooterCases(), vhdTableCases()...)
}

// vhdFooterCases are defects of the footer and its copy.
func vhdFooterCases() []Case {
	const (
		format      = diskimage.ErrFormat
		truncated   = diskimage.ErrTruncated
		corrupt     = diskimage.ErrCorrupt
		unsupported = diskimage.ErrUnsupported
		limit       = diskimage.ErrLimit
	)
	be := binary.BigEndian
	put32 := func(off int, v uint32) Build {
		return vhdWith(func(m *VHDImage) { m.SetFooter(func(p []byte) { be.PutUint32(p[off:], v) }) })
	}
	put64 := func(off int, v uint64) Build {
		return vhdWith(func(m *VHDImage) { m.SetFooter(func(p []byte) { be.PutUint64(p[off:], v) }) })
	}
	clearFront := func(m *VHDImage) { clear(m.Bytes[:512]) }
	return []Case{
		{ID: "H01", Name: "checksum of a fixed disk's footer", Build: vhdFixed(func(m *VHDImage) { m.Bytes[m.Footer+100] = 1 }), Kind: corrupt, Field: "footer: checksum", Off: 64<<10 + VHDChecksum},
		{ID: "H01", Name: "checksums of footer and copy", Build: vhdWith(func(m *VHDImage) { m.Bytes[100], m.Bytes[m.Footer+100] = 1, 1 }), Kind: corrupt, Field: "footer: checksum", Off: vhdFooter + VHDChecksum},
		{ID: "H01", Name: "checksum of the footer beside a sound copy", Build: vhdWith(func(m *VHDImage) { m.Bytes[m.Footer+100] = 1 }), Note: "the footer at the end is damaged", Check: Corrupt},
		{ID: "H03", Name: "footer missing", Build: vhdCut(vhdFooter), Kind: truncated, Field: "footer", Off: vhdFooter},
		{ID: "H03", Name: "footer cut", Build: vhdCut(vhdEnd - 100), Kind: truncated, Field: "footer", Off: vhdEnd - 100},
		{ID: "H04", Name: "copy of the footer zeroed", Build: vhdWith(clearFront), Note: "the copy of the footer at the front is damaged", Check: Corrupt},
		{ID: "H04", Name: "footer and copy differ", Build: vhdWith(func(m *VHDImage) {
			m.Bytes[m.Footer+VHDTimeStamp]++
			Checksum(m.Bytes[m.Footer:], VHDChecksum)
		}), Note: "differ", Check: Corrupt},
		{ID: "H04", Name: "footer and copy of two disks", Build: vhdWith(func(m *VHDImage) {
			m.Bytes[m.Footer+VHDUniqueID]++
			Checksum(m.Bytes[m.Footer:], VHDChecksum)
		}), Kind: corrupt, Field: "different disks", Off: vhdFooter},
		{ID: "H05", Name: "cut inside the last block", Build: vhdWith(func(m *VHDImage) {
			m.Bytes = append(m.Bytes[:m.Footer-4096:m.Footer-4096], m.Bytes[m.Footer:]...)
		}), Kind: truncated, Stage: AtRead, Field: "block allocation table: entry 2", Off: vhdTable + 8, Guest: 2 * VHDBaseBlock, Check: Corrupt},
		{ID: "H06", Name: "disk type 0", Build: put32(VHDType, 0), Kind: unsupported, Field: "disk type", Off: vhdFooter + VHDType},
		{ID: "H06", Name: "disk type 1", Build: put32(VHDType, 1), Kind: unsupported, Field: "disk type", Off: vhdFooter + VHDType},
		{ID: "H06", Name: "disk type 5", Build: put32(VHDType, 5), Kind: unsupported, Field: "disk type", Off: vhdFooter + VHDType},
		{ID: "H06", Name: "disk type 255", Build: put32(VHDType, 255), Kind: unsupported, Field: "disk type", Off: vhdFooter + VHDType},
		{ID: "H08", Name: "data offset all ones", Build: put64(VHDDataOffset, 1<<64-1), Kind: corrupt, Field: "data offset", Off: vhdFooter + VHDDataOffset},
		{ID: "H08", Name: "data offset beyond the end", Build: put64(VHDDataOffset, 1<<40), Kind: corrupt, Field: "data offset", Off: vhdFooter + VHDDataOffset},
		{ID: "H08", Name: "data offset in the copy", Build: put64(VHDDataOffset, 0), Kind: corrupt, Field: "data offset", Off: vhdFooter + VHDDataOffset},
		{ID: "H08", Name: "header cut by the footer", Build: put64(VHDDataOffset, vhdFooter-512), Kind: truncated, Field: "dynamic disk header", Off: vhdFooter - 512},
		{ID: "H14", Name: "2040 GiB and a sector", Build: put64(VHDCurrentSize, 2040<<30+512), Kind: limit, Field: "current size", Off: vhdFooter + VHDCurrentSize},
		{ID: "H14", Name: "size 2^63", Build: put64(VHDCurrentSize, 1<<63), Kind: limit, Field: "current size", Off: vhdFooter + VHDCurrentSize},
		{ID: "H16", Name: "format version 0x20000", Build: put32(VHDVersion, 0x20000), Kind: unsupported, Field: "file format version", Off: vhdFooter + VHDVersion},
		{ID: "H17", Name: "fixed disk shorter than its size", Build: vhdFixed(func(m *VHDImage) { m.Bytes = m.Bytes[4096:]; m.Footer -= 4096 }), Kind: truncated, Field: "current size", Off: 60<<10 + VHDCurrentSize},
		{ID: "H17", Name: "fixed disk longer than its size", Build: vhdFixed(func(m *VHDImage) {
			m.SetFooter(func(p []byte) { be.PutUint64(p[VHDCurrentSize:], 60<<10) })
		}), Note: "4096 bytes between", Check: Sound},
		{ID: "H19", Name: "footer of 511 bytes", Build: func() []byte { v := vhdBase(); v.Old = true; return v.Build().Bytes }, Check: Sound},
		{ID: "H19", Name: "fixed disk with a footer of 511 bytes", Build: func() []byte {
			return VHD{Size: 4096, Fixed: make([]byte, 4096), Old: true}.Build().Bytes
		}, Check: Sound},
		{ID: "H20", Name: "saved state", Build: vhdWith(func(m *VHDImage) { m.SetFooter(func(p []byte) { p[VHDSavedState] = 1 }) }), Note: "saved state", Check: Sound},
		{ID: "R06", Name: "fixed disk that starts as a dynamic one", Build: func() []byte {
			inner := VHDBase().Bytes
			return VHD{Size: int64(len(inner)), Fixed: inner}.Build().Bytes
		}, Kind: format, Field: "fixed disk by the footer", Off: 0},
	}
}

// vhdTableCases are defects of the dynamic disk header, the block allocation
// table and the parent locators.
func vhdTableCases() []Case {
	const (
		truncated   = diskimage.ErrTruncated
		corrupt     = diskimage.ErrCorrupt
		unsupported = diskimage.ErrUnsupported
		limit       = diskimage.ErrLimit
		external    = diskimage.ErrExternal
	)
	be := binary.BigEndian
	put32 := func(off int, v uint32) Build {
		return vhdWith(func(m *VHDImage) { m.SetHeader(func(p []byte) { be.PutUint32(p[off:], v) }) })
	}
	put64 := func(off int, v uint64) Build {
		return vhdWith(func(m *VHDImage) { m.SetHeader(func(p []byte) { be.PutUint64(p[off:], v) }) })
	}
	entry := func(i int, sector uint32) Build { return vhdWith(func(m *VHDImage) { m.SetEntry(i, sector) }) }
	return []Case{
		{ID: "H02", Name: "cookie of the dynamic disk header", Build: vhdWith(func(m *VHDImage) { m.Bytes[vhdHeader] = 'C' }), Kind: corrupt, Field: "cookie", Off: vhdHeader},
		{ID: "H02", Name: "checksum of the dynamic disk header", Build: vhdWith(func(m *VHDImage) { m.Bytes[vhdHeader+1000] = 1 }), Kind: corrupt, Field: "dynamic disk header: checksum", Off: vhdHeader + VHDHeaderChecksum},
		{ID: "H09", Name: "block size 0", Build: put32(VHDBlockSize, 0), Kind: corrupt, Field: "block size", Off: vhdHeader + VHDBlockSize},
		{ID: "H09", Name: "block size 511", Build: put32(VHDBlockSize, 511), Kind: corrupt, Field: "block size", Off: vhdHeader + VHDBlockSize},
		{ID: "H09", Name: "block size 3 MiB", Build: put32(VHDBlockSize, 3<<20), Kind: corrupt, Field: "block size", Off: vhdHeader + VHDBlockSize},
		{ID: "H09", Name: "block size 2 GiB", Build: put32(VHDBlockSize, 2<<30), Kind: limit, Field: "block size", Off: vhdHeader + VHDBlockSize},
		{ID: "H09", Name: "block size 512", Build: func() []byte {
			rnd := rand.New(rand.NewPCG(9, 9))
			return VHD{Size: 2048, BlockSize: 512, Blocks: []VHDBlock{{Data: noise(rnd, 512)}, {}, {Data: noise(rnd, 512)}, {}}}.Build().Bytes
		}, Check: Sound},
		{ID: "H10", Name: "no table entries", Build: put32(VHDMaxEntries, 0), Kind: corrupt, Field: "current size", Off: vhdFooter + VHDCurrentSize},
		{ID: "H10", Name: "one table entry", Build: put32(VHDMaxEntries, 1), Kind: corrupt, Field: "current size", Off: vhdFooter + VHDCurrentSize},
		{ID: "H10", Name: "2^31-1 table entries", Build: put32(VHDMaxEntries, 1<<31-1), Kind: corrupt, Field: "max table entries", Off: vhdHeader + VHDMaxEntries},
		{ID: "H10", Name: "2^32-1 table entries", Build: put32(VHDMaxEntries, 1<<32-1), Kind: corrupt, Field: "max table entries", Off: vhdHeader + VHDMaxEntries},
		{ID: "H10", Name: "more table entries than fit", Build: put32(VHDMaxEntries, 1<<20), Kind: truncated, Field: "block allocation table", Off: vhdTable},
		{ID: "H11", Name: "table beyond the end", Build: put64(VHDTableOffset, 1<<40), Kind: corrupt, Field: "table offset", Off: vhdHeader + VHDTableOffset},
		{ID: "H11", Name: "table cut by the footer", Build: put64(VHDTableOffset, vhdFooter-8), Kind: truncated, Field: "block allocation table", Off: vhdFooter - 8},
		{ID: "H11", Name: "table in the copy of the footer", Build: put64(VHDTableOffset, 256), Kind: corrupt, Field: "table offset", Off: vhdHeader + VHDTableOffset},
		{ID: "H11", Name: "table in the dynamic disk header", Build: put64(VHDTableOffset, vhdHeader+768), Kind: corrupt, Field: "table offset", Off: vhdHeader + VHDTableOffset},
		{ID: "H12", Name: "entry beyond the end", Build: entry(1, 1<<20), Kind: truncated, Stage: AtRead, Field: "block allocation table: entry 1", Off: vhdTable + 4, Guest: VHDBaseBlock, Check: Corrupt},
		{ID: "H12", Name: "entry of a block with the footer in it", Build: entry(2, (vhdFooter-4096)/512), Kind: truncated, Stage: AtRead, Field: "block allocation table: entry 2", Off: vhdTable + 8, Guest: 2 * VHDBaseBlock, Check: Corrupt},
		{ID: "H12", Name: "entry 0", Build: entry(0, 0), Kind: corrupt, Stage: AtRead, Field: "block allocation table: entry 0", Off: vhdTable, Guest: 0, Check: Corrupt},
		{ID: "H12", Name: "entry in the dynamic disk header", Build: entry(0, 1), Kind: corrupt, Stage: AtMap, Field: "lies over the dynamic disk header", Off: vhdTable, Check: Corrupt},
		{ID: "H12", Name: "two entries of one block", Build: entry(3, vhdBlock/512), Kind: corrupt, Stage: AtMap, Field: "is that of entry 0, too", Off: vhdTable + 12, Check: Corrupt},
		{ID: "H12", Name: "entries of blocks that overlap", Build: entry(3, vhdBlock/512+16), Kind: corrupt, Stage: AtMap, Field: "overlaps that of entry 0", Off: vhdTable + 12, Check: Corrupt},
		{ID: "H12", Name: "block with data that its bitmap says was never written", Build: vhdWith(func(m *VHDImage) {
			clear(m.Bytes[m.Blocks[1]:][:512])
		}), Kind: corrupt, Stage: AtRead, Field: "sector bitmap", Off: vhdBlock + vhdStride, Guest: VHDBaseBlock, Check: Corrupt},
		{ID: "H12", Name: "bitmap with a clear bit", Build: vhdWith(func(m *VHDImage) { m.Bytes[m.Blocks[1]] = 0xfe }), Note: "never written", Check: Corrupt},
		{ID: "H12", Name: "bitmap with a clear bit, VirtualBox's", Build: vhdWith(func(m *VHDImage) {
			m.SetFooter(func(p []byte) { copy(p[VHDCreator:], "vbox") })
			m.Bytes[m.Blocks[1]] = 0xfe
			clear(m.Bytes[m.Blocks[1]+512*8:][:512])
		}), Check: Sound},
		{ID: "H12", Name: "block without data and with a clear bitmap", Build: vhdWith(func(m *VHDImage) {
			clear(m.Bytes[m.Blocks[1]:][:vhdStride])
		}), Check: Sound},
		{ID: "H16", Name: "header version 0x20000", Build: put32(VHDHeaderVersion, 0x20000), Kind: unsupported, Field: "header version", Off: vhdHeader + VHDHeaderVersion},
		{ID: "H07", Name: "differencing, parent elsewhere", Build: vhdDifferencing("W2ku", "/etc/passwd", nil), Kind: external, Field: `"passwd"`, Off: -1, Check: Sound},
		{ID: "H07", Name: "differencing, parent beside", Build: vhdDifferencing("W2ru", `.\base.vhd`, nil), Kind: external, Field: `"base.vhd"`, Off: -1, Check: Sound},
		{ID: "H07", Name: "differencing, parent above", Build: vhdDifferencing("W2ru", `..\..\etc\passwd`, nil), Kind: external, Field: `"../../etc/passwd"`, Off: -1, Check: Sound},
		{ID: "H07", Name: "differencing without a locator", Build: vhdWith(func(m *VHDImage) {
			m.SetFooter(func(p []byte) { be.PutUint32(p[VHDType:], 4) })
		}), Kind: corrupt, Field: "parent locators", Off: vhdHeader + VHDLocators},
		{ID: "H07", Name: "locator beyond the end", Build: vhdDifferencing("W2ru", "x", func(m *VHDImage) {
			m.SetHeader(func(p []byte) { be.PutUint64(p[VHDLocators+16:], 1<<40) })
		}), Kind: corrupt, Field: "parent locators", Off: vhdHeader + VHDLocators},
		{ID: "H07", Name: "locator of 2^32-1 bytes", Build: vhdDifferencing("W2ru", "x", func(m *VHDImage) {
			m.SetHeader(func(p []byte) { be.PutUint32(p[VHDLocators+8:], 1<<32-1) })
		}), Kind: corrupt, Field: "parent locators", Off: vhdHeader + VHDLocators},
		{ID: "H07", Name: "locator of half a surrogate pair", Build: vhdDifferencing("W2ru", "x", func(m *VHDImage) {
			copy(m.Bytes[2048:], "\x01\xd8")
		}), Kind: corrupt, Field: "parent locators", Off: vhdHeader + VHDLocators},
	}
}
