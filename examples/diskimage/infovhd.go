package main

import "github.com/diskimage-go/diskimage/vhd"

// describeVHD returns what only a VHD image has. The reference tells the block
// size of a dynamic disk, and nothing else; where the footer has two sizes,
// both are told here.
func describeVHD(d *vhd.Disk) formatInfo {
	v := d.Info()
	info := formatInfo{dirty: false, clusterSize: v.BlockSize, backing: d.ParentName()}
	if v.Type == vhd.Differencing {
		info.others, info.backingFormat = true, vhd.Name
	}
	if v.GeometrySize > 0 && v.GeometrySize != int64(v.CurrentSize) {
		info.specific = object{
			{"creator", v.Creator},
			{"current-size", v.CurrentSize},
			{"geometry-size", v.GeometrySize},
			{"size-rule", v.SizeRule.String()},
		}
	}
	return info
}
