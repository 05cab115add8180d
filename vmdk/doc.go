// Package vmdk reads, writes and checks VMDK images, as VMware's technical note
// "Virtual Disk Format 5.0" describes them.
//
// A VMDK is a descriptor, which is text, and one or more extents, which hold
// the guest's bytes one after the other. An extent is flat, all zeros, or
// sparse; a sparse extent with the descriptor embedded in it is an image of one
// file. This package calls an extent of the disk a part, since an extent is
// something else to [diskimage.Extent].
//
// In a sparse extent a guest offset is looked up in two steps: the grain
// directory names the grain tables, and an entry of one of those says where a
// grain is.
//
//	guest offset          | directory entry | table entry | offset in the grain |
//	                            │                │
//	   header ──► grain directory ──► grain table ──► grain: as it is, compressed, or zeros
//	                            │                └─► nothing: the parent's, or zeros
//	                            └─► nothing: the same, for all that a table maps
//
// An image that breaks the format's rules is an error, told when what it is
// about is asked for: header, descriptor and limits when the image is opened,
// tables when they are read.
package vmdk
