package vmdk

import (
	"fmt"
	"strings"

	"github.com/diskimage-go/diskimage"
)

// A Subformat is a kind of image that a [Writer] builds: the createType of its
// descriptor.
type Subformat uint8

const (
	MonolithicSparse     Subformat = iota // one file that grows; VMware's and QEMU's default
	StreamOptimized                       // one compressed file, written front to back: what OVAs hold and clouds import
	MonolithicFlat                        // a descriptor, and a file with every byte in its place
	TwoGbMaxExtentSparse                  // a descriptor, and files that grow to about 2 GiB each
	TwoGbMaxExtentFlat                    // a descriptor, and flat files of at most 2 GiB each
)

var subformatNames = [...]string{
	MonolithicSparse:     "monolithicSparse",
	StreamOptimized:      "streamOptimized",
	MonolithicFlat:       "monolithicFlat",
	TwoGbMaxExtentSparse: "twoGbMaxExtentSparse",
	TwoGbMaxExtentFlat:   "twoGbMaxExtentFlat",
}

// String returns the createType, in VMware's spelling.
func (s Subformat) String() string { return nameOf(subformatNames[:], uint8(s), "Subformat") }

// ParseSubformat returns the Subformat of a createType, in any case.
func ParseSubformat(name string) (Subformat, error) {
	i, err := parseName(subformatNames[:], name, "subformat")
	return Subformat(i), err
}

// An AdapterType is the disk controller that the descriptor names. It decides
// the geometry that the descriptor states, and nothing else in the image.
type AdapterType uint8

const (
	IDE       AdapterType = iota // "ide"
	BusLogic                     // "buslogic"
	LSILogic                     // "lsilogic"
	LegacyESX                    // "legacyESX"
)

var adapterNames = [...]string{IDE: "ide", BusLogic: "buslogic", LSILogic: "lsilogic", LegacyESX: "legacyESX"}

// String returns the name that the descriptor has it by.
func (a AdapterType) String() string { return nameOf(adapterNames[:], uint8(a), "AdapterType") }

// ParseAdapterType returns the AdapterType of a descriptor's name, in any case.
func ParseAdapterType(name string) (AdapterType, error) {
	i, err := parseName(adapterNames[:], name, "adapter type")
	return AdapterType(i), err
}

func nameOf(names []string, i uint8, kind string) string {
	if int(i) < len(names) {
		return names[i]
	}
	return fmt.Sprintf("%s(%d)", kind, i)
}

func parseName(names []string, name, option string) (int, error) {
	for i, n := range names {
		if strings.EqualFold(n, name) {
			return i, nil
		}
	}
	return 0, badOption(option, "%s is not one of %s", diskimage.Quote(name), strings.Join(names, ", "))
}

// WriterOptions say what kind of image a [Writer] builds. With nothing but a
// Size it is a monolithicSparse image.
type WriterOptions struct {
	Size      int64     // guest bytes, at least 1. They have to be known: every kind states them first. What is no multiple of 512 is rounded up, and noted. No default
	Subformat Subformat // Default MonolithicSparse

	Adapter      AdapterType // Default IDE
	HWVersion    int         // ddb.virtualHWVersion, 1 to 99. Default 0: 4, which every product takes
	ToolsVersion string      // ddb.toolsVersion, at most 32 bytes. Default "": "2147483647", as QEMU writes

	GrainSize int64 // bytes that the sparse kinds map at once, a power of two from 4 KiB to 2 MiB; 64 KiB in a streamOptimized image. Default 64 KiB
	Level     int   // 1 to 9, of a streamOptimized image's deflate. Default 0: the codec's own

	CID  uint32 // the content identifier, by which a child knows its parent. Default 0: derived from the size, the other options and Seed
	Seed []byte // told apart by it are the CIDs of disks that are alike in all else. Default none

	// FileName is the image's own name, without a folder: the descriptor of a
	// single file names itself, and the files of a set are named after it. It
	// has no effect on the CID. Default "disk.vmdk".
	FileName string
	Creator  diskimage.Creator // makes the further files of kinds of several; required by those only. Default nil

	ParentHint string // of a sparse kind: the name of the image below, which is not opened. Default "": none
	ParentCID  uint32 // the CID of the image below. Default 0

	ZeroedGrains  bool // version 2 of the sparse kinds, in which an entry can say that a grain is zeros; it matters with a parent only. Default false
	AllocateZeros bool // store zeros too: those in Blocks and, without a parent, those between them. Default false
}

const (
	defaultGrainSize    = 64 << 10
	minGrainSize        = minGrain * sectorSize
	defaultHWVersion    = 4
	defaultToolsVersion = "2147483647"
	defaultFileName     = "disk.vmdk"
	deflateLevelMax     = 9
)

// withDefaults returns o with its defaults filled in, or the error of a bad
// value.
func (o WriterOptions) withDefaults() (WriterOptions, error) {
	if o.HWVersion == 0 {
		o.HWVersion = defaultHWVersion
	}
	if o.ToolsVersion == "" {
		o.ToolsVersion = defaultToolsVersion
	}
	if o.GrainSize == 0 {
		o.GrainSize = defaultGrainSize
	}
	if o.FileName == "" {
		o.FileName = defaultFileName
	}
	for _, check := range []func(WriterOptions) error{
		WriterOptions.checkDisk, WriterOptions.checkKind, WriterOptions.checkTexts,
	} {
		if err := check(o); err != nil {
			return o, err
		}
	}
	return o, nil
}

func (o WriterOptions) checkDisk() error {
	switch {
	case o.Size == -1:
		return badOption("size", "it has to be known before anything is written")
	case o.Size < 0:
		return badOption("size", "%d is negative", o.Size)
	case o.Size == 0:
		return badOption("size", "no product reads a VMDK of a disk of no bytes") // QEMU makes one, and cannot open it
	case int(o.Adapter) >= len(adapterNames):
		return badOption("adapter type", "%v is not known", o.Adapter)
	case o.HWVersion < 1 || o.HWVersion > 99:
		return badOption("hardware version", "%d is not one of 1 to 99", o.HWVersion)
	case o.CID == noParentCID:
		return badOption("CID", "%08x stands for no disk", o.CID)
	case o.ParentHint == "" && o.ParentCID != 0:
		return badOption("parent CID", "there is no parent")
	case o.ParentHint != "" && o.ParentCID == noParentCID:
		return badOption("parent CID", "%08x stands for no disk", o.ParentCID)
	}
	return nil
}

func (o WriterOptions) checkKind() error {
	if int(o.Subformat) >= len(subformatNames) {
		return badOption("subformat", "%v is not known", o.Subformat)
	}
	sparse := o.Subformat == MonolithicSparse || o.Subformat == TwoGbMaxExtentSparse
	switch {
	case o.GrainSize < minGrainSize || o.GrainSize > diskimage.BatchSize || o.GrainSize&(o.GrainSize-1) != 0:
		return badOption("grain size", "%d is not a power of two from %d to %d", o.GrainSize, minGrainSize, diskimage.BatchSize)
	case !sparse && o.GrainSize != defaultGrainSize:
		return badOption("grain size", "a %v image does not have the option", o.Subformat)
	case o.Subformat != StreamOptimized && o.Level != 0:
		return badOption("level", "a %v image is not compressed", o.Subformat)
	case o.Level < 0 || o.Level > deflateLevelMax:
		return badOption("level", "%d is not between 1 and %d", o.Level, deflateLevelMax)
	case !sparse && o.ZeroedGrains:
		return badOption("zeroed grains", "a %v image does not have them", o.Subformat)
	case !sparse && o.ParentHint != "":
		return badOption("parent", "a %v image does not have one", o.Subformat)
	case o.Subformat.Several() && o.Creator == nil:
		return badOption("creator", "a %v image consists of several files, and there is nobody to make them", o.Subformat)
	}
	return nil
}

// checkTexts checks what stands in the descriptor as it is.
func (o WriterOptions) checkTexts() error {
	const maxName = 1024 // the embedded descriptor has 10 KiB
	for _, text := range []struct {
		option, value string
		most          int
	}{
		{"tools version", o.ToolsVersion, 32}, {"file name", o.FileName, maxName}, {"parent", o.ParentHint, maxName},
	} {
		if len(text.value) > text.most {
			return badOption(text.option, "longer than %d bytes", text.most)
		}
		if err := checkText("option "+text.option, text.value); err != nil {
			return err
		}
	}
	return nil
}

func badOption(name, format string, args ...any) error {
	return &diskimage.Error{Kind: diskimage.ErrUnsupported, Format: Name, Off: -1,
		Field: "option " + name, Msg: fmt.Sprintf(format, args...)}
}
