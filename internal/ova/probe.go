package ova

import (
	"archive/tar"
	"bytes"
)

// Probe reports whether a file that begins so is an OVA: a tar whose first
// member is an OVF descriptor.
func Probe(prefix []byte) bool {
	hdr, err := tar.NewReader(bytes.NewReader(prefix)).Next()
	return err == nil && hdr.Typeflag == tar.TypeReg && hasSuffix(hdr.Name, ".ovf")
}
