package convert

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/internal/imagetest"
	"github.com/diskimage-go/diskimage/qcow2"
	"github.com/stretchr/testify/require"
)

// file returns a source of size bytes, zeros but for what is put into it:
// pairs of an offset (negative: from the end) and a string.
func file(size int, put ...any) []byte {
	p := make([]byte, size)
	for i := 0; i < len(put); i += 2 {
		off := put[i].(int)
		if off < 0 {
			off += size
		}
		copy(p[off:], put[i+1].(string))
	}
	return p
}

func source(p []byte) diskimage.Source {
	return diskimage.NewSource(bytes.NewReader(p), int64(len(p)))
}

// vhdFooter returns a footer of n bytes with its checksum.
func vhdFooter(n int) string {
	p := file(n, 0, "conectix\x00\x00\x00\x02\x00\x01\x00\x00")
	var sum uint32
	for _, b := range p {
		sum += uint32(b)
	}
	binary.BigEndian.PutUint32(p[64:], ^sum)
	return string(p)
}

const (
	qcow2Head = "QFI\xfb\x00\x00\x00\x03"
	isoHead   = "\x01CD001\x01"
)

func TestDetectOurs(t *testing.T) {
	mbr := "\xeb\x63\x90"
	for name, tc := range map[string]struct {
		file []byte
		want Format
	}{
		"qcow2":                          {file(65536, 0, qcow2Head), QCOW2},
		"qcow2, the magic alone":         {file(4, 0, qcow2Head), QCOW2},
		"vmdk, hosted sparse":            {file(65536, 0, "KDMV\x01"), VMDK},
		"vmdk, ESX sparse":               {file(65536, 0, "COWD\x01"), VMDK},
		"vmdk, seSparse":                 {file(65536, 0, "\xbe\xba\xfe\xca\x00\x00\x00\x00"), VMDK},
		"vmdk, descriptor":               {[]byte("# Disk DescriptorFile\nversion=1\nCID=fffffffe\n"), VMDK},
		"vmdk, descriptor with CRLF":     {[]byte("# Disk DescriptorFile\r\nversion=1\r\n"), VMDK},
		"vmdk, descriptor with BOM":      {[]byte("\xef\xbb\xbf# Disk DescriptorFile\r\nversion=1\r\n"), VMDK},
		"vmdk, descriptor, no space":     {[]byte("#Disk DescriptorFile\nversion=1\n"), VMDK},
		"vmdk, padded descriptor":        {file(1<<20, 0, "# Disk DescriptorFile\nversion=1\n"), VMDK},
		"vmdk, descriptor after a line":  {file(1<<20, 0, "\n # by hand\n# Disk DescriptorFile\nversion=1\n"), VMDK},
		"vmdk, descriptor without title": {file(1<<20, 0, "# by hand\nversion=1\ncreateType=\"monolithicFlat\"\n"), VMDK},
		"vhd, footer and copy":           {file(65536, 0, vhdFooter(512), -512, vhdFooter(512)), VHD},
		"vhd, copy alone":                {file(65536, 0, vhdFooter(512)), VHD},
		"vhd, fixed":                     {file(65536+512, 0, mbr, -512, vhdFooter(512)), VHD},
		"vhd, before 2004":               {file(65536+511, 0, mbr, -511, vhdFooter(511)), VHD},
		"vhd, bad copy, good footer":     {file(65536, 0, "conectix", -512, vhdFooter(512)), VHD},
		"raw, boot sector":               {file(65536, 0, mbr, 510, "\x55\xaa"), Raw},
		"raw, GPT":                       {file(65536, 510, "\x55\xaa", 512, "EFI PART"), Raw},
		"raw, zeros":                     {file(1000), Raw},
		"raw, one byte":                  {file(1), Raw},
		"raw, 513 bytes":                 {file(513, 0, mbr), Raw},
		"raw, a mark cut short":          {file(3, 0, "\xfd7z"), Raw},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Detect(source(tc.file))
			require.NoError(t, err)
			require.Equal(t, tc.want, got)
		})
	}
}

// foreignFiles are the contents that are not ours, by the name they go by.
func foreignFiles() map[string][]byte {
	files := map[string][]byte{
		"DMG":                                 file(65536, -512, dmgTrailer),
		"HTML":                                []byte("\n<!DOCTYPE html>\n<html><body>404</body></html>\n"),
		"XML":                                 []byte("<?xml version=\"1.0\"?>\n<domain/>\n"),
		"XML, an object store's error answer": []byte("<?xml version=\"1.0\"?>\n<Error><Code>NoSuchKey</Code></Error>"),
		"JSON":                                []byte("{\"error\": \"not found\"}"),
		"text":                                []byte("404 page not found\n"),
	}
	for _, s := range signatures {
		files[s.name] = file(65536, s.off, s.magic, s.off2, s.then)
	}
	return files
}

func TestDetectNamesWhatItDoesNotRead(t *testing.T) {
	files := foreignFiles()
	require.Greater(t, len(files), 20)
	for name, file := range files {
		t.Run(name, func(t *testing.T) {
			_, err := Detect(source(file))
			require.ErrorContains(t, err, "content is "+name)
			if strings.Contains(err.Error(), "image format that is not read") {
				require.ErrorIs(t, err, diskimage.ErrUnsupported)
			} else {
				require.ErrorIs(t, err, diskimage.ErrFormat)
			}

			_, _, err = decide(source(file), QCOW2, false)
			require.ErrorIs(t, err, diskimage.ErrFormat)
			require.ErrorContains(t, err, "declared qcow2, content is "+name)

			f, notes, err := decide(source(file), Raw, true)
			require.NoError(t, err)
			require.Equal(t, Raw, f)
			require.Len(t, notes, 1)
			require.Contains(t, notes[0].Text, name)
		})
	}
}

// Every signature has its own fixture, also where two go by one name.
func TestSignatures(t *testing.T) {
	for i, s := range signatures {
		p := file(65536, s.off, s.magic, s.off2, s.then)
		require.True(t, s.matches(p[:prefixLen]), s.name)
		for j, other := range signatures {
			require.Equal(t, i == j, other.matches(p[:prefixLen]), "%s as %s", s.name, other.name)
		}
		require.False(t, s.matches(p[:s.off+len(s.magic)-1]), "%s cut short", s.name)
	}
}

func TestDetectDocuments(t *testing.T) {
	utf16 := func(s string) []byte {
		p := []byte("\xff\xfe")
		for _, r := range s {
			p = append(p, byte(r), byte(r>>8))
		}
		return p
	}
	long := strings.Repeat("ünïcode ", 1000)
	for name, tc := range map[string]struct {
		file []byte
		want string // "" is raw
	}{
		"HTML without doctype":     {[]byte("<html><head>"), "HTML"},
		"S3 error without header":  {[]byte("<Error><Code>AccessDenied</Code></Error>"), "XML, an object store's error answer"},
		"text with NULs":           {file(65536, 0, "hello"), "text"},
		"text with a BOM":          {[]byte("\xef\xbb\xbfhello"), "text"},
		"one letter":               {[]byte("x"), "text"},
		"long text, cut inside":    {[]byte(long), "text"},
		"long text, cut at 1":      {[]byte("x" + long), "text"},
		"UTF-16":                   {utf16("A disk\r\n"), "text"},
		"UTF-16 XML":               {utf16("<?xml version='1.0'?>"), "XML"},
		"UTF-16 padded":            {append(utf16("A disk"), file(512)...), "text"},
		"text, then other":         {file(65536, 0, "text", 100, "\x01"), ""},
		"text, NULs, text":         {file(65536, 0, "text", 100, "text"), ""},
		"a truncated rune":         {[]byte("text \xc3"), ""},
		"UTF-16 mark, then binary": {[]byte("\xff\xfe\x00\xd8\x00\x00\x01\x00"), ""},
		"version without comment":  {[]byte("version: 1\n"), "text"},
	} {
		t.Run(name, func(t *testing.T) {
			f, err := Detect(source(tc.file))
			if tc.want == "" {
				require.NoError(t, err)
				require.Equal(t, Raw, f)
				return
			}
			require.ErrorIs(t, err, diskimage.ErrFormat)
			require.ErrorContains(t, err, "content is "+tc.want)
		})
	}
}

func TestDetectRefuses(t *testing.T) {
	for name, tc := range map[string]struct {
		file []byte
		kind diskimage.ErrorKind
		msg  string
	}{
		"empty":               {nil, diskimage.ErrFormat, "the file is empty"},
		"conectix and zeros":  {file(65536, 0, "conectix"), diskimage.ErrCorrupt, "vpc: footer: checksum at 0x40: it is wrong"},
		"conectix alone":      {file(8, 0, "conectix"), diskimage.ErrCorrupt, "vpc: footer: checksum at 0x40: it is wrong"},
		"bad footer":          {file(65536, -512, "conectix"), diskimage.ErrCorrupt, "vpc: footer: checksum at 0xfe40: it is wrong"},
		"qcow2 and ISO":       {file(65536, 0, qcow2Head, 32768, isoHead), diskimage.ErrFormat, "content is qcow2 and ISO 9660 at once"},
		"qcow2 and VHD":       {file(65536, 0, qcow2Head, -512, vhdFooter(512)), diskimage.ErrFormat, "content is qcow2 and vpc at once"},
		"VMDK and VHD":        {file(65536, 0, "KDMV", -511, vhdFooter(511)), diskimage.ErrFormat, "content is vmdk and vpc at once"},
		"qcow2 and DMG":       {file(65536, 0, qcow2Head, -512, dmgTrailer), diskimage.ErrFormat, "content is qcow2 and DMG at once"},
		"qcow2, tar and ISO":  {file(65536, 0, qcow2Head, 257, "ustar", 32768, isoHead), diskimage.ErrFormat, "content is qcow2 and tar at once"},
		"gzip and VHD":        {file(65536, 0, "\x1f\x8b\x08", -512, vhdFooter(512)), diskimage.ErrFormat, "content is vpc and gzip at once"},
		"zip behind a stub":   {file(65536, 0, "PK\x05\x06"), diskimage.ErrFormat, "content is zip, which is no disk image"},
		"ISO, not declared":   {file(65536, 32768, isoHead), diskimage.ErrFormat, "content is ISO 9660; if that is what the disk holds, declare it raw"},
		"VHDX":                {file(65536, 0, "vhdxfile"), diskimage.ErrUnsupported, "content is VHDX, an image format that is not read"},
		"QCOW2 in a disc, PK": {file(65536, 0, "PK\x03\x04", 32768, isoHead), diskimage.ErrFormat, "content is zip and ISO 9660 at once; declare its format"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Detect(source(tc.file))
			require.ErrorIs(t, err, tc.kind)
			require.ErrorContains(t, err, tc.msg)
		})
	}
}

func TestDeclared(t *testing.T) {
	qcow2, boot := file(65536, 0, qcow2Head), file(65536, 0, "\xeb\x63\x90")
	isohybrid := file(65536, 0, "\x33\xed", 510, "\x55\xaa", 32768, isoHead)
	for name, tc := range map[string]struct {
		file      []byte
		declared  Format
		rawAnyway bool
		err       string // of kind ErrFormat
		notes     int
	}{
		"qcow2 as itself":       {file: qcow2, declared: QCOW2},
		"qcow2 as vmdk":         {file: qcow2, declared: VMDK, err: "declared vmdk, content is qcow2"},
		"qcow2 as vpc":          {file: qcow2, declared: VHD, err: "declared vpc, content is qcow2"},
		"qcow2 as raw":          {file: qcow2, declared: Raw, err: "declared raw, content is qcow2 (--raw-anyway"},
		"qcow2 as raw anyway":   {file: qcow2, declared: Raw, rawAnyway: true, notes: 1},
		"raw as itself":         {file: boot, declared: Raw},
		"raw as qcow2":          {file: boot, declared: QCOW2, err: "declared qcow2, content is no qcow2"},
		"gzip as raw":           {file: file(512, 0, "\x1f\x8b\x08"), declared: Raw, err: "declared raw, content is gzip (--raw-anyway"},
		"S3 error as raw":       {file: []byte("<Error><Code>NoSuchKey</Code>"), declared: Raw, err: "declared raw, content is XML"},
		"text as raw":           {file: file(65536, 0, "my notes"), declared: Raw, notes: 1},
		"LUKS as raw":           {file: file(65536, 0, "LUKS\xba\xbe\x00\x01"), declared: Raw, notes: 1},
		"ISO as raw":            {file: file(65536, 32768, isoHead), declared: Raw, notes: 1},
		"hybrid as raw":         {file: isohybrid, declared: Raw, notes: 1},
		"hybrid as vpc":         {file: isohybrid, declared: VHD, err: "declared vpc, content is ISO 9660"},
		"VHD as raw":            {file: file(66048, -512, vhdFooter(512)), declared: Raw, err: "declared raw, content is vpc (--raw-anyway"},
		"damaged VHD as raw":    {file: file(65536, 0, "conectix"), declared: Raw, err: "declared raw, content is vpc (--raw-anyway"},
		"polyglot as qcow2":     {file: file(65536, 0, qcow2Head, -512, vhdFooter(512)), declared: QCOW2, err: "content is qcow2 and vpc at once"},
		"polyglot as raw":       {file: file(65536, 0, qcow2Head, -512, vhdFooter(512)), declared: Raw, err: "content is qcow2 and vpc at once"},
		"polyglot, anyway":      {file: file(65536, 0, qcow2Head, -512, vhdFooter(512)), declared: Raw, rawAnyway: true, notes: 2},
		"disc inside qcow2":     {file: file(65536, 0, qcow2Head, 32768, isoHead), declared: QCOW2, notes: 1},
		"disc inside qcow2 raw": {file: file(65536, 0, qcow2Head, 32768, isoHead), declared: Raw, err: "declared raw, content is qcow2 and ISO 9660"},
		"empty as raw":          {declared: Raw, err: "the file is empty"},
		"empty as qcow2":        {declared: QCOW2, err: "the file is empty"},
		"empty, anyway":         {declared: Raw, rawAnyway: true},
	} {
		t.Run(name, func(t *testing.T) {
			f, notes, err := decide(source(tc.file), tc.declared, tc.rawAnyway)
			if tc.err != "" {
				require.ErrorIs(t, err, diskimage.ErrFormat)
				require.ErrorContains(t, err, tc.err)
				return
			}
			require.NoError(t, err)
			require.Equal(t, tc.declared, f)
			require.Len(t, notes, tc.notes)
		})
	}

	_, _, err := decide(source(file(65536, 0, "conectix")), VHD, false)
	require.ErrorIs(t, err, diskimage.ErrCorrupt)
}

// An image can look like what its disk holds: the first cluster of a disc's
// data lies where the disc has it. Only a declaration can tell.
func TestDiscInsideAnImage(t *testing.T) {
	disc := file(1<<20, 32768, isoHead, 100_000, "data")
	name := filepath.Join(t.TempDir(), "disc.qcow2")
	src, err := Open(context.Background(), source(disc), OpenOptions{Format: Raw})
	require.NoError(t, err)
	_, err = ToFile(context.Background(), name, src, Options{Format: QCOW2, QCOW2: qcow2.WriterOptions{ClusterSize: 32768}})
	require.NoError(t, err)
	_, err = OpenFile(context.Background(), name, OpenOptions{})
	require.ErrorContains(t, err, "content is qcow2 and ISO 9660 at once; declare its format")
	d, err := OpenFile(context.Background(), name, OpenOptions{Format: QCOW2})
	require.NoError(t, err)
	require.Len(t, diskimage.NotesOf(d), 1)
	require.NoError(t, d.Close())
}

func TestParseFormat(t *testing.T) {
	for _, f := range []Format{Raw, QCOW2, VMDK, VHD} {
		got, err := ParseFormat(f.String())
		require.NoError(t, err)
		require.Equal(t, f, got)
	}
	got, err := ParseFormat("vhd")
	require.NoError(t, err)
	require.Equal(t, VHD, got)
	got, err = ParseFormat("")
	require.NoError(t, err)
	require.Equal(t, Auto, got)
	for _, name := range []string{"auto", "RAW", "vhdx", "qcow", "json:{}", "\x1b[2J"} {
		_, err := ParseFormat(name)
		require.ErrorIs(t, err, diskimage.ErrUnsupported, name)
		require.NotContains(t, err.Error(), "\x1b")
	}
}

// A source that cannot be read, or is shorter than it says, is no raw disk.
func TestDetectReadErrors(t *testing.T) {
	_, err := Detect(diskimage.NewSource(bytes.NewReader(file(100)), 200))
	require.ErrorIs(t, err, diskimage.ErrTruncated)
	_, err = Detect(diskimage.NewSource(bytes.NewReader(file(1<<17)), 1<<18)) // the front can be read
	require.ErrorIs(t, err, diskimage.ErrTruncated)

	broken := errors.New("broken")
	_, err = Detect(diskimage.NewSource(readerAt(func(p []byte, off int64) (int, error) { return 1, broken }), 1<<20))
	require.ErrorIs(t, err, broken)
	require.ErrorContains(t, err, "read at 0x1")
	_, err = Detect(diskimage.NewSource(readerAt(func(p []byte, off int64) (int, error) { return len(p), io.EOF }), 1<<20))
	require.NoError(t, err)
}

type readerAt func(p []byte, off int64) (int, error)

func (f readerAt) ReadAt(p []byte, off int64) (int, error) { return f(p, off) }

// FuzzDetect holds that whatever a content is, Detect says one thing: a format, which
// is the only one that may be declared, or an error.
func FuzzDetect(f *testing.F) {
	for _, p := range foreignFiles() {
		f.Add(p[:min(len(p), 512)])
	}
	for _, c := range slices.Concat(imagetest.QCOW2Cases(), imagetest.VMDKCases(), imagetest.VHDCases(), imagetest.OVACases(), imagetest.ContentCases()) {
		p := c.Build()
		if middle := len(p) - prefixLen - vhdFooterLen; middle > 0 { // nobody looks at that
			p = slices.Delete(p, prefixLen, prefixLen+middle)
		}
		f.Add(p)
	}
	f.Add([]byte(qcow2Head))
	f.Add([]byte("# Disk DescriptorFile\nversion=1\n"))
	f.Add([]byte(vhdFooter(512)))
	f.Add([]byte(vhdFooter(511)))
	f.Fuzz(func(t *testing.T, p []byte) {
		format, err := Detect(source(p))
		if (format == Auto) != (err != nil) {
			t.Fatalf("format %v with error %v", format, err)
		}
		for _, declared := range []Format{Raw, QCOW2, VMDK, VHD} {
			got, _, declaredErr := decide(source(p), declared, false)
			if err == nil && (declaredErr == nil) != (declared == format) {
				t.Fatalf("content is %v, declared %v gives %v, %v", format, declared, got, declaredErr)
			}
			if declaredErr == nil && got != declared {
				t.Fatalf("declared %v, read as %v", declared, got)
			}
		}
		if got, _, err := decide(source(p), Raw, true); got != Raw || err != nil {
			t.Fatalf("raw anyway is refused: %v", err)
		}
	})
}
