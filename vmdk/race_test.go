//go:build race

package vmdk_test

// raceEnabled: what has no goroutines and takes long, or is held to a time, is
// of no use under the race detector.
const raceEnabled = true
