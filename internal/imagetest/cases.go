package imagetest

import (
	"bytes"
	"strings"

	"github.com/diskimage-go/diskimage"
)

// QCOW2Cases returns the QCOW2 rows of the list of hostile input, Q01 to Q57.
func QCOW2Cases() []Case {
	return append(append(headerCases(), referenceCases()...), tableCases()...)
}

// headerCases are defects of what lies in the first cluster.
func headerCases() []Case {
	const (
		format      = diskimage.ErrFormat
		truncated   = diskimage.ErrTruncated
		corrupt     = diskimage.ErrCorrupt
		unsupported = diskimage.ErrUnsupported
		limit       = diskimage.ErrLimit
		encrypted   = diskimage.ErrEncrypted
	)
	put32 := func(off int64, v uint32) Build { return with(func(m *Image) { m.Put32(off, v) }) }
	put64 := func(off int64, v uint64) Build { return with(func(m *Image) { m.Put64(off, v) }) }
	extension := func(length uint32) Build {
		return of(func(q *QCOW2) { q.Extensions = []Extension{{0x12345678, nil}} }).change(func(b []byte) {
			be32(b[112+4:], length)
		})
	}
	names := make([]byte, 48)
	copy(names, "\x00\x05evil\x1b[31m\nfeature")

	cases := []Case{
		{ID: "Q01", Name: "empty file", Build: func() []byte { return nil }, Kind: format, Field: "magic", Off: 0},
		{ID: "Q02", Name: "magic only", Build: cut(4), Kind: truncated, Field: "header", Off: 4},
		{ID: "Q03", Name: "header cut at 80", Build: cut(80), Kind: truncated, Field: "header", Off: 80},
		{ID: "Q04", Name: "version 1", Build: put32(Version, 1), Kind: unsupported, Field: "qcow v1", Off: Version},
		{ID: "Q05", Name: "version 4", Build: put32(Version, 4), Kind: unsupported, Field: "version", Off: Version},
		{ID: "Q05", Name: "version 2^32-1", Build: put32(Version, 1<<32-1), Kind: unsupported, Field: "version", Off: Version},
		{ID: "Q07", Name: "size 0", Build: put64(Size, 0), Note: "size is 0", Check: Sound},
		{ID: "Q10", Name: "l1_size 0", Build: put32(L1Size, 0), Kind: corrupt, Field: "l1_size", Off: L1Size},
		{ID: "Q10", Name: "l1_size too small", Build: put64(Size, 513<<20), Kind: corrupt, Field: "l1_size", Off: L1Size},
		{ID: "Q11", Name: "L1 beyond the end", Build: put64(L1Offset, 1<<40), Kind: truncated, Field: "l1 table", Off: 1 << 40},
		{ID: "Q12", Name: "L1 unaligned", Build: put64(L1Offset, baseL1+512), Kind: corrupt, Field: "l1_table_offset", Off: L1Offset},
		{ID: "Q14", Name: "refcount table of 2^32-1 clusters", Build: put32(RefTableClusters, 1<<32-1), Kind: corrupt, Field: "refcount_table_clusters", Off: RefTableClusters},
		{ID: "Q14", Name: "refcount table unaligned", Build: put64(RefTableOffset, baseRefTable+8), Kind: corrupt, Field: "refcount_table_offset", Off: RefTableOffset},
		{ID: "Q15", Name: "refcount table beyond the end", Build: put64(RefTableOffset, 1<<40), Note: "refcount table", Check: Corrupt},
		{ID: "Q16", Name: "2^32-1 snapshots", Build: put32(NbSnapshots, 1<<32-1), Kind: limit, Field: "nb_snapshots", Off: NbSnapshots},
		{ID: "Q16", Name: "65537 snapshots", Build: put32(NbSnapshots, 65537), Kind: limit, Field: "nb_snapshots", Off: NbSnapshots},
		{ID: "Q17", Name: "snapshot table beyond the end", Build: with(func(m *Image) {
			m.Put32(NbSnapshots, 1)
			m.Put64(SnapshotsOffset, 1<<40)
		}), Note: "snapshot table", Check: Corrupt},
		{ID: "Q18", Name: "header_length 2^32-1", Build: put32(HeaderLength, 1<<32-1), Kind: corrupt, Field: "header_length", Off: HeaderLength},
		{ID: "Q18", Name: "header_length 72", Build: put32(HeaderLength, 72), Kind: corrupt, Field: "header_length", Off: HeaderLength},
		{ID: "Q18", Name: "header_length above a cluster", Build: put32(HeaderLength, cluster+8), Kind: corrupt, Field: "header_length", Off: HeaderLength},
		{ID: "Q19", Name: "extension of 2^31-1 bytes", Build: extension(1<<31 - 1), Kind: corrupt, Field: "header extension", Off: 112},
		{ID: "Q19", Name: "extension of 2^32-1 bytes", Build: extension(1<<32 - 1), Kind: corrupt, Field: "header extension", Off: 112},
		{ID: "Q20", Name: "incompatible bit 5, named", Build: of(func(q *QCOW2) {
			q.Incompatible = 1 << 5
			q.Extensions = []Extension{{ExtFeatureNames, names}}
		}), Kind: unsupported, Field: `bit 5, which the image calls "evil\x1b[31m\nfeature"`, Off: Incompatible},
		{ID: "Q20", Name: "incompatible bit 63", Build: put64(Incompatible, 1<<63), Kind: unsupported, Field: "bit 63", Off: Incompatible},
		{ID: "Q21", Name: "dirty bit", Build: put64(Incompatible, 1<<0), Note: "dirty", Check: Sound},
		{ID: "Q22", Name: "corrupt bit", Build: put64(Incompatible, 1<<1), Kind: corrupt, Field: "marked corrupt", Off: Incompatible, Check: Unsaid},
		{ID: "Q25", Name: "compression bit with a short header", Build: with(func(m *Image) {
			m.Put64(Incompatible, 1<<3)
			m.Put32(HeaderLength, 104)
		}), Kind: corrupt, Field: "compression", Off: Incompatible},
		{ID: "Q25", Name: "compression type 255", Build: of(func(q *QCOW2) { q.Zstd = true }).change(func(b []byte) {
			b[CompressionType] = 255
		}), Kind: unsupported, Field: "compression_type", Off: CompressionType},
		{ID: "Q25", Name: "zstd with the bit clear", Build: with(func(m *Image) { m.Bytes[CompressionType] = 1 }), Kind: corrupt, Field: "compression", Off: Incompatible},
		{ID: "Q27", Name: "refcount_order 7", Build: put32(RefcountOrder, 7), Kind: corrupt, Field: "refcount_order", Off: RefcountOrder},
		{ID: "Q27", Name: "refcount_order 255", Build: put32(RefcountOrder, 255), Kind: corrupt, Field: "refcount_order", Off: RefcountOrder},
		{ID: "Q28", Name: "AES", Build: put32(CryptMethod, 1), Kind: encrypted, Field: "AES", Off: CryptMethod, Check: Unsaid},
		{ID: "Q28", Name: "LUKS without its header", Build: put32(CryptMethod, 2), Kind: encrypted, Field: "LUKS", Off: CryptMethod, Check: Unsaid},
		{ID: "Q28", Name: "encryption 3", Build: put32(CryptMethod, 3), Kind: unsupported, Field: "crypt_method", Off: CryptMethod},
		{ID: "Q57", Name: "2^31 bitmaps", Build: of(func(q *QCOW2) {
			ext := make([]byte, 24)
			be32(ext, 1<<31)
			be64(ext[8:], 32)
			be64(ext[16:], baseData)
			q.Autoclear = 1
			q.Extensions = []Extension{{ExtBitmaps, ext}}
		}), Note: "nb_bitmaps", Check: Unsaid},
	}
	for _, bits := range []uint32{0, 8, 22, 31, 63, 64, 1<<32 - 1} {
		cases = append(cases, Case{ID: "Q06", Name: "cluster_bits " + number(uint64(bits)), Build: put32(ClusterBits, bits), Kind: corrupt, Field: "cluster_bits", Off: ClusterBits})
	}
	for _, size := range []uint64{1<<63 - 1, 1<<64 - 1, 1<<63 - 512} {
		field, off := "l1_size", int64(L1Size)
		if size > 1<<63-1 {
			field, off = "header: size", Size
		}
		cases = append(cases, Case{ID: "Q08", Name: "size " + number(size), Build: put64(Size, size), Kind: corrupt, Field: field, Off: off})
	}
	for _, n := range []uint32{1<<32 - 1, 1<<31 - 1} {
		cases = append(cases, Case{ID: "Q09", Name: "l1_size " + number(uint64(n)), Build: put32(L1Size, n), Kind: corrupt, Field: "l1_size", Off: L1Size})
	}
	return cases
}

// referenceCases are images that name other files.
func referenceCases() []Case {
	const external = diskimage.ErrExternal
	cases := []Case{
		{ID: "Q23", Name: "data file /etc/passwd", Build: dataFile("/etc/passwd"), Kind: external, Field: `"/etc/passwd"`, Off: -1, Check: Unsaid},
		{ID: "Q24", Name: "data file json:", Build: dataFile(`json:{"driver":"file","filename":"/etc/passwd"}`), Kind: external, Field: `"json:`, Off: -1, Check: Unsaid},
		{ID: "Q33", Name: "backing file is the image", File: "self.qcow2", Build: backed("self.qcow2"), Kind: external, Field: `"self.qcow2"`, Off: -1, Check: Unsaid},
		{ID: "Q34", Name: "backing name of 1024 bytes", Build: with(func(m *Image) {
			m.Put64(BackingOffset, 512)
			m.Put32(BackingSize, 1024)
			copy(m.Bytes[512:], strings.Repeat("a", 1024))
		}), Kind: diskimage.ErrCorrupt, Field: "backing_file_size", Off: BackingSize},
		{ID: "Q34", Name: "backing name beyond the end", Build: of(func(q *QCOW2) { q.Backing = "backing" }).change(func(b []byte) {
			be64(b[BackingOffset:], 1<<40)
		}), Kind: diskimage.ErrCorrupt, Field: "backing_file_offset", Off: BackingOffset},
		{ID: "Q34", Name: "backing name with a NUL", Build: backed("good\x00/etc/passwd"), Kind: diskimage.ErrCorrupt, Field: "NUL", Off: 120 + 4},
	}
	for _, c := range [][2]string{
		{"Q29", "/etc/passwd"},
		{"Q30", "../../../etc/passwd"},
		{"Q31", `json:{"driver":"file","filename":"/etc/passwd"}`},
		{"Q32", "nbd://127.0.0.1:1/"},
	} {
		cases = append(cases, Case{ID: c[0], Name: "backing file " + c[1], Build: backed(c[1]), Kind: external, Field: diskimage.Quote(c[1]), Off: -1, Check: Unsaid})
	}
	return cases
}

// tableCases are defects of tables and of what they point to.
func tableCases() []Case {
	const (
		truncated = diskimage.ErrTruncated
		corrupt   = diskimage.ErrCorrupt
	)
	l1 := func(v uint64) Build { return with(func(m *Image) { m.SetL1(0, v) }) }
	l2 := func(v uint64) Build { return with(func(m *Image) { m.SetL2(1, v) }) }
	const second = baseL2 + 8 // the entry of the second cluster
	short := Compress(make([]byte, 1000), false)
	whole := Compress(bytes.Repeat([]byte("compressible "), 6000)[:cluster], false)

	return []Case{
		{ID: "Q26", Name: "subcluster allocated and zero", Build: of(func(q *QCOW2) {
			q.ExtendedL2 = true
			q.Clusters[1] = Cluster{Kind: Subclusters, Alloc: 3, Zero: 2}
		}), Kind: corrupt, Stage: AtRead, Field: "both allocated and zero", Off: baseL2 + 16, Guest: cluster, Check: Corrupt},
		{ID: "Q35", Name: "L1 entry unaligned", Build: l1(baseL2 + 512 | Copied), Kind: corrupt, Stage: AtRead, Field: "l1 table: entry 0", Off: baseL1, Check: Corrupt},
		{ID: "Q36", Name: "L1 entry beyond the end", Build: l1(1<<40 | Copied), Kind: truncated, Stage: AtRead, Field: "l1 table: entry 0", Off: baseL1, Check: Corrupt},
		{ID: "Q37", Name: "L1 entry with reserved bits", Build: l1(baseL2 | Copied | 1<<60), Kind: corrupt, Stage: AtRead, Field: "l1 table: entry 0", Off: baseL1, Check: Corrupt},
		{ID: "Q39", Name: "data unaligned", Build: l2(baseData + 512 | Copied), Kind: corrupt, Stage: AtRead, Field: "l2 table 0: entry 1", Off: second, Guest: cluster, Check: Corrupt},
		{ID: "Q40", Name: "data beyond the end", Build: l2(1<<40 | Copied), Kind: truncated, Stage: AtRead, Field: "l2 table 0: entry 1", Off: second, Guest: cluster, Check: Corrupt},
		{ID: "Q41", Name: "data in the header", Build: packed(nil, func(m *Image) {
			m.SetL2(1, m.CompressedEntry(512, 512)) // a plain one at 0 is none
		}), Kind: corrupt, Stage: AtRead, Field: "header", Off: second, Guest: cluster, Check: Corrupt},
		{ID: "Q41", Name: "data in the L1 table", Build: l2(baseL1 | Copied), Kind: corrupt, Stage: AtRead, Field: "l1 table", Off: second, Guest: cluster, Check: Corrupt},
		{ID: "Q41", Name: "data in the refcount table", Build: l2(baseRefTable | Copied), Kind: corrupt, Stage: AtRead, Field: "refcount table", Off: second, Guest: cluster, Check: Corrupt},
		{ID: "Q41", Name: "data in a refcount block", Build: l2(baseRefBlock | Copied), Kind: corrupt, Stage: AtMap, Field: "refcount block", Off: second, Guest: cluster, Check: Corrupt},
		{ID: "Q41", Name: "data in its own L2 table", Build: l2(baseL2 | Copied), Kind: corrupt, Stage: AtMap, Field: "l2 table", Off: second, Guest: cluster, Check: Corrupt},
		{ID: "Q42", Name: "one cluster twice", Build: l2(baseData | Copied), Kind: corrupt, Stage: AtMap, Field: "l2 table 0: entry 1", Off: second, Guest: cluster, Check: Corrupt},
		{ID: "Q44", Name: "compressed data beyond the end", Build: l2(Compressed | 1<<40), Kind: truncated, Stage: AtRead, Field: "l2 table 0: entry 1", Off: second, Guest: cluster, Check: Corrupt},
		{ID: "Q45", Name: "compressed data random", Build: packed(bytes.Repeat([]byte{0xff, 0x5a, 0x3c}, 1000), nil), Kind: corrupt, Stage: AtRead, Field: "guest offset 0x0", Off: baseData, Check: Unsaid},
		{ID: "Q45", Name: "compressed data cut", Build: packed(whole[:len(whole)/2], nil), Kind: corrupt, Stage: AtRead, Field: "guest offset 0x0", Off: baseData, Check: Unsaid},
		{ID: "Q45", Name: "compressed data too short", Build: packed(short, nil), Kind: corrupt, Stage: AtRead, Field: "guest offset 0x0", Off: baseData, Check: Unsaid},
		{ID: "Q47", Name: "8192 entries, one compressed cluster counted once", Build: bomb(1, 1), Kind: corrupt, Stage: AtMap, Field: "l2 table 0: entry 2050", Off: baseL2 + 2050*8, Check: Corrupt},
		{ID: "Q47", Name: "8192 entries, one compressed cluster counted as often", Build: bomb(8192, 1), Kind: diskimage.ErrLimit, Stage: AtMap, Field: "l2 table 0: entry 2050", Off: baseL2 + 2050*8, Check: Sound},
		{ID: "Q47", Name: "128 L1 entries, one L2 table, one compressed cluster, all counted", Build: bomb(128*8192, 128), Kind: diskimage.ErrLimit, Stage: AtMap, Field: "l2 table 0: entry 16", Off: baseL2 + 16*8, Check: Sound},
		{ID: "Q49", Name: "64 TiB of holes", Build: func() []byte { return QCOW2{Size: 64 << 40}.Build().Bytes }, Check: Sound},
		{ID: "Q50", Name: "zero flag in version 2", Build: of(func(q *QCOW2) {
			q.Version = 2
			q.Clusters[1].Kind = Zeros
		}), Kind: corrupt, Stage: AtRead, Field: "zero flag", Off: second, Guest: cluster, Check: Corrupt},
		{ID: "Q51", Name: "all refcounts zero", Build: with(func(m *Image) { clear(m.Bytes[baseRefBlock : baseRefBlock+cluster]) }), Check: Corrupt},
		{ID: "Q52", Name: "size 1000", Build: func() []byte {
			q := base()
			q.Clusters, q.Size = q.Clusters[:1], 1000
			return q.Build().Bytes
		}, Note: "1000", Check: Sound},
		{ID: "Q53", Name: "cut inside the last data cluster", Build: cut(baseEnd - 1000), Kind: truncated, Stage: AtRead, Field: "l2 table 0: entry 3", Off: baseL2 + 24, Guest: 4*cluster - 1000, Check: Corrupt},
		{ID: "Q54", Name: "last clusters missing", Build: cut(baseEnd - 2*cluster), Kind: truncated, Stage: AtRead, Field: "l2 table 0: entry 2", Off: baseL2 + 16, Guest: 2 * cluster, Check: Corrupt},
		{ID: "Q55", Name: "L2 table missing", Build: cut(baseL2), Kind: truncated, Stage: AtRead, Field: "l1 table: entry 0", Off: baseL1, Check: Corrupt},
		{ID: "Q56", Name: "something appended", Build: with(func(m *Image) {
			m.Bytes = append(m.Bytes, bytes.Repeat([]byte("garbage"), 1000)...)
		}), Note: "behind the last cluster", Check: Sound},
	}
}

// bomb returns a Build of a disk whose data is all in one compressed cluster of
// the given refcount: 512 MiB for each of the L1 entries, which name one table.
func bomb(refcount uint64, tables int64) Build {
	return func() []byte {
		q := QCOW2{Size: tables * 512 << 20, RefcountOrder: 5, Clusters: []Cluster{{Kind: Packed, Data: bytes.Repeat([]byte{'x'}, cluster)}}}
		m := q.Build()
		e := m.Get64(m.L2Entry(0))
		for i := range int64(8192) {
			m.SetL2(i, e)
		}
		m.SetRefcount(baseData/cluster, refcount)
		if tables > 1 {
			for i := range tables {
				m.SetL1(i, baseL2)
			}
			m.SetRefcount(baseL2/cluster, uint64(tables))
		}
		return m.Bytes
	}
}
