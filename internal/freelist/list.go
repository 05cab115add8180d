// Package freelist keeps things to be used again.
package freelist

import "sync"

// A List is safe for concurrent use. Unlike a sync.Pool it never forgets. The
// zero value is an empty one.
type List[T any] struct {
	mu   sync.Mutex
	list []T
}

// Get takes the last thing that was put, if there is any.
func (l *List[T]) Get() (v T, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := len(l.list) - 1
	if n < 0 {
		return v, false
	}
	v, l.list = l.list[n], l.list[:n]
	return v, true
}

// Put adds things.
func (l *List[T]) Put(v ...T) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.list = append(l.list, v...)
}
