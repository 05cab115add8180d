package vmdk_test

import (
	"bytes"
	"encoding/binary"
	"hash/adler32"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/internal/disktest"
	"github.com/diskimage-go/diskimage/internal/imagetest"
	"github.com/diskimage-go/diskimage/internal/peer"
	"github.com/diskimage-go/diskimage/vmdk"
)

// texts returns what a disk notes.
func texts(d *vmdk.Disk) string {
	var b strings.Builder
	for _, n := range d.Notes() {
		b.WriteString(n.String() + "\n")
	}
	return b.String()
}

// noisy returns n bytes that do not compress.
func noisy(n int, seed uint64) []byte {
	rnd := rand.New(rand.NewPCG(seed, 1))
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(rnd.Uint32())
	}
	return p
}

// twoTables returns a shape with grains of 4 KiB in the first and the third
// grain table.
func twoTables() imagetest.VMDK {
	v := imagetest.VMDK{Grain: 8, Grains: make([]imagetest.Grain, 1030)}
	for _, i := range []int{0, 1, 5, 1024, 1029} {
		v.Grains[i] = imagetest.Grain{Kind: imagetest.Plain, Data: noisy(4096, uint64(i))}
	}
	return v
}

func openBytes(t testing.TB, file []byte, o vmdk.Options) *vmdk.Disk {
	t.Helper()
	d, err := vmdk.Open(t.Context(), imagetest.Source(file), o)
	require.NoError(t, err)
	return d
}

// TestRedundantDirectory damages the primary directory or a primary table: all
// is read by the redundant ones, and said. qemu-img 7.2 never looks at them: it
// reads zeros where the entry is 0 or the table lies behind the end.
func TestRedundantDirectory(t *testing.T) {
	for name, damage := range map[string]func(m *imagetest.VMDKImage){
		"the directory lies beyond the end": func(m *imagetest.VMDKImage) { m.Put64(imagetest.VMDKGDOffset, 1<<40) },
		"the directory is lost, and names a table less": func(m *imagetest.VMDKImage) {
			m.Put64(imagetest.VMDKGDOffset, 1<<40)
			m.Put32(m.RGD+4, 0)
		},
		"the directory lies in the header": func(m *imagetest.VMDKImage) { m.Put64(imagetest.VMDKGDOffset, 0) },
		"an entry is 0":                    func(m *imagetest.VMDKImage) { m.Put32(m.GD, 0) },
		"all entries are 0":                func(m *imagetest.VMDKImage) { clear(m.Bytes[m.GD:][:12]) },
		"an entry is beyond the end":       func(m *imagetest.VMDKImage) { m.Put32(m.GD+8, 1<<31) },
		"an entry is of the descriptor":    func(m *imagetest.VMDKImage) { m.Put32(m.GD, 2) },
		"a grain is beyond the end":        func(m *imagetest.VMDKImage) { m.Put32(m.GTE(1), 1<<31) },
		"a grain is in the header":         func(m *imagetest.VMDKImage) { m.Put32(m.GTE(1), 1) },
		"a grain is in the descriptor":     func(m *imagetest.VMDKImage) { m.Put32(m.GTE(1029), 3) },
		"a table is rubbish":               func(m *imagetest.VMDKImage) { copy(m.Bytes[m.GTs[2]:], noisy(2048, 9)) },
	} {
		t.Run(name, func(t *testing.T) {
			m := twoTables().Build()
			damage(m)
			d := openBytes(t, m.Bytes, vmdk.Options{})
			require.NoError(t, d.CheckMap())
			require.Contains(t, texts(d), "redundant grain ")
			require.Contains(t, texts(d), " is used: ")
			disktest.Conform(t, d, m.Guest)
		})
	}
}

func TestRedundantDirectoryOfPeer(t *testing.T) {
	peer.Find(t, "qemu-img")
	dir := t.TempDir()
	raw, image := filepath.Join(dir, "raw"), filepath.Join(dir, "disk.vmdk")
	disk := noisy(1<<20, 3)
	require.NoError(t, os.WriteFile(raw, disk, 0o666))
	peer.Run(t, "qemu-img", "convert", "-f", "raw", "-O", "vmdk", raw, image)
	file, err := os.ReadFile(image)
	require.NoError(t, err)
	gd := binary.LittleEndian.Uint64(file[imagetest.VMDKGDOffset:])
	clear(file[gd*512:][:4])
	require.NoError(t, os.WriteFile(image, file, 0o666))

	peer.Run(t, "qemu-img", "convert", "-f", "vmdk", "-O", "raw", image, raw)
	zeros, err := os.ReadFile(raw)
	require.NoError(t, err)
	require.Equal(t, make([]byte, len(disk)), zeros, "the reference reads the redundant directory: this test has lost its reason")
	d := open(t, image)
	disktest.Conform(t, d, disk)
	require.Contains(t, texts(d), "it names no table")
}

// TestRedundantTablesAreCompared holds that a copy that cannot be right is told
// of, and that nothing is read where only one of the two can be, and nobody
// knows which. In an image that was not closed a grain that only one of them
// has was being allocated.
func TestRedundantTablesAreCompared(t *testing.T) {
	unclean := func(m *imagetest.VMDKImage) { m.Bytes[imagetest.VMDKUncleanShutdown] = 1 }
	for name, c := range map[string]struct {
		change func(m *imagetest.VMDKImage)
		field  string // of what is refused; "": it is noted
	}{
		"a grain beyond the end":            {func(m *imagetest.VMDKImage) { m.Put32(m.RGTs[2], 1<<31) }, ""},
		"no table":                          {func(m *imagetest.VMDKImage) { m.Put32(m.RGD, 0) }, ""},
		"a table beyond the end":            {func(m *imagetest.VMDKImage) { m.Put32(m.RGD, 1<<31) }, ""},
		"a directory beyond the end":        {func(m *imagetest.VMDKImage) { m.Put64(imagetest.VMDKRGDOffset, 1<<40) }, ""},
		"no grain in the copy, not closed":  {func(m *imagetest.VMDKImage) { unclean(m); m.Put32(m.RGTs[2], 0) }, ""},
		"another grain":                     {func(m *imagetest.VMDKImage) { m.Put32(m.RGTs[0], m.Get32(m.RGTs[0]+4)) }, "redundant grain table 0: entry 0"},
		"another grain, not closed":         {func(m *imagetest.VMDKImage) { unclean(m); m.Put32(m.RGTs[0], m.Get32(m.RGTs[0]+4)) }, "redundant grain table 0: entry 0"},
		"no grain in the copy":              {func(m *imagetest.VMDKImage) { m.Put32(m.RGTs[2], 0) }, "redundant grain table 2: entry 0"},
		"no grain":                          {func(m *imagetest.VMDKImage) { m.Put32(m.GTs[2], 0) }, "redundant grain table 2: entry 0"},
		"a damaged table where there is no": {func(m *imagetest.VMDKImage) { m.Put32(m.RGTs[1], 1<<31); m.Put32(m.GD+4, 0) }, "redundant grain table 1: entry 0"},
		"a table beyond the end or none":    {func(m *imagetest.VMDKImage) { m.Put32(m.RGD, 1<<31); m.Put32(m.GD, 0) }, "redundant grain directory: entry 0"},
	} {
		t.Run(name, func(t *testing.T) {
			m := twoTables().Build()
			c.change(m)
			d := openBytes(t, m.Bytes, vmdk.Options{})
			err := d.CheckMap()
			if c.field != "" {
				require.ErrorContains(t, err, c.field)
				r, _, err := check(t, m.Bytes, vmdk.CheckOptions{})
				require.NoError(t, err)
				require.Positive(t, r.Corruptions)
				return
			}
			require.NoError(t, err)
			require.Contains(t, texts(d), "redundant")
			disktest.Conform(t, d, m.Guest)
		})
	}
}

// TestMapRules has what is wrong with tables; both copies say the same. Where
// reading can tell, ReadAt and NextExtent refuse what CheckMap refuses.
func TestMapRules(t *testing.T) {
	const corrupt, truncated = diskimage.ErrCorrupt, diskimage.ErrTruncated
	for _, c := range []struct {
		name   string
		v      imagetest.VMDK
		change func(m *imagetest.VMDKImage)
		kind   diskimage.ErrorKind
		field  string
		reads  bool // without an error
	}{
		{"a table beyond the end", twoTables(), func(m *imagetest.VMDKImage) { m.Put32(m.GD, 1<<31); m.Put32(m.RGD, 1<<31) }, truncated, "grain directory: entry 0", false},
		{"a table in the header", twoTables(), func(m *imagetest.VMDKImage) { m.Put32(m.GD, 1); m.Put32(m.RGD, 1) }, corrupt, "grain directory: entry 0", false},
		{"a table twice", twoTables(), func(m *imagetest.VMDKImage) {
			m.Put32(m.GD, uint32(m.GTs[1]/512))
			m.Put32(m.RGD, uint32(m.GTs[1]/512))
		}, corrupt, "grain directory: entry 1", true},
		{"a grain beyond the end", twoTables(), func(m *imagetest.VMDKImage) { m.SetGTE(1, 1<<31) }, truncated, "grain table 0: entry 1", false},
		{"a grain cut off", twoTables(), func(m *imagetest.VMDKImage) { m.SetGTE(1, uint32(len(m.Bytes)/512-1)) }, truncated, "grain table 0: entry 1", false},
		{"a grain in the metadata", twoTables(), func(m *imagetest.VMDKImage) { m.SetGTE(1, uint32(m.GTs[0]/512)) }, corrupt, "grain table 0: entry 1", false},
		{"a grain in a redundant table", twoTables(), func(m *imagetest.VMDKImage) { m.Put64(imagetest.VMDKOverHead, 0); m.SetGTE(1, 24) }, corrupt, "grain table 0: entry 1", true},
		{"a grain of zeros that may not be", twoTables(), func(m *imagetest.VMDKImage) { m.SetGTE(1, 1) }, corrupt, "grain table 0: entry 1", false},
		{"a grain twice", twoTables(), func(m *imagetest.VMDKImage) { m.SetGTE(1024, m.Get32(m.GTE(0))) }, corrupt, "grain table 2: entry 0", true},
		{"two grains in part", twoTables(), func(m *imagetest.VMDKImage) { m.SetGTE(1024, m.Get32(m.GTE(0))+1) }, corrupt, "grain table 2: entry 0", true},
		{"a compressed grain in the grain table", exportedShape(), func(m *imagetest.VMDKImage) { m.Put32(m.GTE(1), uint32(m.GTs[0]/512)) }, corrupt, "grain table 0: entry 1", true},
		{"a grain in the footer", exportedShape(), func(m *imagetest.VMDKImage) { m.Put32(m.GTE(1), uint32(m.Footer/512)) }, corrupt, "grain table 0: entry 1", false},
		{"a compressed grain twice", exportedShape(), func(m *imagetest.VMDKImage) { m.Put32(m.GTE(1), m.Get32(m.GTE(0))) }, corrupt, "grain table 0: entry 1", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := c.v.Build()
			c.change(m)
			d := openBytes(t, m.Bytes, vmdk.Options{})
			err := d.CheckMap()
			require.ErrorIs(t, err, c.kind)
			var e *diskimage.Error
			require.ErrorAs(t, err, &e)
			require.Equal(t, c.field, e.Field)
			_, err = d.ReadAt(make([]byte, d.Size()), 0)
			if c.reads && c.v.Dialect == imagetest.Sparse {
				require.NoError(t, err)
				return
			}
			require.Error(t, err)

			lost := int64(0)
			d = openBytes(t, m.Bytes, vmdk.Options{Salvage: true})
			for e, err := range diskimage.Extents(d, 0, d.Size()) {
				require.NoError(t, err)
				p := make([]byte, e.Len)
				if _, err := d.ReadAt(p, e.Off); err != nil {
					lost += e.Len
				} else if e.Off != 4096 { // what is there of one that was cut off
					require.True(t, bytes.Equal(m.Guest[e.Off:e.End()], p), "%+v", e)
				}
			}
			require.NotZero(t, lost)
		})
	}
}

// TestPlaceRules has what CheckMap refuses although all of it can be read:
// tables and grains that cannot be where they are said to be. Check finds it too.
func TestPlaceRules(t *testing.T) {
	lone := imagetest.VMDK{Grain: 8, NoRGD: true, Sectors: 5, Grains: []imagetest.Grain{{Kind: imagetest.Plain, Data: noisy(4096, 1)}}}
	for _, c := range []struct {
		name   string
		v      imagetest.VMDK
		change func(m *imagetest.VMDKImage)
		field  string
		off    func(m *imagetest.VMDKImage) int64
	}{
		{"a grain that is not aligned", lone, func(m *imagetest.VMDKImage) { m.SetGTE(0, m.Get32(m.GTE(0))+1) }, "grain table 0: entry 0", func(m *imagetest.VMDKImage) int64 { return m.GTs[0] }},
		{"entries that no table has", lone, func(m *imagetest.VMDKImage) { m.Put32(m.GD, uint32(m.GTs[0]/512+1)) }, "metadata", func(m *imagetest.VMDKImage) int64 { return m.GTs[0] }},
		{"a table without its marker", exportedShape(), func(m *imagetest.VMDKImage) { m.Put32(m.GTs[0]-512+12, 2) }, "grain table 0 marker", func(m *imagetest.VMDKImage) int64 { return m.GTs[0] - 512 }},
		{"a table with the marker of a grain", exportedShape(), func(m *imagetest.VMDKImage) { m.Put32(m.GTs[0]-512+8, 100) }, "grain table 0 marker", func(m *imagetest.VMDKImage) int64 { return m.GTs[0] - 512 }},
		{"a table of another length", exportedShape(), func(m *imagetest.VMDKImage) { m.Put64(m.GTs[0]-512, 5) }, "grain table 0 marker: val", func(m *imagetest.VMDKImage) int64 { return m.GTs[0] - 512 }},
		{"a directory without its marker", exportedShape(), func(m *imagetest.VMDKImage) { m.Put32(m.GD-512+12, 1) }, "grain directory marker", func(m *imagetest.VMDKImage) int64 { return m.GD - 512 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := c.v.Build()
			require.NoError(t, openBytes(t, m.Bytes, vmdk.Options{}).CheckMap())
			c.change(m)
			d := openBytes(t, m.Bytes, vmdk.Options{})
			_, err := d.ReadAt(make([]byte, d.Size()), 0)
			require.NoError(t, err)
			err = d.CheckMap()
			require.ErrorIs(t, err, diskimage.ErrCorrupt)
			var e *diskimage.Error
			require.ErrorAs(t, err, &e)
			require.Equal(t, c.field, e.Field)
			require.Equal(t, c.off(m), e.Off)
			r, _, err := check(t, m.Bytes, vmdk.CheckOptions{})
			require.NoError(t, err)
			require.Positive(t, r.Corruptions)
		})
	}
}

func exportedShape() imagetest.VMDK {
	v := imagetest.VMDK{Dialect: imagetest.Exported, Grain: 16}
	for i := range 4 {
		v.Grains = append(v.Grains, imagetest.Grain{Kind: imagetest.Plain, Data: noisy(8000, uint64(i))})
	}
	return v
}

// TestRunsEndAtMetadata has a run of grains that goes on into the grain
// directory, which lies behind them: it is read up to there, whole or in parts.
func TestRunsEndAtMetadata(t *testing.T) {
	v := imagetest.VMDK{Grain: 8, NoRGD: true, Grains: make([]imagetest.Grain, 4)}
	for i := range v.Grains {
		v.Grains[i] = imagetest.Grain{Kind: imagetest.Plain, Data: noisy(4096, uint64(i))}
	}
	m := v.Build()
	last := m.Data[3] // the directory moves to the last sector of the last grain
	copy(m.Bytes[last+7*512:], m.Bytes[m.GD:][:512])
	m.Put64(imagetest.VMDKGDOffset, uint64(last/512+7))
	d := openBytes(t, m.Bytes, vmdk.Options{})
	require.ErrorIs(t, d.CheckMap(), diskimage.ErrCorrupt)
	p := make([]byte, 4*4096)
	n, err := d.ReadAt(p, 0)
	require.ErrorIs(t, err, diskimage.ErrCorrupt)
	require.Equal(t, 3*4096, n)
	require.True(t, bytes.Equal(m.Guest[:n], p[:n]))
	_, err = d.NextExtent(3*4096 + 1)
	require.ErrorIs(t, err, diskimage.ErrCorrupt)
}

// TestGrainRules has what is wrong with a compressed grain: reading tells.
func TestGrainRules(t *testing.T) {
	const corrupt, truncated = diskimage.ErrCorrupt, diskimage.ErrTruncated
	sized := func(n int) []byte { return imagetest.Zlib(noisy(n, 5)) }
	other := func() []byte {
		s := sized(8192)
		binary.BigEndian.PutUint32(s[len(s)-4:], adler32.Checksum(nil))
		return s
	}()
	cutSum := sized(8192)
	cutSum = cutSum[:len(cutSum)-4]
	for _, c := range []struct {
		name   string
		stream []byte
		change func(m *imagetest.VMDKImage)
		kind   diskimage.ErrorKind // "": sound
		text   string
	}{
		{name: "sound", stream: sized(8192)},
		{"another checksum", other, nil, corrupt, "checksum"},
		{"too short", sized(8191), nil, corrupt, "fewer bytes"},
		{"too long", sized(8193), nil, corrupt, "more bytes"},
		{"nothing behind the stream", cutSum, nil, corrupt, "checksum is missing"},
		{"more behind the stream", append(sized(8192), 0), nil, corrupt, "none of the stream's"},
		{"cut", sized(8192)[:4000], nil, corrupt, "unexpected EOF"},
		{"no zlib header", append([]byte{0x79}, sized(8192)[1:]...), nil, corrupt, "zlib"},
		{"a preset dictionary", append([]byte{0x78, 0xbb}, sized(8192)[2:]...), nil, corrupt, "zlib"},
		{"size 1", nil, func(m *imagetest.VMDKImage) { m.Put32(m.Data[1]+8, 1) }, corrupt, "size 1 "},
		{"size 2^32-1", nil, func(m *imagetest.VMDKImage) { m.Put32(m.Data[1]+8, 1<<32-1) }, corrupt, "size 4294967295"},
		{"another's marker", nil, func(m *imagetest.VMDKImage) { m.Put64(m.Data[1], 17) }, corrupt, "guest sector 0x11, not 0x10"},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := exportedShape()
			v.Grains[1].Stream = c.stream
			m := v.Build()
			if c.change != nil {
				c.change(m)
			}
			d := openBytes(t, m.Bytes, vmdk.Options{})
			require.NoError(t, d.CheckMap())
			p := make([]byte, 100)
			n, err := d.ReadAt(p, 8192-50)
			e, extentErr := d.NextExtent(8192)
			require.NoError(t, extentErr)
			require.Equal(t, diskimage.Extent{Off: 8192, Len: 8192, Stored: diskimage.Deflate, Host: m.Data[1]}, e)
			if c.kind == "" {
				require.NoError(t, err)
				return
			}
			require.Equal(t, 50, n)
			require.ErrorIs(t, err, c.kind)
			require.ErrorContains(t, err, "guest offset 0x2000")
			require.ErrorContains(t, err, c.text)
		})
	}
	t.Run("the file ends in it", func(t *testing.T) {
		v := exportedShape()
		v.Dialect = imagetest.FrontIndex
		m := v.Build()
		for _, cut := range []int64{512, 20, 19, 18} {
			file := m.Bytes[:m.Data[3]+cut]
			d := openBytes(t, file, vmdk.Options{})
			_, err := d.ReadAt(make([]byte, 1), 3*8192)
			require.ErrorIs(t, err, truncated)
			require.ErrorContains(t, err, "guest offset 0x6000")
		}
	})
}

// TestGrainsWithoutMarkers: nobody is known to write them; the specification
// has a flag for it.
func TestGrainsWithoutMarkers(t *testing.T) {
	v := exportedShape()
	v.Dialect = imagetest.FrontIndex
	m := v.Build()
	m.Put32(imagetest.VMDKFlags, m.Get32(imagetest.VMDKFlags)&^(1<<17))
	for _, off := range m.Data {
		n := copy(m.Bytes[off:], m.Bytes[off+12:][:m.Get32(off+8)])
		clear(m.Bytes[off+int64(n):][:12])
	}
	d := openBytes(t, m.Bytes, vmdk.Options{})
	require.NoError(t, d.CheckMap())
	disktest.Conform(t, d, m.Guest)
}

func TestUncleanShutdownIsNoted(t *testing.T) {
	m := twoTables().Build()
	m.Bytes[imagetest.VMDKUncleanShutdown] = 1
	d := openBytes(t, m.Bytes, vmdk.Options{})
	require.Contains(t, texts(d), "not closed properly")
	disktest.Conform(t, d, m.Guest)
}
