package convert

import (
	"context"
	"fmt"
	"sync"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/qcow2"
	"github.com/diskimage-go/diskimage/vhd"
	"github.com/diskimage-go/diskimage/vmdk"
)

// MeasureOptions say what an image is to be made of a disk.
type MeasureOptions struct {
	// Format is Raw, QCOW2, VMDK or VHD. Default: Raw.
	Format Format

	// QCOW2 says how a QCOW2 image is to be written; its Size does not count.
	QCOW2 qcow2.WriterOptions

	// VMDK says how a VMDK is to be written; its Size and Creator do not count.
	VMDK vmdk.WriterOptions

	// VHD says how a VHD is to be written; its Size does not count.
	VHD vhd.WriterOptions
}

// A Measurement is the size of an image that does not exist yet, in bytes.
type Measurement struct {
	Size      int64 // of the guest disk
	Allocated int64 // guest bytes in units of the new image (clusters; bytes of raw) that hold some data

	// Required, FullyAllocated and Bitmaps are what "qemu-img measure" states:
	// what the image takes, what it takes once the guest has written to every
	// cluster, and what the source's bitmaps add to both: -1 if one of both
	// images has none. Required counts the tables of a fully allocated image,
	// and does not know of compression nor of zeros that are stored as data.
	// Of a VMDK and a VHD, which qemu-img does not measure, they are as
	// [vmdk.Measure] and [vhd.Measure] say: of all the image's files.
	Required, FullyAllocated, Bitmaps int64

	// Largest is what a conversion with the same options writes at most, be it
	// compressed or not: room for the file's length.
	Largest int64

	// Prefix is how many bytes at the start of the image are written last. An
	// output that only grows, such as an upload in parts, holds back so much.
	Prefix int64
}

// Measure tells how large the image of a disk will be, from its extents: no
// guest data is read. See [MeasureExactly] for what is known only afterwards.
func Measure(ctx context.Context, src diskimage.VirtualDisk, o MeasureOptions) (*Measurement, error) {
	unit, err := o.unit(src.Size())
	if err != nil {
		return nil, err
	}
	allocated, err := allocatedUnits(ctx, src, unit)
	if err != nil {
		return nil, err
	}
	m, err := o.measure(src.Size(), allocated)
	if err != nil {
		return nil, err
	}
	if o.Format == QCOW2 && o.QCOW2.BackingFile != "" {
		m.Required = m.FullyAllocated // QEMU expects that nothing is found in the image below
	}
	if d, ok := src.(*qcow2.Disk); ok && o.Format == QCOW2 && o.QCOW2.Version != 2 && d.Info().Version >= 3 {
		m.Bitmaps = bitmapBytes(src.Size(), d.Info().Bitmaps, unit)
	}
	return m, nil
}

// MeasureSize tells how large the image of an empty disk of so many bytes will
// be.
func MeasureSize(size int64, o MeasureOptions) (*Measurement, error) {
	if _, err := o.unit(size); err != nil {
		return nil, err
	}
	return o.measure(size, 0)
}

// unit checks the options and returns what the new image maps at once.
func (o MeasureOptions) unit(size int64) (int64, error) {
	switch o.Format {
	case Auto, Raw:
		return 1, nil
	case QCOW2:
		return qcow2.Prefix(o.QCOW2) // which is a cluster
	case VMDK:
		w, err := o.vmdkWriter(size)
		if err != nil {
			return 0, err
		}
		return w.Unit(), nil
	case VHD:
		w, err := o.vhdWriter(size)
		if err != nil {
			return 0, err
		}
		return w.BlockSize(), nil
	}
	return 0, &diskimage.Error{Kind: diskimage.ErrUnsupported, Format: o.Format.String(), Off: -1, Msg: "it cannot be measured"}
}

// vmdkWriter returns a writer that makes nothing.
func (o MeasureOptions) vmdkWriter(size int64) (*vmdk.Writer, error) {
	o.VMDK.Size, o.VMDK.Creator = size, new(nowhere)
	return vmdk.NewWriter(new(nowhere), o.VMDK)
}

// vhdWriter returns a writer that makes nothing.
func (o MeasureOptions) vhdWriter(size int64) (*vhd.Writer, error) {
	o.VHD.Size = size
	return vhd.NewWriter(new(nowhere), o.VHD)
}

// measure fills in all but the bitmaps.
func (o MeasureOptions) measure(size, allocated int64) (*Measurement, error) {
	m := &Measurement{Size: size, Allocated: allocated, Bitmaps: -1}
	switch o.Format {
	case QCOW2:
		return m, o.measureQCOW2(m)
	case VMDK:
		return m, o.measureVMDK(m)
	case VHD:
		return m, o.measureVHD(m)
	}
	const sector = 512 // QEMU counts them whole; we write size bytes
	if size < 0 || size > 1<<63-sector {
		return nil, fmt.Errorf("a disk cannot have %d bytes", size)
	}
	m.Required = (size + sector - 1) / sector * sector
	m.FullyAllocated, m.Largest = m.Required, size
	return m, nil
}

func (o MeasureOptions) measureQCOW2(m *Measurement) (err error) {
	largest := m.Allocated
	if o.QCOW2.AllocateZeros {
		largest = m.Size
	}
	if m.Largest, err = qcow2.MaxSize(m.Size, largest, o.QCOW2); err != nil {
		return err
	}
	if m.Prefix, err = qcow2.Prefix(o.QCOW2); err != nil {
		return err
	}
	m.Required, m.FullyAllocated, err = qcow2.Measure(m.Size, m.Allocated, o.QCOW2)
	return err
}

func (o MeasureOptions) measureVMDK(m *Measurement) error {
	w, err := o.vmdkWriter(m.Size)
	if err != nil {
		return err
	}
	m.Prefix = w.Prefix()
	m.Required, m.FullyAllocated, err = vmdk.Measure(m.Size, m.Allocated, o.VMDK)
	m.Largest = m.Required
	if o.VMDK.AllocateZeros {
		m.Largest = m.FullyAllocated
	}
	return err
}

func (o MeasureOptions) measureVHD(m *Measurement) error {
	w, err := o.vhdWriter(m.Size)
	if err != nil {
		return err
	}
	m.Prefix = w.Prefix()
	m.Required, m.FullyAllocated, err = vhd.Measure(m.Size, m.Allocated, o.VHD)
	m.Largest = m.Required
	return err
}

// allocatedUnits returns how many bytes the units take that hold some data.
func allocatedUnits(ctx context.Context, src diskimage.VirtualDisk, unit int64) (int64, error) {
	var sum, counted int64 // counted: everything before it is in sum, if it counts
	for e, err := range diskimage.Extents(src, 0, src.Size()) {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return 0, err
		}
		if e.IsZero() {
			continue
		}
		from := max(counted, e.Off&^(unit-1))
		end := (e.End() + unit - 1) &^ (unit - 1)
		if end < 0 {
			return 0, &diskimage.Error{Kind: diskimage.ErrLimit, Off: -1, Msg: fmt.Sprintf("a disk of %d bytes", src.Size())}
		}
		if end > from {
			sum, counted = sum+end-from, end
		}
	}
	return sum, nil
}

// bitmapBytes returns what QEMU states for the copies of bitmaps in an image
// of such clusters: each with its table, in use or not, and their directory.
func bitmapBytes(size int64, bitmaps []qcow2.Bitmap, cluster int64) int64 {
	round := func(n, unit int64) int64 { return (n + unit - 1) / unit }
	var sum, dir int64
	for _, b := range bitmaps {
		clusters := round(round(round(size, b.Granularity), 8), cluster)
		sum += (clusters + round(clusters*8, cluster)) * cluster
		const entry = 24 // the fixed part of an entry of the bitmap directory
		dir += round(entry+int64(len(b.Name)), 8) * 8
	}
	return sum + round(dir, cluster)*cluster
}

// MeasureExactly returns the length of the image file, or of all its files
// together, that a conversion with these options makes, compressed or not, by
// doing it without storing anything: all guest data is read, and encoded if o
// says so.
func MeasureExactly(ctx context.Context, src diskimage.VirtualDisk, o Options) (int64, error) {
	var out nowhere
	o.Verify, o.Digest, o.BlockHash, o.FileDigest = false, false, false, false
	if o.several() {
		o.VMDK.Creator = &out
	}
	if _, err := ToOutput(ctx, &out, src, o); err != nil {
		return 0, err
	}
	return out.length(), nil
}

// nowhere is an Output that keeps nothing but its length, and a Creator of
// others.
type nowhere struct {
	mu     sync.Mutex
	end    int64
	others []*nowhere
}

func (n *nowhere) Create(string) (diskimage.Output, error) {
	other := new(nowhere)
	n.others = append(n.others, other)
	return other, nil
}

// length returns that of all files.
func (n *nowhere) length() int64 {
	sum := n.end
	for _, other := range n.others {
		sum += other.end
	}
	return sum
}

func (n *nowhere) WriteAt(p []byte, off int64) (int, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.end = max(n.end, off+int64(len(p)))
	return len(p), nil
}

func (n *nowhere) Truncate(size int64) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.end = size
	return nil
}

func (n *nowhere) ZeroFilled() bool { return true }
