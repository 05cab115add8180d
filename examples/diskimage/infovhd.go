package main

import "github.com/diskimage-go/diskimage/vhd"

// describeVHD returns what only a VHD image has. The reference tells the block
// size of a dynamic disk, and nothing else.
func describeVHD(d *vhd.Disk) formatInfo {
	v := d.Info()
	info := formatInfo{dirty: false, clusterSize: v.BlockSize, backing: d.ParentName()}
	if v.Type == vhd.Differencing {
		info.others, info.backingFormat = true, vhd.Name
	}
	return info
}
