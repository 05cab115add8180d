// Package deflate encodes whole blocks as deflate streams (RFC 1951): clusters
// of a disk image, all of whose input lies in memory.
//
// A unit is parsed, 64 KiB at a time, into tokens: literals and matches. The
// fast parse looks at two places for each match and runs over what does not
// match in growing steps; the lazy one follows chains of places and looks
// whether a match at the next position is better. The tokens are cut into
// blocks where that makes them shorter: content changes often within a
// cluster, and a code of its own for each part gains more than a longer search
// for matches does.
//
// All arithmetic is on integers and no state outlasts a unit, so that the same
// unit gives the same bytes on any machine, in any order.
package deflate
