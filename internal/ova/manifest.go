package ova

import (
	"bytes"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"fmt"
	"hash"
	"slices"
	"strings"

	"github.com/diskimage-go/diskimage"
)

const maxManifest = 1 << 20 // bytes, a limit of ours

// An algorithm is a digest that a manifest may have.
type algorithm struct {
	name string
	make func() hash.Hash
}

// algorithms: SHA-1 is OVF 1's, the others came with OVF 2.
var algorithms = []algorithm{{"SHA1", sha1.New}, {"SHA256", sha256.New}, {"SHA512", sha512.New}}

// A digest is a line of a manifest.
type digest struct {
	kind string // its algorithm's name
	sum  []byte
}

// A manifest has the digests of a package's files, by their names.
type manifest struct {
	digests map[string][]digest
	names   []string // in its order
}

// parseManifest reads a manifest: DSP0243, "Integrity and authenticity":
// lines such as "SHA256(disk.vmdk)= 5891b5b5...". Lines that are not like that
// are ErrCorrupt; digests of other kinds are left out, and noted.
func parseManifest(name string, text []byte) (*manifest, []diskimage.Note, error) {
	m := &manifest{digests: map[string][]digest{}}
	var notes []diskimage.Note
	n := 0
	for line := range strings.Lines(string(text)) {
		n++
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		kind, rest, opened := strings.Cut(line, "(")
		closed := strings.LastIndexByte(rest, ')')
		if !opened || closed < 0 {
			return nil, nil, corrupt(memberField(name), -1, fmt.Sprintf("line %d is no digest of a file", n))
		}
		file := strings.TrimPrefix(strings.TrimSpace(rest[:closed]), "./")
		text, equals := strings.CutPrefix(strings.TrimSpace(rest[closed+1:]), "=")
		sum, err := hex.DecodeString(strings.TrimSpace(text))
		if !equals || err != nil {
			return nil, nil, corrupt(memberField(name), -1, fmt.Sprintf("line %d is no digest of a file", n))
		}
		kind = strings.ToUpper(strings.ReplaceAll(strings.TrimSpace(kind), "-", ""))
		i := slices.IndexFunc(algorithms, func(a algorithm) bool { return a.name == kind })
		if _, ok := m.digests[file]; !ok {
			m.names = append(m.names, file)
			m.digests[file] = nil
		}
		if i < 0 {
			notes = append(notes, note("the digest of "+diskimage.Quote(file)+" in the manifest is of a kind that is not verified: "+diskimage.Quote(kind)))
			continue
		}
		if size := algorithms[i].make().Size(); len(sum) != size {
			return nil, nil, corrupt(memberField(name), -1, fmt.Sprintf("line %d: a digest of %d bytes; %s has %d", n, len(sum), kind, size))
		}
		m.digests[file] = append(m.digests[file], digest{kind, sum})
	}
	return m, notes, nil
}

// check holds the digests of a member against the manifest's.
func (m *manifest) check(of member, h *hasher) error {
	for _, want := range m.digests[of.name] {
		if got := h.sum(want.kind); !bytes.Equal(got, want.sum) {
			return corrupt(memberField(of.name), of.off, fmt.Sprintf("its %s digest is %x, the manifest has %x", want.kind, got, want.sum))
		}
	}
	return nil
}

// A hasher makes the digests of one member.
type hasher struct{ sums map[string]hash.Hash }

// newHasher returns one for the digests that m has of a file, or, before the
// manifest was seen, for all that it may have.
func newHasher(m *manifest, name string) *hasher {
	h := &hasher{map[string]hash.Hash{}}
	for _, a := range algorithms {
		if m == nil || slices.ContainsFunc(m.digests[name], func(d digest) bool { return d.kind == a.name }) {
			h.sums[a.name] = a.make()
		}
	}
	return h
}

// Write never fails.
func (h *hasher) Write(p []byte) (int, error) {
	for _, sum := range h.sums {
		sum.Write(p)
	}
	return len(p), nil
}

func (h *hasher) sum(kind string) []byte { return h.sums[kind].Sum(nil) }

func note(text string) diskimage.Note { return diskimage.Note{Format: Name, Text: text} }
