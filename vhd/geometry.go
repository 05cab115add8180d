package vhd

// A Geometry is a disk's, as old interfaces want it.
type Geometry struct {
	Cylinders       int // 0 to 65535
	Heads           int // 0 to 255
	SectorsPerTrack int // 0 to 255
}

// Size returns the bytes that the geometry covers.
func (g Geometry) Size() int64 {
	return int64(g.Cylinders) * int64(g.Heads) * int64(g.SectorsPerTrack) * sectorSize
}

// largest is the geometry of every disk that is too large for one, and of one
// that is not to be gone by it.
var largest = Geometry{65535, 16, 255}

// geometryOf returns the geometry of a disk of so many sectors, which may cover
// fewer: specification, appendix "CHS Calculation".
func geometryOf(sectors int64) Geometry {
	sectors = min(sectors, 65535*16*255)
	var perTrack, heads, cylinderTimesHeads int64
	if sectors >= 65535*16*63 {
		perTrack, heads = 255, 16
		cylinderTimesHeads = sectors / perTrack
	} else {
		perTrack = 17
		cylinderTimesHeads = sectors / perTrack
		heads = max((cylinderTimesHeads+1023)/1024, 4)
		if cylinderTimesHeads >= heads*1024 || heads > 16 {
			perTrack, heads = 31, 16
			cylinderTimesHeads = sectors / perTrack
		}
		if cylinderTimesHeads >= heads*1024 {
			perTrack, heads = 63, 16
			cylinderTimesHeads = sectors / perTrack
		}
	}
	return Geometry{int(cylinderTimesHeads / heads), int(heads), int(perTrack)}
}

// geometryFor returns the smallest geometry of the specification's that covers
// so many sectors, or the largest there is: what QEMU makes of a size that it
// was not told to keep.
func geometryFor(sectors int64) Geometry {
	for n := sectors; n < 65535*16*255; n++ {
		if g := geometryOf(n); g.Size() >= sectors*sectorSize {
			return g
		}
	}
	return largest
}
