//go:build race

package codec

// raceEnabled: sync.Pool, which the zstd module uses, drops what it holds at
// random under the race detector.
const raceEnabled = true
