//go:build race

package disktest

// Race is whether the race detector watches. Under it memory is several times
// as dear, the pools of the standard library drop what they hold at random, and
// what is held to a time or to a number of allocations fails.
const Race = true
