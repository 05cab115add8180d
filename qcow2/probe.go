package qcow2

import "encoding/binary"

// Probe reports whether prefix, the first bytes of a file (4 suffice), starts
// a file of this format: QCOW2 of any version, or the older qcow, which has
// the same magic and which [Open] refuses by name.
func Probe(prefix []byte) bool {
	return len(prefix) >= 4 && binary.BigEndian.Uint32(prefix) == Magic
}
