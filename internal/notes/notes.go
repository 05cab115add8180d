// Package notes keeps what an image has to say beside its errors.
package notes

import (
	"fmt"
	"slices"
	"sync"

	"github.com/diskimage-go/diskimage"
)

// most bounds what a damaged image can make us remember.
const most = 100

// A List is the notes of an image, each said once. It is safe for concurrent
// use. The zero value is an empty list of no format.
type List struct {
	Format string // of the notes added; set before the first

	mu   sync.Mutex
	list []diskimage.Note
	more bool // than fit
}

// Start puts notes at the front of the list, however many they are.
func (l *List) Start(n []diskimage.Note) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.list = slices.Concat(n, l.list)
}

// Add adds a note, unless it is there already.
func (l *List) Add(format string, args ...any) {
	n := diskimage.Note{Format: l.Format, Text: fmt.Sprintf(format, args...)}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case slices.Contains(l.list, n):
	case len(l.list) < most:
		l.list = append(l.list, n)
	default:
		l.more = true
	}
}

// All returns the notes so far, in the order in which they were added.
func (l *List) All() []diskimage.Note {
	l.mu.Lock()
	defer l.mu.Unlock()
	list := slices.Clone(l.list)
	if l.more {
		list = append(list, diskimage.Note{Format: l.Format, Text: "and more of the kind"})
	}
	return list
}
