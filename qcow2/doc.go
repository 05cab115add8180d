// Package qcow2 reads, writes and checks QCOW2 images, as "The QCOW2 image
// format" (QEMU, docs/interop/qcow2.rst) describes them, versions 2 and 3.
//
// A guest offset is looked up in two steps: the L1 table, which stays in place,
// names the L2 tables, and an entry of one of those says where a cluster is.
//
//	guest offset   | l1 index | l2 index | offset in the cluster |
//	                    │          │
//	   header ──► L1 ──►├─► L2 ───►├─► cluster: as it is, compressed, or zeros
//	                    │          └─► nothing: the backing image's, or zeros
//	                    └─► nothing: the same, for all that an L2 table maps
//
// [Open] shows an image's guest disk as a [Disk]: every feature that QEMU
// writes is read, but for encryption, which is refused by name. Tables are
// read when they are needed and kept in a bounded cache, so that opening costs
// the same for any size of disk.
//
// An image that breaks the format's rules is an error, told when what it is
// about is asked for: header and limits by Open, tables by ReadAt and
// NextExtent. Refcounts are not needed to read; they are for a check to judge.
package qcow2
