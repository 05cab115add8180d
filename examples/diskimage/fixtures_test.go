package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage/internal/imagetest"
)

// A fixture is an image in a folder of its own, and what may be opened there.
type fixture struct {
	Dir   string
	Image string
	Named []string // files beside it that it names
	Allow bool     // they may be opened
}

// putFixtures writes the hostile images, each into a folder of its own, deep
// enough for all the names that lead upwards, and files for these to lead to.
func putFixtures(t *testing.T, root string) []fixture {
	t.Helper()
	deep := filepath.Join(root, "1", "2", "3", "4")
	put := func(p []byte, elem ...string) {
		name := filepath.Join(elem...)
		require.NoError(t, os.MkdirAll(filepath.Dir(name), 0o777))
		require.NoError(t, os.WriteFile(name, p, 0o666))
	}
	canary := filepath.Join(root, "canary")
	for dir := deep; len(dir) >= len(root); dir = filepath.Dir(dir) {
		put(make([]byte, 64<<10), dir, "etc/passwd")
	}
	put(make([]byte, 64<<10), canary)

	var all []fixture
	add := func(f fixture, image []byte) *fixture {
		put(image, f.Dir, f.Image)
		all = append(all, f)
		return &all[len(all)-1]
	}
	for _, named := range []string{"/etc/passwd", canary, "../canary", "canary"} {
		where := map[string]string{"/etc/passwd": "of the system", canary: "there", "../canary": "above", "canary": "beside"}[named]
		for what, image := range naming(named) {
			f := add(fixture{Dir: filepath.Join(root, what+" "+where), Image: "image"}, image)
			put(make([]byte, 64<<10), f.Dir, "canary")
		}
	}
	for i, c := range slices.Concat(imagetest.QCOW2Cases(), imagetest.VMDKCases(), imagetest.VHDCases(), imagetest.OVACases(), imagetest.ContentCases()) {
		f := add(fixture{Dir: filepath.Join(deep, strconv.Itoa(i)), Image: cmp.Or(c.File, "image"), Allow: c.Allow}, c.Build())
		for beside, build := range c.Files {
			f.Named = append(f.Named, beside)
			put(build(), f.Dir, beside)
		}
		if c.Allow { // what is missing is looked for
			f.Named = append(f.Named, "disk-s002.vmdk")
		}
	}
	for i, head := range []string{"", "\x00", "<html>", "{}", "#!/bin/sh\n", "\x1f\x8b\x08\x00", "PK\x03\x04", "7z\xbc\xaf\x27\x1c", "\xfd7zXZ\x00", "\x28\xb5\x2f\xfd", "BZh9",
		"conectix", "vhdxfile", "QED\x00", "LUKS\xba\xbe", "<<< Oracle VM VirtualBox Disk Image >>>\n", "# Disk DescriptorFile\nRW 1 FLAT \"/etc/passwd\" 0\n"} {
		add(fixture{Dir: filepath.Join(root, "head "+strconv.Itoa(i)), Image: "image"}, append([]byte(head), make([]byte, 4096)...))
	}
	return all
}

// naming returns images of every kind that name a file.
func naming(name string) map[string][]byte {
	hole := []imagetest.Cluster{{Kind: imagetest.Absent}}
	format := imagetest.Extension{Type: imagetest.ExtBackingFormat, Data: []byte("raw")}
	flat := imagetest.VMDKText{CreateType: "monolithicFlat", Extents: []string{fmt.Sprintf("RW 8 FLAT %q 0", name)}}
	sparse := imagetest.VMDKText{CreateType: "twoGbMaxExtentSparse", Extents: []string{fmt.Sprintf("RW 8 SPARSE %q", name)}}
	child := imagetest.VMDK{Grain: 16, NoRGD: true}
	child.Text.ParentCID, child.Text.ParentHint = "12345678", name
	vhd := imagetest.VHD{Size: 1 << 20, BlockSize: 1 << 20, Blocks: make([]imagetest.VHDBlock, 1), ParentID: [16]byte{9},
		Locators: []imagetest.VHDLocator{{Platform: "W2ku", Name: imagetest.UTF16(name)}, {Platform: "W2ru", Name: imagetest.UTF16(name)}}}
	return map[string][]byte{
		"backing file": imagetest.QCOW2{Backing: name, Clusters: hole, Extensions: []imagetest.Extension{format}}.Build().Bytes,
		"data file": imagetest.QCOW2{Incompatible: 1 << 2, Clusters: hole,
			Extensions: []imagetest.Extension{{Type: imagetest.ExtDataFile, Data: []byte(name)}}}.Build().Bytes,
		"flat extent":   []byte(flat.String()),
		"sparse extent": []byte(sparse.String()),
		"parent":        child.Build().Bytes,
		"vhd parent":    vhd.Build().Bytes,
	}
}

// verbsOf returns what is done with a fixture.
func verbsOf(f fixture) [][]string {
	return [][]string{
		{"info", f.Image}, {"check", f.Image},
		{"convert", "-t", "unsafe", "-O", "qcow2", f.Image, "target"}, {"convert", "-O", "qcow2", f.Image, "-"},
	}
}

// runFixtures is the process that is traced: what it reads from standard input
// says which fixtures.
func runFixtures() {
	var fixtures []fixture
	if err := json.NewDecoder(os.Stdin).Decode(&fixtures); err != nil {
		panic(err)
	}
	for _, f := range fixtures {
		if err := os.Chdir(f.Dir); err != nil {
			panic(err)
		}
		os.Setenv("PWD", f.Dir) // or it is looked for
		os.Unsetenv(envExternal)
		if f.Allow {
			os.Setenv(envExternal, string(externalOwn))
		}
		for _, args := range verbsOf(f) {
			run(context.Background(), args, strings.NewReader(""), io.Discard, io.Discard)
		}
		os.Remove("target")
	}
	os.Exit(0)
}
