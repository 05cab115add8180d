package imagetest

import (
	"bytes"
	"math/rand/v2"
	"strconv"
)

// VMDKShapes returns sound sparse extents of every layout, by name: grains of
// several sizes, of every kind, a table that is missing where the layout
// allows that, and a capacity that is no multiple of the grain. They are small:
// some MiB of guest data at most, mostly holes.
func VMDKShapes() map[string]VMDK {
	all := map[string]VMDK{}
	for name, v := range map[string]VMDK{
		"sparse":          {},
		"sparse-no-rgd":   {NoRGD: true},
		"sparse-zeroed":   {Version: 2},
		"exported":        {Dialect: Exported},
		"front":           {Dialect: FrontIndex},
		"front-redundant": {Dialect: QEMUStream},
	} {
		for _, grain := range []int64{8, 16, 128, 1024} {
			v.Grain = grain
			rnd := rand.New(rand.NewPCG(uint64(grain), uint64(len(name))))
			v.Grains = nil
			for range min(24, 8192/grain) {
				v.Grains = append(v.Grains, v.anyGrain(rnd))
			}
			if grain < 128 { // a table's worth of hole and more, and something behind it
				v.Grains = append(v.Grains, make([]Grain, 1200)...)
				v.Grains = append(v.Grains, Grain{Kind: Plain, Data: []byte("the end")})
			}
			v.Sectors = int64(len(v.Grains))*grain - 3
			all[name+"-"+strconv.FormatInt(grain, 10)] = v
		}
	}
	return all
}

// anyGrain returns a grain of a kind that the extent may have.
func (v VMDK) anyGrain(rnd *rand.Rand) Grain {
	noise := make([]byte, v.Grain*sector)
	for i := range noise {
		noise[i] = byte(rnd.Uint32())
	}
	switch rnd.IntN(5) {
	case 0:
		return Grain{}
	case 1: // streams of any length
		text := bytes.Repeat([]byte{byte(rnd.Uint32()), 'x'}, len(noise)/2)
		copy(text, noise[:rnd.IntN(len(noise)*2/3)])
		return Grain{Kind: Plain, Data: text}
	case 2:
		if v.Version == 2 {
			return Grain{Kind: Zeros}
		}
	}
	return Grain{Kind: Plain, Data: noise}
}
