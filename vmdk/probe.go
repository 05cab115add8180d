package vmdk

import (
	"bytes"
	"encoding/binary"
)

// ProbeLen is how many of a file's first bytes [Probe] looks at.
const ProbeLen = 512

// Probe reports whether prefix, the first [ProbeLen] bytes of a file or all
// there are, starts a file of this format: a descriptor or a sparse extent of
// any kind, also one that [Open] refuses by name.
func Probe(prefix []byte) bool {
	if len(prefix) >= 8 && binary.LittleEndian.Uint64(prefix) == magicSESparse {
		return true
	}
	if len(prefix) < 4 {
		return false
	}
	magic := binary.LittleEndian.Uint32(prefix)
	return magic == magicKDMV || magic == magicCOWD || isDescriptor(prefix)
}

// isDescriptor reports whether text starts a descriptor: its mark is among the
// comments in front, or else "version=" is the first that follows them.
func isDescriptor(text []byte) bool {
	text = bytes.ToLower(bytes.TrimPrefix(text[:min(len(text), ProbeLen)], []byte("\xef\xbb\xbf")))
	for line := range bytes.Lines(text) {
		line = bytes.TrimSpace(line)
		if comment, ok := bytes.CutPrefix(line, []byte("#")); ok {
			if bytes.HasPrefix(bytes.TrimSpace(comment), []byte(descriptorMark)) {
				return true
			}
		} else if len(line) > 0 {
			rest, ok := bytes.CutPrefix(line, []byte("version"))
			return ok && bytes.HasPrefix(bytes.TrimSpace(rest), []byte("="))
		}
	}
	return false
}
