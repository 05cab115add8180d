package ova_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/internal/disktest"
	"github.com/diskimage-go/diskimage/internal/imagetest"
	"github.com/diskimage-go/diskimage/internal/ova"
	"github.com/diskimage-go/diskimage/internal/peer"
)

// A look is what somebody who wants a disk gets of a package.
type look struct {
	disks []ova.Disk
	data  []byte // of the disk's file
	notes []diskimage.Note
	err   error
}

// atAnyOffset looks at a package through Open.
func atAnyOffset(t *testing.T, b []byte, which string, o ova.Options) (l look) {
	t.Helper()
	p, err := ova.Open(t.Context(), imagetest.Source(b), o)
	if err != nil {
		return look{err: err}
	}
	l = look{disks: p.Disks(), notes: p.Notes()}
	d, err := p.Find(which)
	if err != nil {
		return look{err: err}
	}
	f, err := p.Disk(d)
	if err != nil {
		return look{err: err}
	}
	l.data, err = io.ReadAll(io.NewSectionReader(f, 0, f.Size()))
	require.NoError(t, err)
	l.err = p.Attest(t.Context())
	require.Equal(t, l.err, p.Attest(t.Context()), "what was found is said again")
	return l
}

// frontToBack looks at a package through NewReader.
func frontToBack(r io.Reader, which string, o ova.Options) (l look) {
	p, err := ova.NewReader(r, o)
	if err != nil {
		return look{err: err}
	}
	l.disks = p.Disks()
	d, err := p.Find(which)
	if err != nil {
		return look{err: err}
	}
	f, size, err := p.Disk(d)
	if err != nil {
		return look{err: err}
	}
	if l.data, l.err = io.ReadAll(f); l.err == nil {
		if int64(len(l.data)) != size {
			return look{err: errors.New("the file is not as long as was said")}
		}
		l.err = p.Finish()
	}
	l.notes = p.Notes()
	return l
}

// TestSameEitherWay holds that a package is the same package front to back and
// at any offset, whatever pieces it comes in and wherever its manifest lies.
func TestSameEitherWay(t *testing.T) {
	o := imagetest.OVA{Disks: []imagetest.PackedDisk{
		{Name: "a.img", Data: bytes.Repeat([]byte("first disk"), 3000), URI: imagetest.URIRaw, Capacity: 30000},
		{Name: "sub/b c.img", Data: bytes.Repeat([]byte{0}, 512), URI: imagetest.URIRaw, Capacity: 512},
		{Name: "empty.img", URI: imagetest.URIRaw},
		{Name: strings.Repeat("long", 60) + ".img", Data: []byte("x"), URI: imagetest.URIRaw, Capacity: -1},
	}}
	for _, o.Digest = range []string{"", "SHA1", "SHA256", "SHA512"} {
		for _, o.ManifestLast = range []bool{false, true} {
			file := o.Build()
			for i, d := range o.Disks {
				for _, which := range []string{fmt.Sprint(i + 1), d.Name, fmt.Sprintf("vmdisk%d", i+1)} {
					t.Run(fmt.Sprintf("%s %v %.20s", o.Digest, o.ManifestLast, which), func(t *testing.T) {
						want := atAnyOffset(t, file, which, ova.Options{})
						require.NoError(t, want.err)
						require.Equal(t, string(d.Data), string(want.data))
						require.Len(t, want.disks, len(o.Disks))
						require.Equal(t, d.Name, want.disks[i].File)
						require.Equal(t, d.Capacity, want.disks[i].Capacity)
						require.Equal(t, o.Digest == "", len(want.notes) == 1, want.notes)
						require.Equal(t, want, frontToBack(bytes.NewReader(file), which, ova.Options{}))
						require.Equal(t, want, frontToBack(iotest.OneByteReader(bytes.NewReader(file)), which, ova.Options{}))
						require.Equal(t, want, frontToBack(iotest.DataErrReader(bytes.NewReader(file)), which, ova.Options{}))
					})
				}
			}
		}
	}
}

// TestHostilePackages holds both readers against the cases; those about the
// disk inside are for others.
func TestHostilePackages(t *testing.T) {
	for _, c := range imagetest.OVACases() {
		require.Equal(t, "R15", c.ID)
		t.Run(c.Name, func(t *testing.T) {
			file := c.Build()
			var random, forward look
			disktest.Bounded(t, func() { random = atAnyOffset(t, file, "", ova.Options{}) })
			disktest.Bounded(t, func() { forward = frontToBack(bytes.NewReader(file), "", ova.Options{}) })
			for _, l := range []look{random, forward} {
				if strings.HasPrefix(c.Name, "a format that") || strings.Contains(c.Name, "OVA") || c.Name == "a damaged disk" || c.Name == "a disk with a backing file" {
					require.NoError(t, l.err)
					continue
				}
				if c.Kind == "" {
					require.NoError(t, l.err)
					if c.Note != "" {
						require.Contains(t, fmt.Sprint(l.notes), c.Note)
					}
					continue
				}
				require.ErrorIs(t, l.err, c.Kind)
				require.ErrorContains(t, l.err, c.Field)
			}
		})
	}
}

// TestCutAnywhere holds that no part of a package passes for all of it.
func TestCutAnywhere(t *testing.T) {
	o := imagetest.OVA{Disks: []imagetest.PackedDisk{{Name: "a.img", Data: bytes.Repeat([]byte("disk"), 400), URI: imagetest.URIRaw}}}
	step := 11
	if testing.Short() {
		step = 51
	}
	for _, o.Digest = range []string{"", "SHA1"} {
		for _, o.ManifestLast = range []bool{false, true} {
			file := o.Build()
			for n := 0; n < len(file)-blockSize; n += step {
				require.Error(t, atAnyOffset(t, file[:n], "", ova.Options{}).err, n)
				err := frontToBack(bytes.NewReader(file[:n]), "", ova.Options{}).err
				require.Error(t, err, n)
				require.NotErrorIs(t, err, io.ErrUnexpectedEOF, n)
			}
		}
	}
}

const blockSize = 512

// TestEveryByteCounts changes each byte of a package: either nothing that
// matters was changed, or it is an error, the same either way.
func TestEveryByteCounts(t *testing.T) {
	o := imagetest.OVA{Disks: []imagetest.PackedDisk{{Name: "a.img", Data: bytes.Repeat([]byte("disk"), 400), URI: imagetest.URIRaw}}, Digest: "SHA512"}
	file := o.Build()
	want := atAnyOffset(t, file, "", ova.Options{})
	require.NoError(t, want.err)
	for i := range file {
		bad := bytes.Clone(file)
		bad[i] ^= 0x20
		random, forward := atAnyOffset(t, bad, "", ova.Options{}), frontToBack(bytes.NewReader(bad), "", ova.Options{})
		require.Equal(t, random.err == nil, forward.err == nil, "byte %d: %v; %v", i, random.err, forward.err)
		if random.err == nil {
			require.Equal(t, want.data, random.data, i)
			require.Equal(t, want.data, forward.data, i)
		}
	}
}

func TestSalvage(t *testing.T) {
	for _, c := range imagetest.OVACases() {
		switch c.Name {
		case "a size that lies", "a digest of the descriptor that differs", "a file of the manifest that is missing":
			random, forward := atAnyOffset(t, c.Build(), "", ova.Options{Salvage: true}), frontToBack(bytes.NewReader(c.Build()), "", ova.Options{Salvage: true})
			require.NoError(t, random.err, c.Name)
			require.NoError(t, forward.err, c.Name)
			require.Contains(t, fmt.Sprint(random.notes), c.Field)
			require.Equal(t, random.notes, forward.notes)
		}
	}
}

// A failing source gives its own error, not the archive's.
func TestInputFails(t *testing.T) {
	file := imagetest.BaseOVA().Build()
	for n := 0; n < len(file)-1024; n += 4099 {
		err := frontToBack(io.MultiReader(bytes.NewReader(file[:n]), iotest.ErrReader(io.ErrUnexpectedEOF)), "", ova.Options{}).err
		require.ErrorIs(t, err, io.ErrUnexpectedEOF)
		require.NotErrorIs(t, err, diskimage.ErrTruncated)
	}
}

func TestPropertyCapacity(t *testing.T) {
	o := imagetest.BaseOVA()
	o.Digest = ""
	for units, want := range map[string]int64{
		`ovf:capacity="5"`: 5,
		`ovf:capacity="5" ovf:capacityAllocationUnits="byte"`:                5,
		`ovf:capacity="5" ovf:capacityAllocationUnits="byte * 2^30"`:         5 << 30,
		`ovf:capacity="5" ovf:capacityAllocationUnits=" byte*1024 * 2^10 "`:  5 << 20,
		`capacity="5" capacityAllocationUnits="byte * 10^3"`:                 5000,
		`ovf:capacity="5" ovf:capacityAllocationUnits="byte * 2^62"`:         -1,
		`ovf:capacity="5" ovf:capacityAllocationUnits="byte * 2^99"`:         -1,
		`ovf:capacity="5" ovf:capacityAllocationUnits="byte * 4294967295^9"`: -1,
		`ovf:capacity="5" ovf:capacityAllocationUnits="byte *"`:              5,
		`ovf:capacity="5" ovf:capacityAllocationUnits="bit * 2^30"`:          -1,
		`ovf:capacity="-5"`:                               -1,
		`ovf:capacity="${size}"`:                          -1,
		`ovf:populatedSize="5"`:                           -1,
		`ovf:capacity="9` + strings.Repeat("9", 18) + `"`: -1,
	} {
		m := o.Members()
		m[0].Data = bytes.Replace(m[0].Data, []byte(`ovf:capacity="262144"`), []byte(units), 1)
		l := atAnyOffset(t, imagetest.Tar(m...), "", ova.Options{})
		require.NoError(t, l.err, units)
		require.Equal(t, want, l.disks[0].Capacity, units)
	}
}

// TestManifestSpellings reads what the products, and people, write.
func TestManifestSpellings(t *testing.T) {
	o := imagetest.BaseOVA()
	m := o.Members()
	text := string(m[1].Data)
	for _, spelled := range []string{
		text,
		strings.ReplaceAll(text, "\n", "\r\n"),
		strings.ReplaceAll(text, "SHA256(", "sha256 ( "),
		strings.ReplaceAll(text, "SHA256", "SHA-256"),
		strings.ReplaceAll(text, ")= ", ") ="),
		strings.ReplaceAll(text, "(", "(./"),
		"\n" + strings.TrimSpace(text),
	} {
		m[1].Data = []byte(spelled)
		l := atAnyOffset(t, imagetest.Tar(m...), "", ova.Options{})
		require.NoError(t, l.err, spelled)
		require.Empty(t, l.notes, spelled)

		bad := strings.ReplaceAll(spelled, "disk.qcow2", "x.ovf")
		m[1].Data = []byte(bad)
		require.ErrorIs(t, atAnyOffset(t, imagetest.Tar(m...), "", ova.Options{}).err, diskimage.ErrCorrupt, bad)
	}
}

// Names in the descriptor are relative references of RFC 3986, with what is
// not a letter escaped, or not.
func TestEscapedNames(t *testing.T) {
	for _, href := range []string{"my disk.img", "my%20disk.img", "./my%20disk.img"} {
		o := imagetest.OVA{Disks: []imagetest.PackedDisk{{Name: "my disk.img", Data: []byte("x"), URI: imagetest.URIRaw}}}
		m := o.Members()
		m[0].Data = bytes.Replace(m[0].Data, []byte(`"my disk.img"`), []byte(`"`+href+`"`), 1)
		require.NoError(t, atAnyOffset(t, imagetest.Tar(m...), "", ova.Options{}).err, href)
	}
}

func TestGunzip(t *testing.T) {
	want := bytes.Repeat([]byte("a disk's content, "), 10000)
	d := ova.Disk{File: "disk.gz", Capacity: int64(len(want)), Compressed: true}
	one := imagetest.Gzip(want)
	several := append(imagetest.Gzip(want[:1000]), imagetest.Gzip(want[1000:])...)
	unzip := func(file []byte, d ova.Disk) ([]byte, []diskimage.Note, error) {
		g, err := ova.NewGunzip(bytes.NewReader(file), d)
		if err != nil {
			return nil, nil, err
		}
		got, err := io.ReadAll(iotest.HalfReader(g))
		return got, g.Notes(), err
	}
	for _, file := range [][]byte{one, several} {
		got, notes, err := unzip(file, d)
		require.NoError(t, err)
		require.True(t, bytes.Equal(want, got))
		require.Empty(t, notes)

		got, notes, err = unzip(append(bytes.Clone(file), "garbage"...), d)
		require.NoError(t, err)
		require.True(t, bytes.Equal(want, got))
		require.Len(t, notes, 1)

		for n := 0; n < len(file); n += 17 {
			_, _, err := unzip(file[:n], d)
			if n != len(imagetest.Gzip(want[:1000])) { // which is a gzip file of its own
				require.ErrorIs(t, err, diskimage.ErrTruncated, n)
			}
		}
		bad := bytes.Clone(file)
		bad[len(bad)-6] ^= 1 // of the CRC
		_, _, err = unzip(bad, d)
		require.ErrorIs(t, err, diskimage.ErrCorrupt)
		_, _, err = unzip(append(bytes.Clone(file), "\x1f\x8bgarbage garbage"...), d)
		require.ErrorIs(t, err, diskimage.ErrCorrupt)
	}
	_, _, err := unzip(one, ova.Disk{File: "disk.gz", Capacity: -1})
	require.ErrorIs(t, err, diskimage.ErrLimit)

	bomb := imagetest.Gzip(make([]byte, 80<<20))
	got, _, err := unzip(bomb, ova.Disk{File: "disk.gz", Capacity: 1 << 20})
	require.ErrorIs(t, err, diskimage.ErrLimit)
	require.LessOrEqual(t, len(got), 70<<20)
}

// TestAgainst7z holds that what we take for the members of an archive is what
// 7-Zip takes for them, however long their names and whatever the format.
func TestAgainst7z(t *testing.T) {
	peer.Find(t, "7z")
	for _, format := range []tar.Format{tar.FormatUSTAR, tar.FormatPAX, tar.FormatGNU} {
		o := imagetest.OVA{Disks: []imagetest.PackedDisk{{Name: strings.Repeat("d", 90) + "/disk.img", Data: []byte("disk"), URI: imagetest.URIRaw}}, Digest: "SHA1"}
		m := o.Members()
		for i := range m {
			m[i].Change = func(h *tar.Header) { h.Format = format }
		}
		name := t.TempDir() + "/x.ova"
		file := imagetest.Tar(m...)
		write(t, name, file)
		require.Equal(t, "disk", peer.Run(t, "7z", "e", "-so", "-ttar", name, m[2].Name))
		l := atAnyOffset(t, file, "", ova.Options{})
		require.NoError(t, l.err)
		require.Equal(t, "disk", string(l.data))
	}
}
