package qcow2_test

import (
	"encoding/binary"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/internal/disktest"
	"github.com/diskimage-go/diskimage/internal/imagetest"
	"github.com/diskimage-go/diskimage/qcow2"
)

type (
	shape = imagetest.QCOW2
	ext   = imagetest.Extension
)

func one(kind imagetest.ClusterKind) []imagetest.Cluster {
	return []imagetest.Cluster{{Kind: kind, Data: []byte("guest data")}}
}

// texts returns what a disk notes.
func texts(d *qcow2.Disk) string {
	var b strings.Builder
	for _, n := range d.Notes() {
		b.WriteString(n.String() + "\n")
	}
	return b.String()
}

// TestHeaderRules holds the rules of the header and its extensions that the
// list of hostile input does not.
func TestHeaderRules(t *testing.T) {
	const (
		corrupt   = diskimage.ErrCorrupt
		truncated = diskimage.ErrTruncated
		limit     = diskimage.ErrLimit
	)
	bitmaps := make([]byte, 24)
	binary.BigEndian.PutUint32(bitmaps, 1)
	binary.BigEndian.PutUint64(bitmaps[8:], 32)
	binary.BigEndian.PutUint64(bitmaps[16:], 1<<40)
	for _, c := range []struct {
		name   string
		q      shape
		change func(m *imagetest.Image)
		kind   diskimage.ErrorKind // "": accepted
		text   string              // of the error, or of a note
	}{
		{name: "header_length 105, no multiple of 8", change: func(m *imagetest.Image) { m.Put32(imagetest.HeaderLength, 105) }},
		{name: "header_length 104: no compression type", change: func(m *imagetest.Image) {
			m.Put32(imagetest.HeaderLength, 104)
			m.Put64(104, 0) // the end marker in its place
		}},
		{name: "unknown compatible and autoclear bits", q: shape{Compatible: 1 << 40, Autoclear: 1 << 40}},
		{name: "raw data file bit without a data file", q: shape{Autoclear: 2}, kind: corrupt, text: "autoclear_features"},
		{name: "raw data file and a backing file", q: shape{Autoclear: 2, Incompatible: 4, Backing: "b"}, kind: corrupt, text: "backing_file_offset"},
		{name: "bitmaps bit without the extension", q: shape{Autoclear: 1}, kind: corrupt, text: "autoclear_features"},
		{name: "bitmaps extension without the bit", q: shape{Extensions: []ext{{Type: imagetest.ExtBitmaps, Data: bitmaps}}}, text: "inconsistent"},
		{name: "bitmaps extension of another length", q: shape{Autoclear: 1, Extensions: []ext{{Type: imagetest.ExtBitmaps, Data: bitmaps[:16]}}}, text: "length"},
		{name: "bitmap directory beyond the end", q: shape{Autoclear: 1, Extensions: []ext{{Type: imagetest.ExtBitmaps, Data: bitmaps}}}, text: "bitmap directory"},
		{name: "extended L2 entries in small clusters", q: shape{ClusterBits: 13, Incompatible: 16}, kind: corrupt, text: "cluster_bits"},
		{name: "extension in version 2", q: shape{Version: 2, Extensions: []ext{{Type: 7, Data: []byte("x")}}}},
		{name: "unknown extension twice", q: shape{Extensions: []ext{{Type: 7}, {Type: 7}}}},
		{name: "backing format twice", q: shape{Extensions: []ext{{Type: imagetest.ExtBackingFormat}, {Type: imagetest.ExtBackingFormat}}}, kind: corrupt, text: "twice"},
		{name: "backing format of 16 bytes", q: shape{Extensions: []ext{{Type: imagetest.ExtBackingFormat, Data: make([]byte, 16)}}}, kind: corrupt, text: "15 at most"},
		{name: "backing format with a NUL", q: shape{Extensions: []ext{{Type: imagetest.ExtBackingFormat, Data: []byte("raw\x00")}}}, kind: corrupt, text: "NUL"},
		{name: "data file name with a NUL", q: shape{Incompatible: 4, Extensions: []ext{{Type: imagetest.ExtDataFile, Data: []byte("a\x00b")}}}, kind: corrupt, text: "NUL"},
		{name: "extension runs into the backing name", q: shape{Backing: "b", Extensions: []ext{{Type: 7, Data: make([]byte, 8)}}}, change: func(m *imagetest.Image) { m.Put32(112+4, 17) }, kind: corrupt, text: "runs over"},
		{name: "extensions without an end marker", q: shape{ClusterBits: 9, Extensions: []ext{{Type: 7, Data: make([]byte, 512-112-8)}}}},
		{name: "last extension one byte too long", q: shape{ClusterBits: 9, Extensions: []ext{{Type: 7, Data: make([]byte, 512-112-8)}}}, change: func(m *imagetest.Image) { m.Put32(112+4, 512-112-8+1) }, kind: corrupt, text: "runs over"},
		{name: "end marker of a great length", change: func(m *imagetest.Image) { m.Put32(112+4, 1<<30) }, kind: corrupt, text: "runs over"},
		{name: "half an extension header before the backing name", q: shape{Backing: "b"}, change: func(m *imagetest.Image) { m.Put64(imagetest.BackingOffset, 116) }, kind: corrupt, text: "runs into"},
		{name: "backing name of no length", change: func(m *imagetest.Image) { m.Put64(imagetest.BackingOffset, 65536) }, kind: corrupt, text: "backing_file_size"},
		{name: "backing name of no place", change: func(m *imagetest.Image) { m.Put32(imagetest.BackingSize, 4) }, text: "4 bytes of a backing file's name"},
		{name: "backing name over its cluster's end", q: shape{ClusterBits: 9}, change: func(m *imagetest.Image) {
			m.Put64(imagetest.BackingOffset, 500)
			m.Put32(imagetest.BackingSize, 13)
		}, kind: corrupt, text: "backing_file_size"},
		{name: "l1 table in the header", change: func(m *imagetest.Image) { m.Put64(imagetest.L1Offset, 0) }, kind: corrupt, text: "l1_table_offset"},
		{name: "l1 table near 2^63", change: func(m *imagetest.Image) { m.Put64(imagetest.L1Offset, 1<<63-1<<16) }, kind: truncated, text: "l1 table"},
		{name: "l1 table above 2^63", change: func(m *imagetest.Image) { m.Put64(imagetest.L1Offset, 1<<64-1<<16) }, kind: corrupt, text: "l1_table_offset"},
		{name: "l1 table of 32 MiB and an entry", change: func(m *imagetest.Image) { m.Put32(imagetest.L1Size, 4<<20+1) }, kind: corrupt, text: "l1_size"},
		{name: "l1 table larger than it need be", change: func(m *imagetest.Image) { m.Put32(imagetest.L1Size, 8192) }},
		{name: "refcount table of 8 MiB and a cluster", change: func(m *imagetest.Image) { m.Put32(imagetest.RefTableClusters, 129) }, kind: corrupt, text: "refcount_table_clusters"},
		{name: "no refcount table", change: func(m *imagetest.Image) { m.Put32(imagetest.RefTableClusters, 0) }, kind: corrupt, text: "refcount_table_clusters"},
		{name: "refcount table at 0", change: func(m *imagetest.Image) { m.Put64(imagetest.RefTableOffset, 0) }, text: "refcount table"},
		{name: "refcount table above 2^63", change: func(m *imagetest.Image) { m.Put64(imagetest.RefTableOffset, 1<<63) }, kind: corrupt, text: "refcount_table_offset"},
		{name: "snapshot table unaligned", change: func(m *imagetest.Image) { m.Put64(imagetest.SnapshotsOffset, 512) }, kind: corrupt, text: "snapshots_offset"},
		{name: "snapshot table above 2^63", change: func(m *imagetest.Image) { m.Put64(imagetest.SnapshotsOffset, 1<<63) }, kind: corrupt, text: "snapshots_offset"},
		{name: "cut before the extensions' end", q: shape{Extensions: []ext{{Type: 7, Data: make([]byte, 100)}}}, change: func(m *imagetest.Image) { m.Bytes = m.Bytes[:150] }, kind: truncated, text: "header extension"},
		{name: "snapshot with much extra data", change: func(m *imagetest.Image) { addSnapshot(m, 1025) }, kind: limit, text: "extra_data_size"},
		{name: "snapshot with too little extra data", change: func(m *imagetest.Image) { addSnapshot(m, 8) }, text: "extra_data_size"},
		{name: "snapshot in version 2 without extra data", q: shape{Version: 2}, change: func(m *imagetest.Image) { addSnapshot(m, 0) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.q.Clusters == nil && c.q.Incompatible&4 == 0 {
				c.q.Clusters = one(imagetest.Plain)
			}
			m := c.q.Build()
			if c.change != nil {
				c.change(m)
			}
			d, err := qcow2.Open(t.Context(), imagetest.Source(m.Bytes), qcow2.Options{SkipExternal: true})
			if c.kind != "" {
				require.ErrorIs(t, err, c.kind)
				require.ErrorContains(t, err, c.text)
				return
			}
			require.NoError(t, err)
			if c.text == "" {
				require.Empty(t, d.Notes())
			} else {
				require.Contains(t, texts(d), c.text)
			}
			require.NoError(t, disktest.TryWalk(d))
		})
	}
}

// addSnapshot adds a snapshot of the active disk, with n bytes of extra data.
func addSnapshot(m *imagetest.Image, n int) {
	e := make([]byte, 40+n+8)
	be := binary.BigEndian
	be.PutUint64(e, uint64(m.L1))
	be.PutUint32(e[8:], uint32(m.L1Len))
	be.PutUint16(e[12:], 1)
	be.PutUint16(e[14:], 3)
	be.PutUint32(e[36:], uint32(n))
	if n >= 16 {
		be.PutUint64(e[48:], uint64(len(m.Guest)))
	}
	copy(e[40+n:], "7snp")
	off := m.Append(e)
	m.Put32(imagetest.NbSnapshots, 1)
	m.Put64(imagetest.SnapshotsOffset, uint64(off))
}

// TestSnapshotRules holds what is asked of a snapshot's own L1 table, when it
// is opened and not before.
func TestSnapshotRules(t *testing.T) {
	for _, c := range []struct {
		name  string
		field int64 // offset in the entry
		value uint64
		extra int
		kind  diskimage.ErrorKind
		text  string
	}{
		{name: "good", field: -1, extra: 16},
		{name: "good, with the instruction count", field: -1, extra: 24},
		{name: "l1 unaligned", field: 0, value: 3<<16 + 512, extra: 16, kind: diskimage.ErrCorrupt, text: "l1_table_offset"},
		{name: "l1 in the header", field: 0, value: 0, extra: 16, kind: diskimage.ErrCorrupt, text: "l1_table_offset"},
		{name: "l1 beyond the end", field: 0, value: 1 << 40, extra: 16, kind: diskimage.ErrTruncated, text: "l1 table"},
		{name: "l1 above 2^63", field: 0, value: 1 << 63, extra: 16, kind: diskimage.ErrCorrupt, text: "l1_table_offset"},
		{name: "l1 too large", field: 8, value: 1 << 63, extra: 16, kind: diskimage.ErrCorrupt, text: "l1_size"},
		{name: "l1 too small", field: 48, value: 1 << 40, extra: 16, kind: diskimage.ErrCorrupt, text: "l1_size"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := imagetest.Base()
			addSnapshot(m, c.extra)
			if at := int64(m.Get64(imagetest.SnapshotsOffset)) + c.field; c.field == 8 {
				m.Put32(at, uint32(c.value>>32))
			} else if c.field >= 0 {
				m.Put64(at, c.value)
			}
			d, err := qcow2.Open(t.Context(), imagetest.Source(m.Bytes), qcow2.Options{})
			require.NoError(t, err)
			require.Empty(t, d.Notes())
			require.Len(t, d.Info().Snapshots, 1)
			s, err := d.OpenSnapshot("snp")
			if c.kind != "" {
				require.ErrorIs(t, err, c.kind)
				require.ErrorContains(t, err, c.text)
				require.ErrorContains(t, err, `snapshot "snp"`)
				_, err = qcow2.Open(t.Context(), imagetest.Source(m.Bytes), qcow2.Options{Snapshot: "7"})
				require.ErrorIs(t, err, c.kind)
				return
			}
			require.NoError(t, err)
			require.EqualValues(t, len(m.Guest), s.Size())
			require.Equal(t, m.Guest, read(t, s))
		})
	}
}

// read returns a disk's bytes.
func read(t testing.TB, d diskimage.VirtualDisk) []byte {
	t.Helper()
	p := make([]byte, d.Size())
	_, err := d.ReadAt(p, 0)
	require.NoError(t, err)
	return p
}

// repeated is a source in which what follows the first bytes is one pattern
// over and over.
type repeated struct {
	first, pattern []byte
	size           int64
}

func (r repeated) Size() int64 { return r.size }

func (r repeated) ReadAt(p []byte, off int64) (n int, err error) {
	for n < len(p) {
		if at := off + int64(n); at < int64(len(r.first)) {
			n += copy(p[n:], r.first[at:])
		} else {
			n += copy(p[n:], r.pattern[(at-int64(len(r.first)))%int64(len(r.pattern)):])
		}
	}
	return n, nil
}

// TestSnapshotTableLimit reads a table of small numbers that add up.
func TestSnapshotTableLimit(t *testing.T) {
	m := imagetest.Base()
	e := make([]byte, 40+16+65528+65528)
	binary.BigEndian.PutUint16(e[12:], 65528)
	binary.BigEndian.PutUint16(e[14:], 65528)
	binary.BigEndian.PutUint32(e[36:], 16)
	m.Put32(imagetest.NbSnapshots, 1000)
	m.Put64(imagetest.SnapshotsOffset, uint64(len(m.Bytes)))
	_, err := qcow2.Open(t.Context(), repeated{m.Bytes, e, 1 << 30}, qcow2.Options{})
	require.ErrorIs(t, err, diskimage.ErrLimit)
	require.ErrorContains(t, err, "snapshot table")
}

// TestBitmapRules holds what is noted of a bitmap directory, and that the
// guest data reads all the same.
func TestBitmapRules(t *testing.T) {
	dirEntry := func(name string, change func(e []byte)) []byte {
		e := make([]byte, (24+len(name)+7)&^7)
		binary.BigEndian.PutUint32(e[8:], 1) // table entries
		e[16], e[17] = 1, 16
		binary.BigEndian.PutUint16(e[18:], uint16(len(name)))
		copy(e[24:], name)
		if change != nil {
			change(e)
		}
		return e
	}
	good := dirEntry("good", nil)
	for _, c := range []struct {
		name string
		dir  []byte
		n    uint32
		want int // bitmaps that are listed
		text string
	}{
		{"one", good, 1, 1, ""},
		{"two", append(dirEntry("other", nil), good...), 2, 2, ""},
		{"the same name twice", append(good, good...), 2, 1, `"good"`},
		{"reserved flags", dirEntry("x", func(e []byte) { e[15] = 8 }), 1, 0, "flags"},
		{"type 2", dirEntry("x", func(e []byte) { e[16] = 2 }), 1, 0, "type"},
		{"granularity 8", dirEntry("x", func(e []byte) { e[17] = 8 }), 1, 0, "granularity_bits"},
		{"granularity 32", dirEntry("x", func(e []byte) { e[17] = 32 }), 1, 0, "granularity_bits"},
		{"no name", dirEntry("", nil), 1, 0, "name_size"},
		{"long name", dirEntry(strings.Repeat("x", 1024), nil), 1, 0, "name_size"},
		{"extra data", dirEntry("x", func(e []byte) { e[23] = 8 }), 1, 0, "extra_data_size"},
		{"padding", dirEntry("x", func(e []byte) { e[31] = 1 }), 1, 0, "padding"},
		{"directory too short", good, 2, 1, "ends inside"},
		{"directory too long", append(dirEntry("other", nil), good...), 1, 1, "left after"},
		{"none", nil, 0, 0, "nb_bitmaps"},
		{"too many", good, 65536, 0, "nb_bitmaps"},
	} {
		t.Run(c.name, func(t *testing.T) {
			x := make([]byte, 24)
			binary.BigEndian.PutUint32(x, c.n)
			q := shape{Autoclear: 1, Extensions: []ext{{Type: imagetest.ExtBitmaps, Data: x}}, Clusters: one(imagetest.Plain)}
			m := q.Build()
			off := m.Append(append([]byte(nil), c.dir...))
			m.Put64(112+8+8, uint64(len(c.dir)))
			m.Put64(112+8+16, uint64(off))
			d, err := qcow2.Open(t.Context(), imagetest.Source(m.Bytes), qcow2.Options{})
			require.NoError(t, err)
			require.Len(t, d.Info().Bitmaps, c.want)
			if c.text == "" {
				require.Empty(t, d.Notes())
				require.EqualValues(t, 64<<10, d.Info().Bitmaps[0].Granularity)
			} else {
				require.Contains(t, texts(d), c.text)
			}
			require.Equal(t, m.Guest, read(t, d))
		})
	}
}
