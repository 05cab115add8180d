// Package inflate decodes deflate streams (RFC 1951) whose input lies in
// memory whole and whose output is of known, moderate size: a cluster or a
// grain of a disk image.
//
// A streaming decoder keeps a window and can stop after any byte. Here the
// output is the window, and two loops share the work: as long as plenty of
// input and of room is left, the fast one decodes a symbol after a refill of
// eight bytes at once and copies in words, since nothing it touches can lie
// outside; the careful one does the rest and looks before every step.
package inflate
