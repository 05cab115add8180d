package vmdk

import (
	"fmt"
	"sync"

	"github.com/diskimage-go/diskimage"
)

// maxNotes bounds what a damaged image can make us remember.
const maxNotes = 100

// notes are the notes of an image, each said once. They are safe for
// concurrent use.
type notes struct {
	mu   sync.Mutex
	list []diskimage.Note
	more bool // than fit
}

func (s *notes) add(format string, args ...any) {
	n := diskimage.Note{Format: Name, Text: fmt.Sprintf(format, args...)}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, old := range s.list {
		if old == n {
			return
		}
	}
	if len(s.list) < maxNotes {
		s.list = append(s.list, n)
	} else {
		s.more = true
	}
}

func (s *notes) all() []diskimage.Note {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := append([]diskimage.Note(nil), s.list...)
	if s.more {
		list = append(list, diskimage.Note{Format: Name, Text: "and more of the kind"})
	}
	return list
}
