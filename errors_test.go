package diskimage_test

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/diskimage-go/diskimage"
	"github.com/stretchr/testify/require"
)

func TestErrorText(t *testing.T) {
	for want, e := range map[string]diskimage.Error{
		"qcow2: l2 table 17: entry 3 at 0x50018: reserved bits set": {Kind: diskimage.ErrCorrupt, Format: "qcow2",
			Off: 0x50018, Field: "l2 table 17: entry 3", Msg: "reserved bits set"},
		"qcow2: at 0x200: short":        {Kind: diskimage.ErrTruncated, Format: "qcow2", Off: 0x200, Msg: "short"},
		"qcow2: header at 0x0: EOF":     {Kind: diskimage.ErrTruncated, Format: "qcow2", Field: "header", Err: io.EOF},
		"qcow2: header: cluster_bits 3": {Kind: diskimage.ErrCorrupt, Format: "qcow2", Off: -1, Field: "header", Msg: "cluster_bits 3"},
		"raw: read failed: EOF":         {Kind: diskimage.ErrTruncated, Format: "raw", Off: -1, Msg: "read failed", Err: io.EOF},
		"encrypted":                     {Kind: diskimage.ErrEncrypted, Off: -1},
		"qcow2: encrypted":              {Kind: diskimage.ErrEncrypted, Format: "qcow2", Off: -1},
		"at 0x10: bad":                  {Kind: diskimage.ErrCorrupt, Off: 16, Msg: "bad"},
	} {
		require.Equal(t, want, e.Error())
	}
}

func TestErrorIs(t *testing.T) {
	kinds := []diskimage.ErrorKind{diskimage.ErrFormat, diskimage.ErrTruncated, diskimage.ErrCorrupt, diskimage.ErrUnsupported,
		diskimage.ErrExternal, diskimage.ErrEncrypted, diskimage.ErrLimit, diskimage.ErrChanged}
	for _, kind := range kinds {
		err := fmt.Errorf("a.qcow2: %w", &diskimage.Error{Kind: kind, Off: -1, Err: io.EOF})
		for _, other := range kinds {
			require.Equal(t, kind == other, errors.Is(err, other), "%v is %v", kind, other)
		}
		require.ErrorIs(t, err, io.EOF, "the cause")
		var e *diskimage.Error
		require.ErrorAs(t, err, &e)
		require.Equal(t, kind, e.Kind)
		require.NotEmpty(t, kind.Error())
	}
	require.NotErrorIs(t, &diskimage.Error{Kind: diskimage.ErrCorrupt, Off: -1}, io.EOF)
}

func TestQuote(t *testing.T) {
	require.Equal(t, `"base.qcow2"`, diskimage.Quote("base.qcow2"))
	require.Equal(t, `"\x1b[31m\n\x00\xff"`, diskimage.Quote("\x1b[31m\n\x00\xff"))
	require.Equal(t, `"`+strings.Repeat("a", 256)+`"`, diskimage.Quote(strings.Repeat("a", 256)))
	require.Equal(t, `"`+strings.Repeat("a", 256)+`"...`, diskimage.Quote(strings.Repeat("a", 257)))
}

func TestRefuse(t *testing.T) {
	ref := diskimage.Reference{Name: "/etc/passwd", Role: diskimage.RoleBacking}
	err := diskimage.Refuse("qcow2", ref, "")
	require.ErrorIs(t, err, diskimage.ErrExternal)
	require.EqualError(t, err, `qcow2: refused to open backing file "/etc/passwd"`)
	ref = diskimage.Reference{Name: "a\nb", Role: diskimage.RoleDataFile}
	require.EqualError(t, diskimage.Refuse("qcow2", ref, "--allow-external permits it"),
		`qcow2: refused to open data file "a\nb" (--allow-external permits it)`)
	require.Equal(t, "backing file data file extent parent file", join(diskimage.RoleBacking, diskimage.RoleDataFile,
		diskimage.RoleExtent, diskimage.RoleParent, diskimage.Role(9)))
}
