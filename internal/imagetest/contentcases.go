package imagetest

import (
	"encoding/binary"

	"github.com/diskimage-go/diskimage"
)

// ContentCases returns the rows of the list of hostile input that are about what
// a file's content is taken for: of VHDX and VDI, which are named and refused
// whatever is wrong with them (X01 to X09, D01), and of what may be taken for a
// raw disk (R01, R03 to R06, R09 to R11).
func ContentCases() []Case {
	var all []Case
	for _, c := range append(vhdxCases(), vdiCases()...) {
		c.Kind, c.Off = diskimage.ErrUnsupported, -1
		all = append(all, c)
	}
	return append(all, rawCases()...)
}

// vhdxCases are defects of VHDX images.
func vhdxCases() []Case {
	c := func(id, name string, build Build) Case {
		return Case{ID: id, Name: "VHDX: " + name, Build: build, Field: "VHDX"}
	}
	const (
		header = vhdxHeader
		item   = vhdxMetadata + 32
	)
	all := []Case{
		c("X01", "checksums of both headers", vhdx(func(p []byte) { p[header+4]++; p[2*header+4]++ })),
		c("X01", "version 9", vhdx(func(p []byte) { p[header+66] = 9; p[2*header+66] = 9 })),
		c("X01", "checksum of the region table", vhdx(func(p []byte) { p[vhdxRegions+4]++ })),
		c("X02", "log without entries", vhdx(func(p []byte) { p[2*header+48] = 1 })),
		c("X02", "log to replay", vhdx(func(p []byte) { p[2*header+48] = 1; copy(p[vhdxLog:], "loge") })),
		c("X03", "required region that nobody knows", vhdx(func(p []byte) { p[vhdxRegions+16]++ })),
		c("X03", "required metadata item that nobody knows", vhdx(func(p []byte) { p[item]++ })),
		c("X04", "4000 regions", vhdxSet(vhdxRegions+8, 4, 4000)),
		c("X04", "65535 metadata items", vhdxSet(vhdxMetadata+10, 2, 65535)),
		c("X04", "region beyond the end", vhdxSet(vhdxRegions+16+16, 8, 1<<40)),
		c("X07", "BAT beyond the end", vhdxSet(vhdxRegions+16+16, 8, 1<<30)),
		c("X07", "cut inside the last block", func() []byte { return vhdx(func([]byte) {})()[:4<<20-512] }),
		c("X08", "reserved state of a block", vhdxSet(vhdxBAT, 8, 3<<20|5)),
		c("X08", "block over the header", vhdxSet(vhdxBAT, 8, 0<<20|6)),
		c("X09", "block that is partially present", vhdxSet(vhdxBAT, 8, 3<<20|7)),
		c("X09", "differencing", vhdxSet(vhdxItems+4, 4, 2)),
	}
	for _, n := range []uint64{0, 512, 3 << 20, 512 << 20, 1<<32 - 1} {
		all = append(all, c("X05", "block size "+number(n), vhdxSet(vhdxItems, 4, n)))
	}
	for _, n := range []uint64{0, 520, 1 << 20} {
		all = append(all, c("X05", "sector size "+number(n), vhdxSet(vhdxItems+16, 4, n)))
	}
	for _, n := range []uint64{0, 1000, 65 << 40, 1 << 63} {
		all = append(all, c("X06", "size "+number(n), vhdxSet(vhdxItems+8, 8, n)))
	}
	return all
}

// vdiCases are defects of VDI images, of one block of 1 MiB.
func vdiCases() (all []Case) {
	vdi := func(name string, size uint64, blockSize, blocks uint32) {
		le := binary.LittleEndian
		all = append(all, Case{ID: "D01", Name: "VDI: " + name, Field: "VDI", Build: func() []byte {
			p := make([]byte, 4096+1<<20)
			copy(p, "<<< Oracle VM VirtualBox Disk Image >>>\n")
			le.PutUint32(p[64:], 0xbeda107f)
			le.PutUint32(p[68:], 0x00010001) // version 1.1
			le.PutUint32(p[72:], 400)        // header size
			le.PutUint32(p[76:], 1)          // dynamic
			le.PutUint32(p[340:], 512)       // offset of the blocks' table
			le.PutUint32(p[344:], 4096)      // offset of the data
			le.PutUint32(p[360:], 512)       // sector size
			le.PutUint64(p[368:], size)
			le.PutUint32(p[376:], blockSize)
			le.PutUint32(p[384:], blocks)
			le.PutUint32(p[388:], 1) // of those, the ones with a place
			return p
		}})
	}
	vdi("block size 64 KiB", 1<<20, 64<<10, 16)
	vdi("block size 0", 1<<20, 0, 1)
	vdi("too few blocks", 4<<20, 1<<20, 1)
	vdi("too many blocks", 1<<20, 1<<20, 1<<32-1)
	vdi("512 TiB and a block", 512<<40+1<<20, 1<<20, 512<<20+1)
	return all
}

// rawCases are contents that are not what a raw disk has, and some that are.
func rawCases() []Case {
	const sector = 512
	// file returns a Build of so many bytes, zeros but for what is put into them:
	// pairs of an offset and a text.
	file := func(n int, put ...any) Build {
		return func() []byte {
			p := make([]byte, n)
			for i := 0; i < len(put); i += 2 {
				copy(p[put[i].(int):], put[i+1].(string))
			}
			return p
		}
	}
	refused := func(id, name, field string, build Build) Case {
		return Case{ID: id, Name: name, Kind: diskimage.ErrFormat, Field: field, Off: -1, Build: build}
	}
	accepted := func(id, name, note string, build Build) Case {
		return Case{ID: id, Name: name, Note: note, Build: build, Check: Unsaid}
	}
	partition := func(kind byte, from, n uint32) string {
		p := []byte{0, 0, 2, 0, kind, 0xff, 0xff, 0xff}
		return string(binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(p, from), n))
	}
	const boot, iso = "\x55\xaa", "\x01CD001\x01\x00"
	gpt := "EFI PART\x00\x00\x01\x00\x5c\x00\x00\x00" // its checksum is wrong
	wrapped := func(name, magic string) Case {
		return refused("R05", name, "content is "+name, file(64<<10, 0, magic))
	}
	return []Case{
		{ID: "R01", Name: "raw disk in which a guest wrote a QCOW2 header", Kind: diskimage.ErrExternal, Field: `"/etc/passwd"`, Off: -1,
			Build: func() []byte { return append(backed("/etc/passwd")(), make([]byte, 1<<20)...) }},
		refused("R03", "no bytes", "the file is empty", file(0)),
		accepted("R03", "one byte", "padded with zeros to 512", file(1)),
		accepted("R03", "513 bytes", "padded with zeros to 1024", file(513, 0, "\xeb\x63\x90")),
		refused("R04", "error of an object store", "XML, an object store's error answer", func() []byte {
			return []byte("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>")
		}),
		refused("R04", "page of a web server", "HTML", func() []byte {
			return []byte("<!DOCTYPE html>\n<html><head><title>Sign in</title></head></html>\n")
		}),
		refused("R05", "gzip", "content is gzip", func() []byte { return Gzip(make([]byte, 64<<10)) }),
		refused("R05", "tar", "content is tar", func() []byte { return Tar(Member{Name: "disk.raw", Data: make([]byte, 64<<10)}) }),
		wrapped("xz", "\xfd7zXZ\x00"),
		wrapped("zstd", "\x28\xb5\x2f\xfd"),
		wrapped("zip", "PK\x03\x04"),
		wrapped("7z", "7z\xbc\xaf\x27\x1c"),
		refused("R06", "QCOW2 and ISO 9660", "content is qcow2 and ISO 9660 at once", Build(func() []byte { return Base().Bytes }).change(func(p []byte) {
			copy(p[32<<10:], iso)
		})),
		refused("R06", "QCOW2 and VHD", "content is qcow2 and vpc at once", func() []byte {
			return append(Base().Bytes, vhdFixed(nil)()[64<<10:]...)
		}),
		accepted("R09", "protective MBR without GPT", "", file(64<<10, 446, partition(0xee, 1, 127), 510, boot)),
		accepted("R09", "GPT with a wrong checksum", "", file(64<<10, 446, partition(0xee, 1, 127), 510, boot, sector, gpt)),
		accepted("R09", "hybrid MBR", "", file(64<<10, 446, partition(0xee, 1, 33), 462, partition(0x83, 34, 64), 510, boot, sector, gpt)),
		{ID: "R10", Name: "conectix and zeros", Kind: diskimage.ErrCorrupt, Field: "footer: checksum", Off: 0x40, Build: file(64<<10, 0, "conectix")},
		{ID: "R10", Name: "conectix at the end", Kind: diskimage.ErrCorrupt, Field: "footer: checksum", Off: 63<<10 + 512 + 0x40, Build: file(64<<10, 63<<10+512, "conectix")},
		refused("R11", "ISO 9660 with a partition table", "content is ISO 9660", file(64<<10, 0, "\x33\xed", 446, partition(0x17, 0, 128), 510, boot, 32<<10, iso)),
	}
}
