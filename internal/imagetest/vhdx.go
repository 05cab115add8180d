package imagetest

import (
	"encoding/binary"
	"hash/crc32"
)

// Where things lie in the VHDX images of [ContentCases]: Microsoft's "MS-VHDX:
// Virtual Hard Disk v2 (VHDX) File Format", section 2.
const (
	vhdxHeader   = 64 << 10 // and a copy behind it
	vhdxRegions  = 192 << 10
	vhdxMetadata = 256 << 10 // nearer to the front than the format has it, to be small
	vhdxItems    = vhdxMetadata + 4<<10
	vhdxBAT      = vhdxMetadata + 64<<10
	vhdxLog      = vhdxBAT + 4<<10
	vhdxEnd      = vhdxLog + 8<<10
)

// vhdx returns a Build of a VHDX image of one block of 1 MiB, changed after its
// checksums were made right.
func vhdx(change func(p []byte)) Build {
	le := binary.LittleEndian
	return func() []byte {
		p := make([]byte, vhdxEnd)
		copy(p, "vhdxfile")
		for i := range 2 {
			h := p[vhdxHeader*(i+1):][:4096]
			copy(h, "head")
			le.PutUint64(h[8:], uint64(i+1)) // sequence number
			le.PutUint16(h[66:], 1)          // version
			le.PutUint32(h[68:], 8<<10)      // log length
			le.PutUint64(h[72:], vhdxLog)    // log offset
			le.PutUint32(h[4:], crc32.Checksum(h, crc32.MakeTable(crc32.Castagnoli)))
		}
		r := p[vhdxRegions:][:64<<10]
		copy(r, "regi")
		le.PutUint32(r[8:], 2)
		vhdxRegion(r[16:], "\x66\x77\xc2\x2d\x23\xf6\x00\x42\x9d\x64\x11\x5e\x9b\xfd\x4a\x08", vhdxBAT, 4<<10)
		vhdxRegion(r[48:], "\x06\xa2\x7c\x8b\x90\x47\x9a\x4b\xb8\xfe\x57\x5f\x05\x0f\x88\x6e", vhdxMetadata, 64<<10)
		le.PutUint32(r[4:], crc32.Checksum(r, crc32.MakeTable(crc32.Castagnoli)))
		m := p[vhdxMetadata:]
		copy(m, "metadata")
		le.PutUint16(m[10:], 3)
		vhdxItem(m[32:], "\x37\x67\xa1\xca\x36\xfa\x43\x4d\xb3\xb6\x33\xf0\xaa\x44\xe7\x6b", 4<<10, 8)   // file parameters
		vhdxItem(m[64:], "\x24\x42\xa5\x2f\x1b\xcd\x76\x48\xb2\x11\x5d\xbe\xd8\x3b\xf4\xb8", 4<<10+8, 8) // virtual disk size
		vhdxItem(m[96:], "\x1d\xbf\x41\x81\x6f\xa9\x09\x47\xba\x47\xf2\x33\xa8\xfa\xab\x5f", 4<<10+16, 4)
		le.PutUint32(p[vhdxItems:], 1<<20)   // block size
		le.PutUint64(p[vhdxItems+8:], 1<<20) // virtual disk size
		le.PutUint32(p[vhdxItems+16:], 512)  // logical sector size
		le.PutUint64(p[vhdxBAT:], 3<<20|6)   // fully present
		p = append(p, make([]byte, 4<<20-len(p))...)
		change(p)
		return p
	}
}

// vhdxSet returns a Build of a VHDX image with a number of 2, 4 or 8 bytes set.
func vhdxSet(off, bytes int, v uint64) Build {
	return vhdx(func(p []byte) {
		var b [8]byte
		binary.LittleEndian.PutUint64(b[:], v)
		copy(p[off:], b[:bytes])
	})
}

func vhdxRegion(p []byte, id string, off uint64, n uint32) {
	copy(p, id)
	binary.LittleEndian.PutUint64(p[16:], off)
	binary.LittleEndian.PutUint32(p[24:], n)
	binary.LittleEndian.PutUint32(p[28:], 1) // required
}

func vhdxItem(p []byte, id string, off, n uint32) {
	copy(p, id)
	binary.LittleEndian.PutUint32(p[16:], off)
	binary.LittleEndian.PutUint32(p[20:], n)
	binary.LittleEndian.PutUint32(p[24:], 6) // of the disk, required
}
