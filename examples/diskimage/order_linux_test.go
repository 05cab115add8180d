//go:build amd64 || arm64

package main

import (
	"maps"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage/internal/disktest"
)

// TestOrderOfSteps holds what a loss of power would try and a kill does not:
// the bytes are durable before they get their name, the names of a set's other
// files before its main file's, and all names before the command says that it
// is done. What makes a file an image is written last.
func TestOrderOfSteps(t *testing.T) {
	disktest.Alone(t) // the others are processes
	t.Parallel()
	source, oldSource := sources(t, 256<<10)
	for _, kind := range targetKinds {
		t.Run(kind.name, func(t *testing.T) {
			s := newScene(t, kind, 1, source, oldSource)
			s.set(true)
			steps, said, code := trace(t, s.dir, s.argv(), untilDone, 0)
			require.Zero(t, code, said)
			var names []string
			for i, at := range steps {
				switch {
				case at.call == "rename":
					s.requireDurable(steps[:i], at.name)
					require.False(t, slices.ContainsFunc(steps[i+1:], func(after step) bool { return after.name == at.name }))
					names = append(names, "rename to "+at.to)
				case at.call == "remove", at.call == "link", at.call == "sync" && at.name == ".":
					names = append(names, at.String())
				}
			}
			require.Equal(t, s.order(), names)
			require.Equal(t, "sync .", steps[len(steps)-1].String())
		})
	}
}

// order returns in which order the files that replace others get their names.
func (s *scene) order() (names []string) {
	if s.kind.set { // the old one is gone before the files that it names are
		names = append(names, "remove target", "sync .")
	}
	for _, name := range slices.Sorted(maps.Keys(s.news)) {
		if name != "target" {
			names = append(names, "rename to "+name)
		}
	}
	if s.kind.set {
		names = append(names, "sync .")
	}
	return append(names, "rename to target", "sync .")
}

// requireDurable holds that all that was written under a temporary name has
// been synced, and in which order it was written.
func (s *scene) requireDurable(steps []step, name string) {
	s.t.Helper()
	dirty, end, main := true, int64(0), leftover.FindStringSubmatch(name)[1] == "target"
	var writes []step
	for i, at := range steps {
		switch {
		case at.name != name:
		case at.call == "sync":
			dirty = false
		case at.call == "write":
			dirty, end, writes = true, max(end, at.off+at.len), append(writes, at)
			if s.kind.set && main { // the descriptor: what it names is there
				for other := range s.news {
					isOther := func(before step) bool {
						m := leftover.FindStringSubmatch(before.name)
						return before.call == "sync" && m != nil && m[1] == other
					}
					require.True(s.t, slices.ContainsFunc(steps[:i], isOther), other)
				}
			}
		default:
			dirty = true
		}
	}
	require.False(s.t, dirty, "%s gets its name before it is durable", name)
	switch last := writes[len(writes)-1]; {
	case s.kind.last == atEnd:
		require.Equal(s.t, end, last.off+last.len, "the end is not the last that is written")
	case s.kind.last == atFront && !(s.kind.set && main):
		front := slices.IndexFunc(writes, func(at step) bool { return at.off == 0 })
		require.Positive(s.t, front)
		for _, at := range writes[front:] { // one call writes a part of it
			require.Less(s.t, at.off, writes[0].off, "the front is not the last that is written")
		}
	}
}
