package vmdk

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/internal/disktest"
)

// shown returns where an extent has data, and the data, read as a conversion
// does.
func (x *esxExtent) shown() (all []byte, err error) {
	p, _, err := x.open()
	if err != nil {
		return nil, err
	}
	if p.size() != x.sectors*sectorSize {
		return nil, errors.New("the line of the descriptor says another size")
	}
	if err := p.checkMap(); err != nil {
		return nil, err
	}
	for e, err := range diskimage.Extents(partDisk{p}, 0, p.size()) {
		if err != nil {
			return nil, err
		}
		if !e.IsZero() {
			got := make([]byte, e.Len)
			if n, err := (partDisk{p}).ReadAt(got, e.Off); n < len(got) {
				return nil, err
			}
			all = append(binary.LittleEndian.AppendUint64(all, uint64(e.Off)), got...)
		}
	}
	return all, nil
}

// TestESXTruncated cuts extents at every sector and beside it, as TestTruncated
// does.
func TestESXTruncated(t *testing.T) {
	for name, x := range map[string]*esxExtent{
		"cowd": {kind: kindVMFSSparse, sectors: 5000, grain: 4, grains: []esxGrain{{3, 0, noise(3, 4*sectorSize)}, {1249, 0, noise(4, 4*sectorSize)}}},
		"se":   {kind: kindSESparse, sectors: 5000, grains: []esxGrain{{3, seStateAllocated, noise(3, 8*sectorSize)}, {624, seStateAllocated, noise(4, 8*sectorSize)}}},
	} {
		t.Run(name, func(t *testing.T) {
			whole := x.build().file
			_, err := x.shown()
			require.NoError(t, err)
			for n := range len(whole) {
				if at := n % sectorSize; at > 1 && at != sectorSize-1 {
					continue
				}
				x.file = whole[:n:n]
				p, _, err := x.open()
				if err == nil {
					err = p.checkMap()
				}
				require.Error(t, err, "cut at %#x of %#x", n, len(whole))
			}
		})
	}
}

// TestESXBitFlips flips each bit of headers, directories and tables, as
// TestBitFlips does. What is listed are grains that become zeros: bits 60 and 61
// of an entry, of which both say that it is allocated, and one alone that it was
// given back, or is of zeros. A grain that was given back keeps its place.
func TestESXBitFlips(t *testing.T) {
	disktest.Alone(t)
	type stretch struct {
		name   string
		off, n int64
	}
	data := func(n int64, indices ...int64) (list []esxGrain) {
		for _, i := range indices {
			list = append(list, esxGrain{i, seStateAllocated, noise(uint64(i), n*sectorSize)})
		}
		return list
	}
	cowd := (&esxExtent{kind: kindVMFSSparse, sectors: 5000, grain: 1, grains: data(1, 0, 9, 8, 10, 4500)}).build()
	se := (&esxExtent{kind: kindSESparse, sectors: 40000, grains: append(data(8, 0, 3, 2, 4500), esxGrain{7, seStateZero, nil})}).build()
	volatile := int64(seHeaderLen)
	for name, c := range map[string]struct {
		x     *esxExtent
		parts []stretch
		list  []string // flips after which it reads differently
	}{
		"cowd": {cowd, []stretch{{"header", 0, 32}, {"unclean", offCOWDUncleanShutdown, 4}, {"directory", 2048, 12}, {"table", cowd.tables[0], 48}, {"second table", cowd.entryAt(4500) - 4, 12}}, nil},
		"se": {se, []stretch{{"header", 0, 216}, {"volatile header", volatile, 40}, {"directory", int64(binary.LittleEndian.Uint64(se.file[offSEGrainDirectory:])) * sectorSize, 24},
			{"table", se.tables[0], 80}, {"second table", se.entryAt(4500) - 8, 24}}, []string{
			"table 7 bit 4", "table 7 bit 5", "table 23 bit 4", "table 23 bit 5", "table 31 bit 4", "table 31 bit 5", "second table 15 bit 4", "second table 15 bit 5"}},
	} {
		t.Run(name, func(t *testing.T) {
			b := c.x.file
			want, err := c.x.shown()
			require.NoError(t, err)
			require.NotEmpty(t, want)
			var changed []string
			for _, p := range c.parts {
				for bit := range p.n * 8 {
					at, mask := p.off+bit/8, byte(1)<<(bit%8)
					b[at] ^= mask
					if got, err := c.x.shown(); err == nil && !bytes.Equal(got, want) {
						changed = append(changed, fmt.Sprintf("%s %d bit %d", p.name, bit/8, bit%8))
						if qemu, err := exec.LookPath("qemu-img"); err == nil && os.Getenv("DISKIMAGE_PEERS") != "no" {
							out, err := exec.Command(qemu, "check", c.x.write(t, t.TempDir())).CombinedOutput()
							require.NoError(t, err, "%s: %s", changed, out)
						}
					}
					b[at] ^= mask
				}
			}
			require.ElementsMatch(t, c.list, changed)
		})
	}
}
