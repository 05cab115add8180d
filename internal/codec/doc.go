// Package codec encodes and decodes the compressed units of disk images:
// clusters and grains, each one bare deflate stream (RFC 1951) or a run of
// zstd frames (RFC 8878). A unit is small, its size is known, and all of it is
// in memory; so both directions work on whole slices, on the caller's
// goroutine, and allocate nothing once they are warm.
//
// A [Decoder] and an [Encoder] hold tables of some hundred KiB and are not
// safe for concurrent use: keep one of each per worker.
package codec
