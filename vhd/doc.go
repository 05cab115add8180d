// Package vhd reads and writes Microsoft's Virtual Hard Disk images, the format
// of Virtual PC, Hyper-V's first generation, Azure and XenServer, which QEMU
// calls "vpc": fixed, dynamic and differencing disks. VHDX is another format.
//
//	fixed                       dynamic, differencing
//	┌──────────────────────┐    ┌──────────────────────┐
//	│ the disk             │    │ copy of the footer   │ 512 bytes
//	│                      │    │ dynamic disk header  │ 1024 bytes
//	│                      │    │ block allocation     │ an entry of 4 bytes per block:
//	│                      │    │ table                │ its first sector
//	│                      │    │ parent locators      │ of a differencing disk
//	│                      │    │ ┌──────────────────┐ │
//	│                      │    │ │ sector bitmap    │ │ a bit per sector: set
//	│                      │    │ │ block            │ │ where it is the disk's own
//	│                      │    │ └──────────────────┘ │ and so on
//	│ footer               │    │ footer               │ 512 bytes
//	└──────────────────────┘    └──────────────────────┘
//
// [Open] shows an image as a disk, [NewWriter] makes one, [Check] tells what is
// wrong with one.
//
// Source: Microsoft, "Virtual Hard Disk Image Format Specification", version
// 1.0 (October 2006), and what products were seen to write; who they are is
// said where it matters.
package vhd
