package vmdk

import "strconv"

// A Geometry is a disk's shape as a BIOS sees it. Their product is the disk's
// size only roughly, and nothing is read by it.
type Geometry struct {
	Cylinders int64
	Heads     int64
	Sectors   int64 // of a track
}

// geometryFor returns the geometry that VMware's products give a new disk.
//
//   - IDE: 16 heads of 63 sectors, and no more than the 16,383 cylinders that
//     ATA can tell. QEMU goes on counting.
//   - SCSI: as the BIOS of BusLogic's adapters translates, which is folklore that
//     the exports of VMware, VirtualBox and AWS at hand agree with: 64 heads of
//     32 sectors below 1 GiB, 128 of 32 below 2 GiB, else 255 of 63. QEMU has
//     255 of 63 for all, and so 0 cylinders for a disk below 8 MiB.
//
// What is left of a last cylinder does not count; there is one at least.
func geometryFor(sectors int64, ide bool) Geometry {
	const gib = 1 << 30 / 512
	g := Geometry{Heads: 255, Sectors: 63}
	switch {
	case ide:
		g.Heads = 16
	case sectors < gib:
		g.Heads, g.Sectors = 64, 32
	case sectors < 2*gib:
		g.Heads, g.Sectors = 128, 32
	}
	g.Cylinders = max(1, sectors/(g.Heads*g.Sectors))
	if ide {
		g.Cylinders = min(g.Cylinders, 16383)
	}
	return g
}

// geometry returns what the disk database says, and whether it says all of it.
func (d *descriptor) geometry() (g Geometry, ok bool) {
	for _, f := range []struct {
		key string
		to  *int64
	}{
		{"ddb.geometry.cylinders", &g.Cylinders},
		{"ddb.geometry.heads", &g.Heads},
		{"ddb.geometry.sectors", &g.Sectors},
	} {
		value, _ := d.lookup(f.key)
		n, err := strconv.ParseUint(value, 10, 63)
		if err != nil {
			return Geometry{}, false
		}
		*f.to = int64(n)
	}
	return g, true
}
