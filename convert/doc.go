// Package convert opens disk images of any format that this module reads and
// pipes their guest data into a new image, on all cores.
//
//	            one at a time          concurrent            one at a time      concurrent
//	source ──► plan: next 2 MiB  ──► fill: read, decode ──► place: in guest ──► store: few
//	           that hold data        encode: zeros, codec    order, digest      large writes
//
// Whoever completes the head of the order places all that are ready and then
// stores them; no goroutine does nothing else. A fixed number of batches is in
// flight, so memory does not depend on the disk. sequential.go is the same as
// one loop: it documents the order, is what one worker runs, and is what the
// concurrent form is tested against: both make the same bytes.
//
// [ToFile] finishes under the final name or leaves nothing; [ToOutput] writes
// to anything with WriteAt; [ToWriter] writes to a pipe, in two passes where
// the format has its header first.
package convert
