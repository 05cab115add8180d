package vmdk_test

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"testing/iotest"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/internal/disktest"
	"github.com/diskimage-go/diskimage/internal/imagetest"
	"github.com/diskimage-go/diskimage/vmdk"
	"github.com/stretchr/testify/require"
)

// smallStream returns a stream with grains in two tables.
func smallStream(d imagetest.Dialect) imagetest.VMDK {
	v := imagetest.VMDK{Dialect: d, Grain: 8, Grains: make([]imagetest.Grain, 600)}
	for _, i := range []int{0, 1, 5, 511, 512, 599} {
		v.Grains[i] = imagetest.Grain{Kind: imagetest.Plain, Data: bytes.Repeat([]byte{byte(i), 7}, 100)}
	}
	return v
}

// TestStreamRules: each rule of the format has an image that breaks it.
func TestStreamRules(t *testing.T) {
	disktest.Alone(t)
	const (
		exported = imagetest.Exported
		front    = imagetest.FrontIndex
	)
	eos := func(m *imagetest.VMDKImage) int64 { return int64(len(m.Bytes)) - 512 }
	gdMarker := func(m *imagetest.VMDKImage) int64 { return m.GD - 512 }
	insert := func(m *imagetest.VMDKImage, at int64, p []byte) {
		m.Bytes = append(append(append([]byte(nil), m.Bytes[:at]...), p...), m.Bytes[at:]...)
	}
	for name, tt := range map[string]struct {
		dialect imagetest.Dialect
		break_  func(m *imagetest.VMDKImage)
		kind    diskimage.ErrorKind
		says    string
	}{
		"no grain but a marker of no kind": {exported, func(m *imagetest.VMDKImage) { m.Put32(gdMarker(m)+12, 4) }, diskimage.ErrCorrupt, "marker: type"},
		"V33 size":                         {exported, func(m *imagetest.VMDKImage) { m.Put32(m.Data[1]+8, 0xffffffff) }, diskimage.ErrCorrupt, "grain marker: size"},
		"size over the limit":              {front, func(m *imagetest.VMDKImage) { m.Put32(m.Data[1]+8, 8192) }, diskimage.ErrCorrupt, "grain marker: size"},
		"val inside of a grain":            {exported, func(m *imagetest.VMDKImage) { m.Put64(m.Data[1], 9) }, diskimage.ErrCorrupt, "starts no grain"},
		"val beyond the disk":              {exported, func(m *imagetest.VMDKImage) { m.Put64(m.Data[1], 4800) }, diskimage.ErrCorrupt, "beyond the disk"},
		"val of 2^64-1":                    {exported, func(m *imagetest.VMDKImage) { m.Put64(m.Data[1], 1<<64-8) }, diskimage.ErrCorrupt, "beyond the disk"},
		"a grain twice":                    {exported, func(m *imagetest.VMDKImage) { m.Put64(m.Data[1], 0) }, diskimage.ErrCorrupt, "was in the stream before"},
		"V37 a grain that comes too late":  {exported, func(m *imagetest.VMDKImage) { m.Put64(m.Data[5], 0) }, diskimage.ErrUnsupported, "out of order"},
		"a grain elsewhere":                {exported, func(m *imagetest.VMDKImage) { m.Put64(m.Data[5], 6*8) }, diskimage.ErrCorrupt, "grain directory: entry 0"},
		"a grain elsewhere, front":         {front, func(m *imagetest.VMDKImage) { m.Put64(m.Data[5], 6*8) }, diskimage.ErrCorrupt, "grain table 0"},
		"no zlib stream":                   {exported, func(m *imagetest.VMDKImage) { m.Bytes[m.Data[1]+12]++ }, diskimage.ErrCorrupt, "does not start a zlib stream"},
		"a dictionary":                     {exported, func(m *imagetest.VMDKImage) { copy(m.Bytes[m.Data[1]+12:], "\x78\x20") }, diskimage.ErrCorrupt, "does not start a zlib stream"},
		"a stream of one byte":             {exported, func(m *imagetest.VMDKImage) { m.Put32(m.Data[1]+8, 1) }, diskimage.ErrCorrupt, "grain marker: size"},

		"a table's length":         {exported, func(m *imagetest.VMDKImage) { m.Put64(m.GTs[0]-512, 5) }, diskimage.ErrCorrupt, "grain table marker: val"},
		"a table's length of 2^64": {exported, func(m *imagetest.VMDKImage) { m.Put64(m.GTs[0]-512, 1<<64-1) }, diskimage.ErrCorrupt, "grain table marker: val"},
		"a directory of nothing":   {exported, func(m *imagetest.VMDKImage) { m.Put64(gdMarker(m), 0) }, diskimage.ErrCorrupt, "grain directory marker: val"},
		"a directory too long":     {exported, func(m *imagetest.VMDKImage) { m.Put64(gdMarker(m), 1<<20) }, diskimage.ErrCorrupt, "grain directory marker: val"},
		"an entry too few":         {exported, func(m *imagetest.VMDKImage) { m.SetGTE(5, 0) }, diskimage.ErrCorrupt, "grain directory: entry 0"},
		"an entry too many":        {exported, func(m *imagetest.VMDKImage) { m.SetGTE(6, 128) }, diskimage.ErrCorrupt, "grain directory: entry 0"},
		"an entry of 1":            {exported, func(m *imagetest.VMDKImage) { m.SetGTE(6, 1) }, diskimage.ErrCorrupt, "grain directory: entry 0"},
		"entries exchanged": {exported, func(m *imagetest.VMDKImage) {
			a, b := m.Get32(m.GTE(0)), m.Get32(m.GTE(1))
			m.SetGTE(0, b)
			m.SetGTE(1, a)
		}, diskimage.ErrCorrupt, "grain directory: entry 0"},
		"a table that the directory leaves out": {exported, func(m *imagetest.VMDKImage) { m.Put32(m.GD+4, 0) }, diskimage.ErrCorrupt, "grain directory: entry 1"},
		"a table that is elsewhere":             {exported, func(m *imagetest.VMDKImage) { m.Put32(m.GD+4, m.Get32(m.GD+4)+1) }, diskimage.ErrCorrupt, "no grain table at sector"},
		"tables exchanged": {exported, func(m *imagetest.VMDKImage) {
			a, b := m.Get32(m.GD), m.Get32(m.GD+4)
			m.Put32(m.GD, b)
			m.Put32(m.GD+4, a)
		}, diskimage.ErrCorrupt, "grain directory: entry 0"},
		"a grain after the directory": {exported, func(m *imagetest.VMDKImage) {
			grain := bytes.Clone(m.Bytes[m.Data[599]:][:512])
			insert(m, m.Footer-512, grain)
		}, diskimage.ErrCorrupt, "after the grain directory"},

		"V29 footer cut off":                    {exported, func(m *imagetest.VMDKImage) { m.Bytes = m.Bytes[:m.Footer-512] }, diskimage.ErrTruncated, "the stream ends here"},
		"V30 no footer":                         {exported, func(m *imagetest.VMDKImage) { clear(m.Bytes[m.Footer-512 : m.Footer]) }, diskimage.ErrTruncated, "footer"},
		"no end-of-stream marker":               {exported, func(m *imagetest.VMDKImage) { m.Bytes = m.Bytes[:eos(m)] }, diskimage.ErrTruncated, "footer"},
		"another marker at the end":             {exported, func(m *imagetest.VMDKImage) { m.Put32(eos(m)+12, 1) }, diskimage.ErrTruncated, "footer"},
		"V31 another capacity":                  {exported, func(m *imagetest.VMDKImage) { m.Put64(m.Footer+imagetest.VMDKCapacity, 4000) }, diskimage.ErrCorrupt, "footer: capacity"},
		"a footer of nothing":                   {exported, func(m *imagetest.VMDKImage) { clear(m.Bytes[m.Footer : m.Footer+512]) }, diskimage.ErrCorrupt, "footer"},
		"a footer that names another directory": {exported, func(m *imagetest.VMDKImage) { m.Put64(m.Footer+imagetest.VMDKGDOffset, 1) }, diskimage.ErrCorrupt, "footer: gdOffset"},
		"no directory": {exported, func(m *imagetest.VMDKImage) {
			m.Put32(gdMarker(m)+12, 1)
			m.Put64(gdMarker(m), 4)
			insert(m, m.GD+512, make([]byte, 3*512))
		}, diskimage.ErrCorrupt, "footer: gdOffset"},

		"an entry too few, front":   {front, func(m *imagetest.VMDKImage) { m.SetGTE(5, 0) }, diskimage.ErrCorrupt, "grain table 0"},
		"an entry too many, front":  {front, func(m *imagetest.VMDKImage) { m.SetGTE(599-1, 40) }, diskimage.ErrCorrupt, "grain table 1"},
		"no table, front":           {front, func(m *imagetest.VMDKImage) { m.Put32(m.GD+4, 0) }, diskimage.ErrCorrupt, "grain table 1"},
		"two of one table, front":   {front, func(m *imagetest.VMDKImage) { m.Put32(m.GD+4, m.Get32(m.GD)) }, diskimage.ErrUnsupported, "overlap"},
		"a table among the grains":  {front, func(m *imagetest.VMDKImage) { m.Put32(m.GD+4, uint32(m.Data[1]/512)) }, diskimage.ErrUnsupported, "--spool"},
		"a directory in the header": {front, func(m *imagetest.VMDKImage) { m.Put64(imagetest.VMDKGDOffset, 0) }, diskimage.ErrUnsupported, "--spool"},
		"a directory far away":      {front, func(m *imagetest.VMDKImage) { m.Put64(imagetest.VMDKGDOffset, 1<<62) }, diskimage.ErrUnsupported, "--spool"},
		"zeros before the end":      {front, func(m *imagetest.VMDKImage) { clear(m.Bytes[m.Data[5]:]) }, diskimage.ErrCorrupt, "grain table 0"},
		"an end that has a length":  {front, func(m *imagetest.VMDKImage) { m.Put64(eos(m), 1) }, diskimage.ErrCorrupt, "end-of-stream marker: val"},

		"V04 a grain of 7 sectors": {exported, func(m *imagetest.VMDKImage) { m.Put64(imagetest.VMDKGrainSize, 7) }, diskimage.ErrCorrupt, "grainSize"},
		"V02 capacity":             {exported, func(m *imagetest.VMDKImage) { m.Put64(imagetest.VMDKCapacity, 1<<63) }, diskimage.ErrCorrupt, "capacity"},
		"V11 sent as text":         {exported, func(m *imagetest.VMDKImage) { m.Bytes[imagetest.VMDKNewlines+2] = '\n' }, diskimage.ErrCorrupt, "text mode"},
		"V13 version":              {exported, func(m *imagetest.VMDKImage) { m.Put32(imagetest.VMDKVersion, 4) }, diskimage.ErrUnsupported, "version"},
		"V36 algorithm":            {exported, func(m *imagetest.VMDKImage) { m.Bytes[imagetest.VMDKCompressAlgorithm] = 9 }, diskimage.ErrUnsupported, "compressAlgorithm"},
		"metadata without an end":  {exported, func(m *imagetest.VMDKImage) { m.Put64(imagetest.VMDKOverHead, 1<<40) }, diskimage.ErrTruncated, "metadata"},
		"metadata of 2^64 sectors": {exported, func(m *imagetest.VMDKImage) { m.Put64(imagetest.VMDKOverHead, 1<<64-1) }, diskimage.ErrTruncated, "overHead"},
		"a descriptor far away":    {exported, func(m *imagetest.VMDKImage) { m.Put64(imagetest.VMDKDescriptorOffset, 1<<64-1) }, diskimage.ErrTruncated, "descriptorOffset"},
		"a descriptor of nothing":  {exported, func(m *imagetest.VMDKImage) { clear(m.Bytes[512:1024]) }, diskimage.ErrCorrupt, "descriptor"},
		"no markers":               {exported, func(m *imagetest.VMDKImage) { m.Put32(imagetest.VMDKFlags, 1<<16) }, diskimage.ErrUnsupported, "--spool"},
	} {
		t.Run(name, func(t *testing.T) {
			m := smallStream(tt.dialect).Build()
			got, err := readStream(t, bytes.NewReader(m.Bytes), false)
			require.NoError(t, err)
			require.True(t, bytes.Equal(m.Guest, got))
			tt.break_(m)
			_, err = readStream(t, bytes.NewReader(m.Bytes), false)
			require.ErrorIs(t, err, tt.kind, "%v", err)
			require.ErrorContains(t, err, tt.says)
			if !errors.Is(err, diskimage.ErrUnsupported) {
				_, err = readStream(t, bytes.NewReader(m.Bytes), true)
				require.ErrorIs(t, err, tt.kind, "in any order: %v", err)
			}
		})
	}
}

// TestStreamDescriptors: what the descriptor says of other files is refused.
func TestStreamDescriptors(t *testing.T) {
	for name, tt := range map[string]struct {
		text imagetest.VMDKText
		kind diskimage.ErrorKind
	}{
		"V27 a parent":       {imagetest.VMDKText{ParentCID: "12345678", ParentHint: "/etc/passwd"}, diskimage.ErrExternal},
		"two extents":        {imagetest.VMDKText{Extents: []string{`RW 4800 SPARSE "disk.vmdk"`, `RW 8 SPARSE "other.vmdk"`}}, diskimage.ErrUnsupported},
		"a flat one":         {imagetest.VMDKText{Extents: []string{`RW 4800 FLAT "disk.vmdk" 0`}}, diskimage.ErrUnsupported},
		"another size":       {imagetest.VMDKText{Extents: []string{`RW 4808 SPARSE "disk.vmdk"`}}, diskimage.ErrCorrupt},
		"a disk on a device": {imagetest.VMDKText{CreateType: "fullDevice", Extents: []string{`RW 4800 SPARSE "disk.vmdk"`}}, diskimage.ErrUnsupported},
		"encrypted":          {imagetest.VMDKText{Head: "encryptionKeys=\"x\"\n", Extents: []string{`RW 4800 SPARSE "disk.vmdk"`}}, diskimage.ErrEncrypted},
	} {
		v := smallStream(imagetest.Exported)
		v.Text = tt.text
		_, err := vmdk.NewStream(bytes.NewReader(v.Build().Bytes), vmdk.StreamOptions{})
		require.ErrorIs(t, err, tt.kind, name)
	}

	v := smallStream(imagetest.Exported)
	v.Descriptor = "-"
	_, err := vmdk.NewStream(bytes.NewReader(v.Build().Bytes), vmdk.StreamOptions{})
	require.ErrorIs(t, err, diskimage.ErrUnsupported, "without one")
}

// TestStreamRefuses: what is no stream says what it is, and what to do.
func TestStreamRefuses(t *testing.T) {
	for name, tt := range map[string]struct {
		image []byte
		kind  diskimage.ErrorKind
		says  string
	}{
		"nothing":    {nil, diskimage.ErrFormat, "not a hosted sparse extent"},
		"magic":      {[]byte("KDMV"), diskimage.ErrTruncated, "header"},
		"another":    {bytes.Repeat([]byte("QFI\xfb"), 200), diskimage.ErrFormat, "not a hosted sparse extent"},
		"descriptor": {[]byte(imagetest.VMDKText{}.String()), diskimage.ErrUnsupported, "give its name"},
		"COWD":       {append([]byte("COWD"), make([]byte, 2048)...), diskimage.ErrUnsupported, "--spool"},
		"SESparse":   {append([]byte("\xbe\xba\xfe\xca"), make([]byte, 2048)...), diskimage.ErrUnsupported, "--spool"},
		"hosted":     {imagetest.VMDK{Grains: make([]imagetest.Grain, 4)}.Build().Bytes, diskimage.ErrUnsupported, "--spool"},
	} {
		_, err := vmdk.NewStream(bytes.NewReader(tt.image), vmdk.StreamOptions{})
		require.ErrorIs(t, err, tt.kind, name)
		require.ErrorContains(t, err, tt.says, name)
	}

	// An error of the reader is no end.
	broken := errors.New("broken pipe")
	m := smallStream(imagetest.FrontIndex).Build()
	for _, n := range []int64{0, 100, 512, 2000, m.GTs[0] + 5, m.Data[0], m.Data[5] + 20, int64(len(m.Bytes)) - 512, int64(len(m.Bytes))} {
		_, err := readStream(t, io.MultiReader(bytes.NewReader(m.Bytes[:n]), iotest.ErrReader(broken)), false)
		require.ErrorIs(t, err, broken, "at %d", n)
		require.False(t, errors.Is(err, diskimage.ErrTruncated))
	}
}

// TestStreamNotes: what follows the end is said, but for what QEMU fills its
// files up with.
func TestStreamNotes(t *testing.T) {
	for _, tt := range []struct {
		dialect imagetest.Dialect
		more    []byte
		note    bool
	}{
		{imagetest.Exported, nil, false},
		{imagetest.Exported, make([]byte, 700), true},
		{imagetest.Exported, []byte("x"), true},
		{imagetest.FrontIndex, make([]byte, 3<<20), false},
		{imagetest.FrontIndex, append(make([]byte, 3<<20), 'x'), true},
		{imagetest.QEMUStream, make([]byte, 700), false},
	} {
		m := smallStream(tt.dialect).Build()
		m.Bytes[imagetest.VMDKUncleanShutdown] = 1
		if m.Footer > 0 {
			m.Bytes[m.Footer+imagetest.VMDKUncleanShutdown] = 1
		}
		before := diskimage.Note{Text: "known"}
		s, err := vmdk.NewStream(bytes.NewReader(append(m.Bytes, tt.more...)), vmdk.StreamOptions{Notes: []diskimage.Note{before}})
		require.NoError(t, err)
		got, err := drain(t, s, false)
		require.NoError(t, err)
		require.True(t, bytes.Equal(m.Guest, got))
		notes := s.Notes()
		require.Equal(t, before, notes[0])
		require.Contains(t, notes[1].Text, "not closed properly")
		if tt.note {
			require.Len(t, notes, 3)
			require.Contains(t, notes[2].Text, "bytes follow the end")
		} else {
			require.Len(t, notes, 2)
		}
	}
}

// TestFollowsEnd: what may follow a stream's end, and what may not, is the same
// for a pipe and for a file.
func TestFollowsEnd(t *testing.T) {
	for _, tt := range []struct {
		more []byte
		ok   bool
	}{
		{nil, true}, {[]byte("x"), true}, {bytes.Repeat([]byte("x"), 511), true}, {make([]byte, 512), true}, {make([]byte, 700), true}, {make([]byte, 1<<20), true},
		{bytes.Repeat([]byte("x"), 512), false}, {append(make([]byte, 512), 'x'), false}, {append([]byte("x"), make([]byte, 600)...), false}, {make([]byte, 1<<20+512), false},
	} {
		m := smallStream(imagetest.Exported).Build()
		file := append(m.Bytes, tt.more...)
		s, err := vmdk.NewStream(bytes.NewReader(file), vmdk.StreamOptions{})
		require.NoError(t, err)
		_, streamErr := drain(t, s, false)
		d, err := vmdk.Open(t.Context(), imagetest.Source(file), vmdk.Options{})
		res, checkErr := vmdk.Check(t.Context(), imagetest.Source(file), vmdk.CheckOptions{})
		if !tt.ok {
			require.ErrorIs(t, streamErr, diskimage.ErrTruncated, len(tt.more))
			require.ErrorIs(t, err, diskimage.ErrTruncated, len(tt.more))
			require.ErrorIs(t, checkErr, diskimage.ErrTruncated, len(tt.more))
			continue
		}
		require.NoError(t, streamErr)
		require.NoError(t, err)
		require.NoError(t, checkErr)
		require.Zero(t, res.Corruptions+res.CheckErrors)
		require.Equal(t, s.Notes(), d.Notes(), "%d bytes", len(tt.more))
		require.Equal(t, len(tt.more) > 0, len(d.Notes()) > 0)
		require.NoError(t, d.CheckMap())
		got := make([]byte, d.Size())
		_, err = d.ReadAt(got, 0)
		require.NoError(t, err)
		require.True(t, bytes.Equal(m.Guest, got))
	}
}

// TestStreamLastGrain: the grain that goes beyond the disk may hold all its
// bytes or those inside, no others.
func TestStreamLastGrain(t *testing.T) {
	data := bytes.Repeat([]byte("data of the last grain. "), 200)[:4096]
	bad := imagetest.Zlib(data)
	bad[len(bad)-1]++
	for name, tt := range map[string]struct {
		stream []byte
		ok     bool
	}{
		"whole":          {imagetest.Zlib(data), true},
		"inside":         {imagetest.Zlib(data[:1024]), true},
		"between":        {imagetest.Zlib(data[:2048]), false},
		"too few":        {imagetest.Zlib(data[:512]), false},
		"too many":       {imagetest.Zlib(append(data, 0)), false},
		"checksum":       {bad, false},
		"no checksum":    {imagetest.Zlib(data)[:len(imagetest.Zlib(data))-4], false},
		"after checksum": {append(imagetest.Zlib(data), 0), false},
	} {
		m := imagetest.VMDK{Dialect: imagetest.Exported, Grain: 8, Sectors: 10, Grains: []imagetest.Grain{
			{Kind: imagetest.Plain, Data: data}, {Kind: imagetest.Plain, Data: data, Stream: tt.stream},
		}}.Build()
		got, err := readStream(t, bytes.NewReader(m.Bytes), false)
		if !tt.ok {
			require.ErrorIs(t, err, diskimage.ErrCorrupt, name)
			require.ErrorContains(t, err, "grain 1", name)
			continue
		}
		require.NoError(t, err, name)
		require.True(t, bytes.Equal(m.Guest, got), name)
	}
}
