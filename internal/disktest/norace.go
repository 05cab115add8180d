//go:build !race

package disktest

// Race is whether the race detector watches.
const Race = false
