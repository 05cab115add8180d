package main

import "github.com/diskimage-go/diskimage/vmdk"

// describeVMDK returns what only a VMDK image has. Like the reference it tells
// a cluster size if all sparse extents have the same grains and there is no
// other, and of an embedded descriptor's extent not what the text says but
// what it is: this file.
func describeVMDK(name string, v vmdk.Info) formatInfo {
	info := formatInfo{backing: v.ParentHint, others: v.ParentHint != "", dirty: false}
	if v.ParentHint != "" {
		info.backingFormat = vmdk.Name
	}
	extents := list{}
	for i, e := range v.Extents {
		o := object{
			{"compressed", nil},
			{"virtual-size", e.Sectors * 512},
			{"filename", name},
			{"cluster-size", nil},
			{"format", ""},
		}
		if !v.Embedded {
			o.set("filename", orNil(beside(name, e.FileName)))
			o.set("format", e.Type)
			info.others = info.others || e.FileName != ""
			info.parts = info.parts || e.FileName != ""
		}
		if e.Compressed {
			o.set("compressed", true)
		}
		if e.GrainSize > 0 {
			o.set("cluster-size", e.GrainSize)
		}
		if i == 0 {
			info.clusterSize = e.GrainSize
		} else if e.GrainSize != info.clusterSize {
			info.clusterSize, info.dirty = 0, nil // what the reference says of extents that differ
		}
		extents = append(extents, o)
	}
	info.specific = object{
		{"cid", v.CID},
		{"parent-cid", v.ParentCID},
		{"create-type", v.CreateType},
		{"extents", extents},
	}
	return info
}
