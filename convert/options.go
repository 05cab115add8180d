package convert

import (
	"fmt"
	"runtime"
	"time"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/qcow2"
	"github.com/diskimage-go/diskimage/raw"
	"github.com/diskimage-go/diskimage/vhd"
	"github.com/diskimage-go/diskimage/vmdk"
)

// Options say what to make of a disk, and how. The zero value makes a raw
// image; for most uses setting Format is enough.
type Options struct {
	Format Format              // of the target: Raw, QCOW2, VMDK or VHD; default Raw
	Raw    raw.WriterOptions   // for Format Raw; Size is set from the source
	QCOW2  qcow2.WriterOptions // for Format QCOW2; Size is set from the source
	VMDK   vmdk.WriterOptions  // for Format VMDK; Size is set from the source, FileName by ToFile if it is empty
	VHD    vhd.WriterOptions   // for Format VHD; Size is set from the source

	// Size is the target's guest size in bytes: at least the source's, the
	// rest zeros. Default: the source's.
	Size int64

	// MaxVirtualSize is how large the source's guest disk may be, in bytes: a
	// larger one is refused with [diskimage.ErrLimit], before anything is
	// written if its size is known then. Default: there is no limit, however
	// small the image's file is.
	MaxVirtualSize int64

	// MaxOutputSize is how long the image may become, in bytes, or all its files
	// together: [diskimage.ErrLimit] otherwise, before anything is written
	// where the data does not matter or where it is read twice (see
	// [ToWriter]), else as soon as it outgrows this. Holes in a raw image
	// count, for its length is meant. Default: there is no limit.
	MaxOutputSize int64

	Workers       int  // goroutines that read and encode, 1 to 256; default GOMAXPROCS
	AllocateZeros bool // write zeros as data, so that the target is fully allocated; default: they cost nothing
	OnlyTop       bool // only what the source's own layer holds, for a target with a backing image; default: the whole disk
	Digest        bool // SHA-256 of the guest disk, computed on the way; default: none
	BlockHash     bool // the guest disk's block hash, see Report.BlockHash; default: none
	FileDigest    bool // the SHA-256 of each file that is written, see Report.Files; a file, or an Output, which must be an io.ReaderAt, is read again for it; default: none
	Verify        bool // re-open the output, check it and compare its content before it gets its name; default: not
	Salvage       bool // replace what cannot be read by zeros and report it; default: an error
	Unsynced      bool // do not wait until the data is on the disk; default: wait
	TrustStored   bool // VMDK to compressed QCOW2: move compressed grains without decoding and verifying them; excludes whatever needs their data. Default: each is proven sound
	Ascending     bool // let the output see one write at a time, each behind all before it, but for the image's first bytes, which come last ([Measurement.Prefix]); default: up to 2*Workers batches behind a write may be written before it is
	Force         bool // ToFile: write to a block device in place, or over the files of a set; default: refuse

	// Progress is called with growing numbers, never from two goroutines at
	// once, about once per batch. Default: nobody is told.
	Progress func(Progress)
}

// A Phase is what a conversion is doing.
type Phase uint8

const (
	Planning   Phase = iota // a pipe's first pass: nothing is written
	Converting              // data moves
	Verifying               // the output is read back
	Hashing                 // so are its files, for FileDigest
)

func (p Phase) String() string {
	switch p {
	case Planning:
		return "planning"
	case Converting:
		return "converting"
	case Verifying:
		return "verifying"
	case Hashing:
		return "hashing"
	}
	return fmt.Sprintf("Phase(%d)", uint8(p))
}

// Progress counts guest bytes of data, of Hashing those of the files: those
// done, and those that have to be moved in this phase (-1 where the source
// cannot know).
type Progress struct {
	Phase       Phase
	Done, Total int64
}

// A Range is a run of guest bytes.
type Range struct{ Off, Len int64 }

// A Report tells what a conversion did. Lengths are in bytes.
type Report struct {
	Size         int64            // guest size of the target
	Data         int64            // guest bytes of the source that are stored as data
	Zeros        int64            // guest bytes of the source that its map tells to be zeros
	Holes        int64            // guest bytes of the source that no layer holds
	Moved        int64            // guest bytes that were moved in their compressed form
	Unverified   int64            // those of them that nobody has looked at, see Options.TrustStored
	Written      int64            // bytes written to the target
	Digest       []byte           // SHA-256 of the source's guest disk, if asked for
	BlockHash    []byte           // of the source's guest disk, if asked for: what blksum of libblkhash prints, with SHA-256 and blocks of 64 KiB; costs what the data costs
	OutputDigest []byte           // the same as Digest, of the output, up to the source's size, if it was read back: equal
	Files        []WrittenFile    // if FileDigest: the image's own file first, then those that it names, by their names
	Verified     bool             // the output was read back and found equal
	Unreadable   []Range          // what Salvage replaced by zeros, ascending
	Notes        []diskimage.Note // of the source, the target and the conversion
	Duration     time.Duration
}

// batchesInFlight bounds memory: each worker has one in hand, and some wait
// for their turn.
func batchesInFlight(workers int) int { return 2*workers + 1 }

const maxWorkers = 256

func (o Options) withDefaults() (Options, error) {
	if o.Format == Auto {
		o.Format = Raw
	}
	if o.Workers == 0 {
		o.Workers = min(runtime.GOMAXPROCS(0), maxWorkers)
	}
	if o.Workers < 1 || o.Workers > maxWorkers {
		return o, fmt.Errorf("convert: %d workers: 1 to %d are possible", o.Workers, maxWorkers)
	}
	if o.AllocateZeros && o.OnlyTop {
		return o, fmt.Errorf("convert: AllocateZeros and OnlyTop exclude each other")
	}
	if o.Size < 0 {
		return o, fmt.Errorf("convert: a target size of %d bytes", o.Size)
	}
	if o.MaxVirtualSize < 0 || o.MaxOutputSize < 0 {
		return o, fmt.Errorf("convert: limits of %d bytes of guest disk and %d of output: neither can be negative", o.MaxVirtualSize, o.MaxOutputSize)
	}
	if o.OnlyTop && o.digests() {
		return o, fmt.Errorf("convert: a digest needs the whole disk, OnlyTop reads one layer")
	}
	return o, nil
}

// digests reports whether the whole guest disk is hashed, in its order.
func (o *Options) digests() bool { return o.Digest || o.BlockHash }
