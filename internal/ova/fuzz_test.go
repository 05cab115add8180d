package ova_test

import (
	"bytes"
	"encoding/binary"
	"io"
	"os"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage/internal/imagetest"
	"github.com/diskimage-go/diskimage/internal/ova"
)

func write(t *testing.T, name string, p []byte) {
	t.Helper()
	require.NoError(t, os.WriteFile(name, p, 0o666))
}

// FuzzOVA changes bytes of small packages, and gives the headers of their
// archives the right checksums again, so that they are looked at.
func FuzzOVA(f *testing.F) {
	var seeds [][]byte
	o := imagetest.OVA{Disks: []imagetest.PackedDisk{
		{Name: "a.img", Data: []byte("disk"), URI: imagetest.URIRaw, Capacity: 4},
		{Name: "b.gz", Data: []byte("disk"), URI: imagetest.URIRaw, Capacity: 4, Gzip: true},
	}}
	for _, o.Digest = range []string{"", "SHA1", "SHA512"} {
		seeds = append(seeds, o.Build())
		o.ManifestLast = true
	}
	seeds = append(seeds, imagetest.Tar(imagetest.Member{Name: "\u00fc.ovf", Data: []byte(o.Descriptor())})) // with a pax header
	for i := range seeds {
		f.Add(byte(i), []byte("\x00\x9cS"))
	}
	f.Fuzz(func(t *testing.T, i byte, edits []byte) {
		seed := seeds[int(i)%len(seeds)]
		b := bytes.Clone(seed)
		for ; len(edits) >= 3; edits = edits[3:] {
			b[int(binary.BigEndian.Uint16(edits))%len(b)] = edits[2]
		}
		for at := 0; at+blockSize <= len(b); at += blockSize {
			if string(seed[at+257:at+262]) == "ustar" {
				imagetest.SumHeader(b[at : at+blockSize])
			}
		}
		openAndRead(t, b)
	})
}

// FuzzDescriptor takes anything for a descriptor and a manifest.
func FuzzDescriptor(f *testing.F) {
	disk := imagetest.Member{Name: "a", Data: []byte("disk")}
	f.Add([]byte(`<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1"><References><File id="f" href="a"/></References><DiskSection><Disk fileRef="f"/></DiskSection></Envelope>`),
		imagetest.Manifest("SHA1", disk))
	f.Fuzz(func(t *testing.T, ovf, mf []byte) {
		openAndRead(t, imagetest.Tar(imagetest.Member{Name: "x.ovf", Data: ovf}, imagetest.Member{Name: "x.mf", Data: mf}, disk))
	})
}

// openAndRead takes b for a package, at any offset and front to back. Where
// both find nothing wrong they have the same disks with the same bytes.
func openAndRead(t *testing.T, b []byte) {
	p, err := ova.Open(t.Context(), imagetest.Source(b), ova.Options{})
	if err != nil {
		return
	}
	for _, d := range p.Disks()[:min(len(p.Disks()), 4)] {
		file, err := p.Disk(d)
		if err != nil {
			continue
		}
		want, err := io.ReadAll(file)
		require.NoError(t, err)
		l := frontToBack(bytes.NewReader(b), strconv.Itoa(d.Number), ova.Options{})
		if l.err == nil {
			require.NoError(t, p.Attest(t.Context()))
			require.Equal(t, want, l.data)
			require.Equal(t, p.Notes(), l.notes)
		}
		if d.Compressed {
			if g, err := ova.NewGunzip(bytes.NewReader(want), d); err == nil {
				io.CopyN(io.Discard, g, 1<<20)
			}
		}
	}
}
