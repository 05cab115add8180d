package imagetest

import (
	"encoding/binary"
	"fmt"
	"hash/adler32"
	"math/rand/v2"
	"strings"
	"unicode/utf16"

	"github.com/diskimage-go/diskimage"
)

// VMDKCases returns the VMDK rows of the list of hostile input, V01 to V37.
func VMDKCases() []Case {
	cases := append(append(vmdkHeaderCases(), vmdkDescriptorCases()...), vmdkReferenceCases()...)
	return append(append(cases, vmdkTableCases()...), vmdkStreamCases()...)
}

// VMDKBase returns the image that most cases start from: header, descriptor,
// directory, one table, then four grains of 8 KiB. It is sound. There is no
// redundant directory, which would be used where the primary one is damaged.
func VMDKBase() *VMDKImage { return vmdkBase().Build() }

func vmdkBase() VMDK {
	rnd := rand.New(rand.NewPCG(3, 4))
	v := VMDK{Grain: 16, NoRGD: true}
	for range 4 {
		p := make([]byte, 16*sector)
		for i := range p {
			p[i] = byte(rnd.Uint32())
		}
		v.Grains = append(v.Grains, Grain{Kind: Plain, Data: p})
	}
	return v
}

// Where things lie in VMDKBase.
const (
	vmdkDescriptor = 1 * sector
	vmdkGD         = 21 * sector
	vmdkGT         = 22 * sector
	vmdkData       = 32 * sector
	vmdkGrain      = 16 * sector
)

// vmdkWith returns a Build that changes VMDKBase.
func vmdkWith(change func(m *VMDKImage)) Build {
	return func() []byte {
		m := VMDKBase()
		change(m)
		return m.Bytes
	}
}

// vmdkOf returns a Build that changes an image like VMDKBase.
func vmdkOf(change func(v *VMDK)) Build {
	return func() []byte {
		v := vmdkBase()
		change(&v)
		return v.Build().Bytes
	}
}

// exported returns a Build that changes a streamOptimized image with the
// grains of VMDKBase.
func exported(change func(m *VMDKImage)) Build {
	return func() []byte {
		v := vmdkBase()
		v.Dialect = Exported
		m := v.Build()
		change(m)
		return m.Bytes
	}
}

// described returns a Build of a descriptor file with these extent lines.
func described(createType string, extents ...string) Build {
	return func() []byte {
		return []byte(VMDKText{CreateType: createType, Extents: extents}.String())
	}
}

// vmdkHeaderCases are defects of the sparse header.
func vmdkHeaderCases() []Case {
	const (
		truncated   = diskimage.ErrTruncated
		corrupt     = diskimage.ErrCorrupt
		unsupported = diskimage.ErrUnsupported
	)
	put32 := func(off int64, v uint32) Build { return vmdkWith(func(m *VMDKImage) { m.Put32(off, v) }) }
	put64 := func(off int64, v uint64) Build { return vmdkWith(func(m *VMDKImage) { m.Put64(off, v) }) }
	cases := []Case{
		{ID: "V01", Name: "magic only", Build: func() []byte { return []byte("KDMV") }, Kind: truncated, Field: "header", Off: 4},
		{ID: "V01", Name: "header cut at 511", Build: func() []byte { return VMDKBase().Bytes[:511] }, Kind: truncated, Field: "header", Off: 511},
		{ID: "V06", Name: "gdOffset beyond the end", Build: put64(VMDKGDOffset, 1<<30), Kind: truncated, Field: "gdOffset", Off: VMDKGDOffset},
		{ID: "V06", Name: "gdOffset cut by the end", Build: put64(VMDKGDOffset, (vmdkData+4*vmdkGrain)/sector), Kind: truncated, Field: "gdOffset", Off: VMDKGDOffset},
		{ID: "V06", Name: "gdOffset 2^63 sectors", Build: put64(VMDKGDOffset, 1<<63), Kind: truncated, Field: "gdOffset", Off: VMDKGDOffset},
		{ID: "V06", Name: "gdOffset in the header", Build: put64(VMDKGDOffset, 0), Kind: corrupt, Field: "gdOffset", Off: VMDKGDOffset},
		{ID: "V06", Name: "gdOffset beyond the end, redundant directory sound", Build: vmdkOf(func(v *VMDK) { v.NoRGD = false }).change(func(b []byte) {
			le64(b[VMDKGDOffset:], 1<<30)
		}), Note: "redundant", Check: Corrupt},
		{ID: "V11", Name: "newlines changed", Build: vmdkWith(func(m *VMDKImage) { copy(m.Bytes[VMDKNewlines:], "\r \r\r") }), Kind: corrupt, Field: "text mode", Off: VMDKNewlines},
		{ID: "V12", Name: "unclean shutdown", Build: vmdkWith(func(m *VMDKImage) { m.Bytes[VMDKUncleanShutdown] = 1 }), Note: "closed", Check: Sound},
		{ID: "V13", Name: "version 4", Build: put32(VMDKVersion, 4), Kind: unsupported, Field: "version", Off: VMDKVersion},
		{ID: "V13", Name: "version 0", Build: put32(VMDKVersion, 0), Kind: unsupported, Field: "version", Off: VMDKVersion},
		{ID: "V36", Name: "compressAlgorithm 9", Build: exported(func(m *VMDKImage) {
			for _, off := range []int64{0, m.Footer} {
				m.Bytes[off+VMDKCompressAlgorithm] = 9
			}
		}), Kind: unsupported, Field: "compressAlgorithm", Off: VMDKCompressAlgorithm},
	}
	for _, sectors := range []uint64{1 << 63, 1 << 55, 1<<64 - 1} {
		cases = append(cases, Case{ID: "V02", Name: "capacity " + number(sectors), Build: put64(VMDKCapacity, sectors), Kind: corrupt, Field: "capacity", Off: VMDKCapacity})
	}
	for _, grain := range []uint64{0, 1 << 32, 1<<64 - 1} {
		cases = append(cases, Case{ID: "V03", Name: "grainSize " + number(grain), Build: put64(VMDKGrainSize, grain), Kind: corrupt, Field: "grainSize", Off: VMDKGrainSize})
	}
	for _, grain := range []uint64{1, 7, 100} {
		cases = append(cases, Case{ID: "V04", Name: "grainSize " + number(grain), Build: put64(VMDKGrainSize, grain), Kind: corrupt, Field: "grainSize", Off: VMDKGrainSize})
	}
	for _, n := range []uint32{0, 1, 513, 1<<32 - 1} {
		cases = append(cases, Case{ID: "V05", Name: "numGTEsPerGT " + number(uint64(n)), Build: put32(VMDKNumGTEsPerGT, n), Kind: corrupt, Field: "numGTEsPerGT", Off: VMDKNumGTEsPerGT})
	}
	return cases
}

// vmdkDescriptorCases are defects of descriptors.
func vmdkDescriptorCases() []Case {
	const (
		corrupt     = diskimage.ErrCorrupt
		unsupported = diskimage.ErrUnsupported
		limit       = diskimage.ErrLimit
	)
	flat := VMDKText{CreateType: "monolithicFlat", Extents: []string{`RW 64 FLAT "flat.vmdk" 0`}}
	// line returns a descriptor with one extent line, at which the error is.
	line := func(name, createType, line string) Case {
		build := described(createType, line)
		return Case{Name: name, Build: build, Kind: corrupt, Field: "descriptor: line 8", Off: int64(strings.Index(string(build()), line))}
	}
	named := func(id string, c Case) Case {
		c.ID = id
		return c
	}
	many := make([]string, 100_000)
	for i := range many {
		many[i] = "RW 1 ZERO"
	}
	cases := []Case{
		{ID: "V14", Name: "no createType", Build: func() []byte {
			return []byte(strings.Replace(flat.String(), "createType", "created", 1))
		}, Kind: corrupt, Field: "createType", Off: 0},
		{ID: "V14", Name: "no createType, embedded", Build: vmdkWith(func(m *VMDKImage) {
			i := strings.Index(string(m.Bytes), "createType")
			m.Bytes[i] = 'C' // any case will do
			m.Bytes[i+1] = 'x'
		}), Kind: corrupt, Field: "createType", Off: vmdkDescriptor},
		named("V22", line("malformed VMFS line", "vmfs", `RW 64 VMFS "flat.vmdk" 0 1 2 dummy`)),
		named("V22", line("extent without a name", "monolithicFlat", `RW 64 FLAT`)),
		{ID: "V22", Name: "no extents", Build: described("monolithicFlat"), Kind: corrupt, Field: "no extents", Off: 0},
		{ID: "V23", Name: "fullDevice", Build: described("fullDevice", `RW 64 FLAT "/dev/sda" 0`), Kind: unsupported, Field: "fullDevice", Off: -1},
		{ID: "V23", Name: "vmfsRDM", Build: described("vmfsRawDeviceMap", `RW 64 VMFSRDM "disk-rdm.vmdk"`), Kind: unsupported, Field: "vmfsRawDeviceMap", Off: -1},
		{ID: "V23", Name: "vmfsRDM in a custom disk", Build: described("custom", `RW 64 VMFSRDM "disk-rdm.vmdk"`), Kind: unsupported, Field: "VMFSRDM", Off: -1},
		{ID: "V23", Name: "COWD without its descriptor", Build: emptyCOWD, Kind: unsupported, Field: "open the descriptor", Off: 0},
		{ID: "V23", Name: "COWD of version 3", Build: described("vmfsSparse", `RW 64 VMFSSPARSE "delta.vmdk"`), Files: map[string]Build{"delta.vmdk": Build(emptyCOWD).change(func(b []byte) { b[4] = 3 })}, Allow: true, Kind: unsupported, Field: `extent "delta.vmdk": header: version`, Off: 4},
		{ID: "V26", Name: "100000 extents", Build: described("custom", many...), Kind: limit, Field: "10000 extents", Off: int64(strings.Index(string(described("custom", many...)()), many[0]) + 10_000*len(many[0]+"\n"))},
		{ID: "V28", Name: "descriptor of 2 MiB", Build: func() []byte {
			return append([]byte(flat.String()), strings.Repeat("#"+strings.Repeat(" ", 62)+"\n", 2<<20/64)...)
		}, Kind: limit, Field: "descriptor", Off: 1 << 20},
		{ID: "V28", Name: "descriptorSize 2^32", Build: vmdkWith(func(m *VMDKImage) { m.Put64(VMDKDescriptorSize, 1<<32) }), Kind: limit, Field: "descriptorSize", Off: VMDKDescriptorSize},
		{ID: "V28", Name: "descriptor beyond the end", Build: vmdkWith(func(m *VMDKImage) { m.Put64(VMDKDescriptorOffset, 1<<40) }), Kind: diskimage.ErrTruncated, Field: "descriptorOffset", Off: VMDKDescriptorOffset},
		{ID: "V28", Name: "NULs inside the descriptor", Build: func() []byte {
			return []byte(strings.Replace(flat.String(), "FLAT", "\x00LAT", 1))
		}, Kind: corrupt, Field: "NUL", Off: int64(strings.Index(flat.String(), "FLAT"))},
		{ID: "V28", Name: "CRLF", Build: vmdkOf(func(v *VMDK) {
			v.Descriptor = strings.ReplaceAll(VMDKText{Extents: []string{`RW 64 SPARSE "disk.vmdk"`}}.String(), "\n", "\r\n")
		}), Check: Sound},
		{ID: "V28", Name: "UTF-16", Build: func() []byte {
			b := []byte{0xff, 0xfe}
			for _, c := range utf16.Encode([]rune(flat.String())) {
				b = binary.LittleEndian.AppendUint16(b, c)
			}
			return b
		}, Kind: diskimage.ErrFormat, Field: "magicNumber", Off: 0},
		{ID: "V28", Name: "encoding unknown", Build: func() []byte {
			t := flat
			t.Head = "encoding=\"klingon\"\n"
			return []byte(t.String())
		}, Kind: unsupported, Field: "klingon", Off: 0},
	}
	for _, size := range []string{"-1", "9223372036854775808", "36028797018963968", "99999999999999999999999"} {
		cases = append(cases, named("V24", line("extent of "+size+" sectors", "monolithicFlat", `RW `+size+` FLAT "flat.vmdk" 0`)))
	}
	return cases
}

// vmdkReferenceCases are images that name other files.
func vmdkReferenceCases() []Case {
	const external = diskimage.ErrExternal
	half := func() []byte { return make([]byte, 16<<10) }
	sparsePart := vmdkOf(func(v *VMDK) { v.Descriptor = "-" })
	cases := []Case{
		{ID: "V15", Name: "monolithicSparse that names ../../etc/passwd", Build: vmdkOf(func(v *VMDK) {
			v.Text.Extents = []string{`RW 64 SPARSE "../../etc/passwd"`}
		}), Note: "../../etc/passwd", Check: Sound},
		{ID: "V18", Name: "flat extent is the descriptor", File: "self.vmdk", Build: described("monolithicFlat", `RW 1 FLAT "self.vmdk" 0`), Kind: external, Field: `"self.vmdk"`, Off: -1, Check: Unsaid},
		{ID: "V18", Name: "flat extent is the descriptor, allowed", File: "self.vmdk", Build: func() []byte {
			return padded(described("monolithicFlat", `RW 1 FLAT "self.vmdk" 0`)(), 4096)
		}, Allow: true, Kind: diskimage.ErrCorrupt, Field: `"self.vmdk"`, Off: 0},
		{ID: "V21", Name: "flat offset beyond the file", Build: described("monolithicFlat", `RW 32 FLAT "flat.vmdk" 64`), Files: map[string]Build{"flat.vmdk": half}, Allow: true,
			Kind: diskimage.ErrTruncated, Field: `"flat.vmdk"`, Off: 16 << 10},
		{ID: "V21", Name: "flat extent longer than its file", Build: described("monolithicFlat", `RW 33 FLAT "flat.vmdk" 0`), Files: map[string]Build{"flat.vmdk": half}, Allow: true,
			Kind: diskimage.ErrTruncated, Field: `"flat.vmdk"`, Off: 16 << 10},
		{ID: "V25", Name: "a part is missing", Build: described("twoGbMaxExtentSparse", `RW 64 SPARSE "disk-s001.vmdk"`, `RW 64 SPARSE "disk-s002.vmdk"`),
			Files: map[string]Build{"disk-s001.vmdk": sparsePart}, Allow: true, Kind: diskimage.ErrTruncated, Field: `"disk-s002.vmdk"`, Off: -1},
		{ID: "V25", Name: "a part is shorter than its line", Build: described("twoGbMaxExtentSparse", `RW 128 SPARSE "disk-s001.vmdk"`),
			Files: map[string]Build{"disk-s001.vmdk": sparsePart}, Allow: true, Kind: diskimage.ErrCorrupt, Field: `extent "disk-s001.vmdk": header: capacity`, Off: VMDKCapacity},
		{ID: "V27", Name: "parent /etc/passwd", Build: vmdkOf(func(v *VMDK) {
			v.Text.ParentCID, v.Text.ParentHint = "12345678", "/etc/passwd"
		}), Kind: external, Field: `"/etc/passwd"`, Off: -1, Check: Unsaid},
		{ID: "V27", Name: "parent's CID differs", Build: vmdkOf(func(v *VMDK) {
			v.Text.ParentCID, v.Text.ParentHint = "12345678", "parent.vmdk"
		}), Files: map[string]Build{"parent.vmdk": func() []byte { return VMDKBase().Bytes }}, Allow: true,
			Kind: diskimage.ErrCorrupt, Field: "CID", Off: -1},
	}
	for _, c := range [][2]string{
		{"V16", "/etc/passwd"},
		{"V17", "../../../../etc/passwd"},
		{"V19", `json:{'driver':'file','filename':'/etc/passwd'}`},
		{"V19", "nbd://127.0.0.1:1/"},
	} {
		cases = append(cases, Case{ID: c[0], Name: "flat extent " + c[1], Build: described("monolithicFlat", fmt.Sprintf("RW 64 FLAT \"%s\" 0", c[1])), Kind: external, Field: diskimage.Quote(c[1]), Off: -1, Check: Unsaid})
	}
	return cases
}

// vmdkTableCases are defects of directories and tables.
func vmdkTableCases() []Case {
	const (
		truncated = diskimage.ErrTruncated
		corrupt   = diskimage.ErrCorrupt
	)
	gd := func(v uint32) Build { return vmdkWith(func(m *VMDKImage) { m.Put32(vmdkGD, v) }) }
	gt := func(v uint32) Build { return vmdkWith(func(m *VMDKImage) { m.SetGTE(1, v) }) }
	both := func(change func(m *VMDKImage)) Build {
		return func() []byte {
			v := vmdkBase()
			v.NoRGD = false
			m := v.Build()
			change(m)
			return m.Bytes
		}
	}
	// The last grain, as far as the disk has it, moves in its place.
	gtAtEnd := func(sectors uint32) Build {
		return func() []byte {
			v := vmdkBase()
			v.Sectors = 3*v.Grain + 4
			m := v.Build()
			m.SetGTE(3, m.Get32(m.GTE(3))+sectors)
			return m.Bytes
		}
	}
	const (
		second = vmdkGT + 4 // the entry of the second grain
		end    = (vmdkData + 4*vmdkGrain) / sector
	)
	return []Case{
		{ID: "V07", Name: "GD entry beyond the end", Build: gd(1 << 30), Kind: truncated, Stage: AtRead, Field: "grain directory: entry 0", Off: vmdkGD, Check: Corrupt},
		{ID: "V07", Name: "GD entry 2^32-1", Build: gd(1<<32 - 1), Kind: truncated, Stage: AtRead, Field: "grain directory: entry 0", Off: vmdkGD, Check: Corrupt},
		{ID: "V07", Name: "GD entry, the table cut by the end", Build: gd(end - 3), Kind: truncated, Stage: AtRead, Field: "grain directory: entry 0", Off: vmdkGD, Check: Corrupt},
		{ID: "V07", Name: "GD entry in the directory", Build: gd(vmdkGD / sector), Kind: corrupt, Stage: AtRead, Field: "grain directory: entry 0", Off: vmdkGD, Check: Corrupt},
		{ID: "V07", Name: "GD entry in the descriptor", Build: gd(2), Kind: corrupt, Stage: AtRead, Field: "grain directory: entry 0", Off: vmdkGD, Check: Corrupt},
		{ID: "V07", Name: "GD entry beyond the end, redundant directory sound", Build: both(func(m *VMDKImage) { m.Put32(m.GD, 1<<30) }), Note: "redundant", Check: Corrupt},
		{ID: "V07", Name: "two GD entries, one table", Build: func() []byte {
			v := vmdkBase()
			v.Sectors = 600 * v.Grain
			m := v.Build()
			m.Put32(m.GD+4, m.Get32(m.GD))
			return m.Bytes
		}, Kind: corrupt, Stage: AtMap, Field: "grain directory: entry 1", Off: vmdkGD + 4, Check: Corrupt},
		{ID: "V08", Name: "GT entry beyond the end", Build: gt(1 << 30), Kind: truncated, Stage: AtRead, Field: "grain table 0: entry 1", Off: second, Guest: vmdkGrain, Check: Corrupt},
		{ID: "V08", Name: "grain cut by the end", Build: func() []byte { return VMDKBase().Bytes[:vmdkData+4*vmdkGrain-1] }, Kind: truncated, Stage: AtRead, Field: "grain table 0: entry 3", Off: vmdkGT + 12, Guest: 4*vmdkGrain - sector, Check: Corrupt},
		{ID: "V08", Name: "grain in the descriptor", Build: gt(vmdkDescriptor/sector + 1), Kind: corrupt, Stage: AtRead, Field: "grain table 0: entry 1", Off: second, Guest: vmdkGrain, Check: Corrupt},
		{ID: "V08", Name: "grain in the directory", Build: gt(vmdkGD / sector), Kind: corrupt, Stage: AtRead, Field: "grain table 0: entry 1", Off: second, Guest: vmdkGrain, Check: Corrupt},
		{ID: "V08", Name: "grain in its own table", Build: gt(vmdkGT / sector), Kind: corrupt, Stage: AtRead, Field: "grain table 0: entry 1", Off: second, Guest: vmdkGrain, Check: Corrupt},
		{ID: "V08", Name: "two entries, one grain", Build: gt(vmdkData / sector), Kind: corrupt, Stage: AtMap, Field: "grain table 0: entry 1", Off: second, Guest: vmdkGrain, Check: Corrupt},
		{ID: "V08", Name: "grains overlap", Build: gt((vmdkData + vmdkGrain/2) / sector), Kind: corrupt, Stage: AtMap, Field: "grain table 0: entry 1", Off: second, Guest: vmdkGrain, Check: Corrupt},
		{ID: "V08", Name: "GT entry beyond the end, redundant table sound", Build: both(func(m *VMDKImage) { m.Put32(m.GTE(1), 1<<30) }), Note: "redundant", Check: Corrupt},
		{ID: "V08", Name: "zero grain without the flag", Build: gt(1), Kind: corrupt, Stage: AtRead, Field: "grain of zeros", Off: second, Guest: vmdkGrain, Check: Corrupt},
		{ID: "V08", Name: "tables differ", Build: both(func(m *VMDKImage) { m.Put32(m.RGTs[0]+4, 0) }), Kind: corrupt, Stage: AtMap, Field: "redundant grain table 0: entry 1", Off: vmdkGT + 4, Check: Corrupt},
		{ID: "V08", Name: "tables differ by a grain that was being allocated", Build: both(func(m *VMDKImage) {
			m.Put32(m.RGTs[0]+4, 0)
			m.Bytes[VMDKUncleanShutdown] = 1
		}), Note: "the redundant one differs", Check: Corrupt},
		{ID: "V08", Name: "a grain that is not aligned", Build: gtAtEnd(1), Kind: corrupt, Stage: AtMap, Field: "grain table 0: entry 3", Off: vmdkGT + 12, Guest: 3 * vmdkGrain, Check: Corrupt},
		{ID: "V08", Name: "the second directory is damaged", Build: both(func(m *VMDKImage) { m.Put32(m.RGD, 1<<30) }), Note: "redundant", Check: Corrupt},
	}
}

// vmdkStreamCases are defects of streamOptimized extents.
func vmdkStreamCases() []Case {
	const (
		truncated = diskimage.ErrTruncated
		corrupt   = diskimage.ErrCorrupt
	)
	v := vmdkBase()
	v.Dialect = Exported
	m := v.Build()
	front := v
	front.Dialect = FrontIndex
	grain := func(stream []byte) Build {
		return func() []byte {
			v := vmdkBase()
			v.Dialect = Exported
			v.Grains[1].Stream = stream
			return v.Build().Bytes
		}
	}
	in := func(c Case) Case {
		c.Kind, c.Stage, c.Guest, c.Off, c.Check = corrupt, AtRead, vmdkGrain, m.Data[1], Unsaid
		return c
	}
	bad := Zlib(v.Grains[1].Data)
	binary.BigEndian.PutUint32(bad[len(bad)-4:], adler32.Checksum(v.Grains[1].Data)^1)
	cases := []Case{
		{ID: "V29", Name: "footer cut off", Build: func() []byte { return m.Bytes[:m.Footer-sector] }, Kind: truncated, Field: "footer", Off: m.Footer - 4*sector},
		{ID: "V29", Name: "end-of-stream marker cut off", Build: func() []byte { return m.Bytes[:m.Footer+sector] }, Kind: truncated, Field: "footer", Off: m.Footer - 2*sector},
		{ID: "V29", Name: "cut inside a grain", Build: func() []byte { return m.Bytes[:m.Data[2]+1000] }, Kind: truncated, Field: "footer", Off: m.Data[2] + 512 - 3*sector},
		{ID: "V30", Name: "directory at the end without a footer", Build: func() []byte {
			m := front.Build()
			m.Put64(VMDKGDOffset, gdAtEnd)
			return m.Bytes
		}, Kind: truncated, Field: "footer", Off: int64(len(front.Build().Bytes)) - 3*sector},
		{ID: "V30", Name: "the footer has none either", Build: exported(func(m *VMDKImage) { m.Put64(m.Footer+VMDKGDOffset, gdAtEnd) }), Kind: corrupt, Field: "gdOffset", Off: m.Footer + VMDKGDOffset},
		{ID: "V31", Name: "capacity of the footer differs", Build: exported(func(m *VMDKImage) { m.Put64(m.Footer+VMDKCapacity, 128) }), Kind: corrupt, Field: "capacity", Off: m.Footer + VMDKCapacity},
		{ID: "V31", Name: "descriptor of the footer differs", Build: exported(func(m *VMDKImage) { m.Put64(m.Footer+VMDKDescriptorOffset, 2) }), Kind: corrupt, Field: "descriptor", Off: m.Footer + VMDKDescriptorOffset},
		{ID: "V31", Name: "grain size of the footer differs", Build: exported(func(m *VMDKImage) { m.Put64(m.Footer+VMDKGrainSize, 32) }), Kind: corrupt, Field: "grainSize", Off: m.Footer + VMDKGrainSize},
		{ID: "V33", Name: "compressed size 2^32-1", Build: exported(func(m *VMDKImage) { m.Put32(m.Data[1]+8, 1<<32-1) }), Kind: corrupt, Stage: AtRead, Field: "compressed grain", Off: m.Data[1], Guest: vmdkGrain, Check: Corrupt},
		{ID: "V33", Name: "compressed size 0", Build: exported(func(m *VMDKImage) { m.Put32(m.Data[1]+8, 0) }), Kind: corrupt, Stage: AtRead, Field: "compressed grain", Off: m.Data[1], Guest: vmdkGrain, Check: Corrupt},
		{ID: "V33", Name: "marker of another grain", Build: exported(func(m *VMDKImage) { m.Put64(m.Data[1], 0) }), Kind: corrupt, Stage: AtRead, Field: "compressed grain", Off: m.Data[1], Guest: vmdkGrain, Check: Corrupt},
		in(Case{ID: "V34", Name: "Adler-32 wrong", Build: grain(bad), Field: "checksum"}),
		in(Case{ID: "V35", Name: "a grain of 64 times its size", Build: grain(Zlib(make([]byte, 64*vmdkGrain))), Field: "guest offset 0x2000"}),
		in(Case{ID: "V35", Name: "a grain too short", Build: grain(Zlib(v.Grains[1].Data[:1000])), Field: "guest offset 0x2000"}),
		in(Case{ID: "V35", Name: "a grain of noise", Build: grain(v.Grains[2].Data[:3000]), Field: "guest offset 0x2000"}),
		{ID: "V37", Name: "grains out of order", Build: exportedInOrder(0, 2, 1, 3), Check: Sound},
		{ID: "V37", Name: "grains backwards", Build: exportedInOrder(3, 2, 1, 0), Check: Sound},
	}
	return cases
}

// exportedInOrder returns a Build of a streamOptimized image whose grains
// follow each other so.
func exportedInOrder(order ...int) Build {
	return func() []byte {
		v := vmdkBase()
		v.Dialect, v.Order = Exported, order
		return v.Build().Bytes
	}
}

// emptyCOWD builds a COWD extent of 64 sectors without grains: VMware's "Virtual
// Disk Format 5.0", "ESX Server Sparse Extents".
func emptyCOWD() []byte {
	b := make([]byte, 5*sector)
	copy(b, "COWD")
	for i, v := range []uint32{1, 3, 64, 8, 4, 1, 5} { // version, flags, sectors, of a grain, directory, its entries, the first free sector
		binary.LittleEndian.PutUint32(b[4+4*i:], v)
	}
	return b
}

func le64(b []byte, v uint64) { binary.LittleEndian.PutUint64(b, v) }
