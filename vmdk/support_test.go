package vmdk

import (
	"bytes"

	"github.com/diskimage-go/diskimage"
)

// source returns the bytes of a file as a Source.
func source(file []byte) diskimage.Source {
	return diskimage.NewSource(bytes.NewReader(file), int64(len(file)))
}
