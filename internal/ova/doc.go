// Package ova reads OVA files: OVF packages (DMTF DSP0243, "Open
// Virtualization Format Specification", versions 1 and 2) as one tar.
//
//	x.ovf    the descriptor, always first: which files there are, and which of
//	         them are disks
//	x.mf     the manifest, optional: digests of the descriptor and the files
//	x.cert   its signature, optional; not verified here
//	files    disks and whatever else, in the order of the descriptor
//	(x.mf and x.cert may come here instead)
//
// A [Package] is an OVA that can be read at any offset, a [Reader] one that
// comes front to back. They refuse the same archives. Beside plain files and
// folders a tar can hold much that is read differently by different programs,
// or that leads out of it: links, sparse files, devices, absolute names, names
// with "..", a name twice. None of that belongs in an OVA, all of it is
// [diskimage.ErrCorrupt].
package ova

import "github.com/diskimage-go/diskimage"

// Name is the format's name in errors and notes.
const Name = "ova"

// corrupt returns an error of that kind; off is -1 where there is none.
func corrupt(field string, off int64, msg string) *diskimage.Error {
	return failure(diskimage.ErrCorrupt, field, off, msg)
}

func failure(kind diskimage.ErrorKind, field string, off int64, msg string) *diskimage.Error {
	return &diskimage.Error{Kind: kind, Format: Name, Off: off, Field: field, Msg: msg}
}

func memberField(name string) string { return "member " + diskimage.Quote(name) }
