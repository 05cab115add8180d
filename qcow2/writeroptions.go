package qcow2

import (
	"fmt"
	"math/bits"
	"strings"

	"github.com/diskimage-go/diskimage"
)

// WriterOptions say what kind of image a [Writer] builds. The zero value is
// what every importer takes, of a disk of no bytes: version 3, clusters of
// 64 KiB, refcounts of 16 bits, nothing compressed, no optional feature.
type WriterOptions struct {
	Size         int64              // guest bytes; -1: SetSize tells before Finish. A size that is no multiple of 512 is rounded up, and noted. Default 0
	Version      int                // 2 (QEMU's compat=0.10) or 3 (compat=1.1). Default 3
	ClusterSize  int64              // bytes, a power of two from 512 to 2 MiB. Default 64 KiB
	RefcountBits int                // 1, 2, 4, 8, 16, 32 or 64; 16 in version 2. Default 16
	Compression  diskimage.Encoding // Plain: none; Deflate; Zstd, which wants version 3. Default Plain
	Level        int                // 1 to 9 of Deflate, 1 to 22 of Zstd. Default 0: the codec's own
	Window       int                // the longest distance of a Deflate match: 4096, which every reader takes, or 32768. Default 0: 4096 for what the writer encodes, any for streams that are moved

	BackingFile   string // the name of the image below, at most 1023 bytes; it is not opened. Default "": none
	BackingFormat string // its format in QEMU's words; required with BackingFile, as readers would guess otherwise. Default ""

	AllocateZeros bool // give zeros their clusters too: those in Blocks and, without a backing file, those between them. Default false
	LazyRefcounts bool // set the feature bit that lets QEMU postpone refcount updates; version 3. Default false
}

const (
	defaultClusterSize = 64 << 10
	deflateWindow      = 4 << 10  // strict readers inflate with window bits -12, as QEMU writes
	deflateWindowMax   = 32 << 10 // RFC 1951
	deflateLevelMax    = 9
	zstdLevelMax       = 22
)

// withDefaults returns o with its defaults filled in, or the error of a bad
// value.
func (o WriterOptions) withDefaults() (WriterOptions, error) {
	if o.Version == 0 {
		o.Version = 3
	}
	if o.ClusterSize == 0 {
		o.ClusterSize = defaultClusterSize
	}
	if o.RefcountBits == 0 {
		o.RefcountBits = 1 << defaultRefcountOrder
	}
	for _, check := range []func(WriterOptions) error{
		WriterOptions.checkFormat, WriterOptions.checkCompression, WriterOptions.checkBacking,
	} {
		if err := check(o); err != nil {
			return o, err
		}
	}
	return o, nil
}

func (o WriterOptions) checkFormat() error {
	switch {
	case o.Size < -1:
		return badOption("size", "%d is negative", o.Size)
	case o.Version != 2 && o.Version != 3:
		return badOption("version", "%d is not 2 or 3", o.Version)
	case o.ClusterSize < 1<<minClusterBits || o.ClusterSize > 1<<maxClusterBits || o.ClusterSize&(o.ClusterSize-1) != 0:
		return badOption("cluster size", "%d is not a power of two from 512 to 2097152", o.ClusterSize)
	case o.RefcountBits < 1 || o.RefcountBits > 64 || o.RefcountBits&(o.RefcountBits-1) != 0:
		return badOption("refcount bits", "%d is not a power of two from 1 to 64", o.RefcountBits)
	case o.Version == 2 && o.RefcountBits != 1<<defaultRefcountOrder:
		return badOption("refcount bits", "version 2 has refcounts of 16 bits only")
	case o.Version == 2 && o.LazyRefcounts:
		return badOption("lazy refcounts", "version 2 does not have them")
	}
	return nil
}

func (o WriterOptions) checkCompression() error {
	switch o.Compression {
	case diskimage.Plain:
		if o.Level != 0 || o.Window != 0 {
			return badOption("compression", "a level or a window without compression")
		}
	case diskimage.Deflate:
		switch {
		case o.Window != 0 && o.Window != deflateWindow && o.Window != deflateWindowMax:
			return badOption("window", "%d is not %d or %d", o.Window, deflateWindow, deflateWindowMax)
		case o.Level < 0 || o.Level > deflateLevelMax:
			return badOption("level", "%d is not between 1 and %d", o.Level, deflateLevelMax)
		}
	case diskimage.Zstd:
		switch {
		case o.Version == 2:
			return badOption("compression", "version 2 does not have zstd")
		case o.Window != 0:
			return badOption("window", "zstd does not have the option: its window is the cluster")
		case o.Level < 0 || o.Level > zstdLevelMax:
			return badOption("level", "%d is not between 1 and %d", o.Level, zstdLevelMax)
		}
	default:
		return badOption("compression", "%v is not known", o.Compression)
	}
	return nil
}

func (o WriterOptions) checkBacking() error {
	switch {
	case o.BackingFile == "" && o.BackingFormat == "":
		return nil
	case o.BackingFile == "":
		return badOption("backing format", "there is no backing file")
	case o.BackingFormat == "":
		return badOption("backing format", "it is required with a backing file: readers would guess it from the content")
	case strings.ContainsRune(o.BackingFile, 0) || strings.ContainsRune(o.BackingFormat, 0):
		return badOption("backing file", "a NUL in the name or the format")
	case len(o.BackingFormat) > maxBackingFormat:
		return badOption("backing format", "longer than %d bytes", maxBackingFormat)
	case len(o.BackingFile) > maxBackingName:
		return badOption("backing file", "the name is longer than %d bytes", maxBackingName)
	}
	return nil
}

func badOption(name, format string, args ...any) error {
	return &diskimage.Error{Kind: diskimage.ErrUnsupported, Format: Name, Off: -1,
		Field: "option " + name, Msg: fmt.Sprintf(format, args...)}
}

// geometry is the arithmetic of an image's clusters and tables.
type geometry struct {
	clusterBits   uint
	refcountOrder uint
}

func (o WriterOptions) geometry() geometry {
	return geometry{
		clusterBits:   uint(bits.TrailingZeros64(uint64(o.ClusterSize))),
		refcountOrder: uint(bits.TrailingZeros(uint(o.RefcountBits))),
	}
}

func (g geometry) clusterSize() int64 { return 1 << g.clusterBits }

// clusters returns how many clusters n bytes take.
func (g geometry) clusters(n int64) int64 {
	c := n >> g.clusterBits
	if n&(g.clusterSize()-1) != 0 {
		c++
	}
	return c
}

// alignUp returns the first cluster boundary at off or after it.
func (g geometry) alignUp(off int64) int64 {
	return (off + g.clusterSize() - 1) &^ (g.clusterSize() - 1)
}

// l2Bits is the binary logarithm of the entries of an L2 table.
func (g geometry) l2Bits() uint { return g.clusterBits - 3 }

// l2Tables returns how many L2 tables map a disk of so many bytes.
func (g geometry) l2Tables(size int64) int64 { return ceilShift(g.clusters(size), g.l2Bits()) }

// l1Clusters returns how many clusters an L1 table for so many L2 tables takes.
// There is always one, though a disk of no bytes needs none.
func (g geometry) l1Clusters(tables int64) int64 {
	return max(1, ceilShift(tables, g.clusterBits-3))
}

// checkSize refuses a disk that no L1 table within QEMU's limit maps.
func (g geometry) checkSize(size int64) error {
	const most = maxL1Bytes / 8
	if g.l2Tables(size) <= most {
		return nil
	}
	hint := "use larger clusters"
	if g.clusterBits == maxClusterBits {
		hint = "no cluster size allows it"
	}
	return &diskimage.Error{Kind: diskimage.ErrLimit, Format: Name, Off: -1, Field: "l1 table",
		Msg: fmt.Sprintf("a disk of %d bytes in clusters of %d needs more than %d entries; %s", size, g.clusterSize(), most, hint)}
}

// refBlockBits is the binary logarithm of the host clusters that one refcount
// block counts.
func (g geometry) refBlockBits() uint { return g.clusterBits + 3 - g.refcountOrder }

// withRefcounts returns how many refcount blocks and clusters of refcount
// table count so many clusters, themselves included.
func (g geometry) withRefcounts(clusters int64) (blocks, table int64) {
	for {
		b := ceilShift(clusters+blocks+table, g.refBlockBits())
		t := ceilShift(b, g.clusterBits-3)
		if b == blocks && t == table {
			return blocks, table
		}
		blocks, table = b, t
	}
}

// ceilShift returns n / 2^s, rounded up.
func ceilShift(n int64, s uint) int64 { return (n + 1<<s - 1) >> s }
