package convert

import (
	"fmt"

	"github.com/diskimage-go/diskimage"
)

// A Format is an image format.
type Format uint8

const (
	Auto  Format = iota // not said: told by the content
	Raw                 // the disk's bytes and nothing else
	QCOW2               // QEMU's format, versions 2 and 3
	VMDK                // VMware's
	VHD                 // Microsoft's, of Virtual PC; not VHDX
	OVA                 // a package with disks in it, one of which is shown
)

// ParseFormat returns the format with a name as the command line has it:
// "raw", "qcow2", "vmdk", "vpc" or its alias "vhd", "ova", in lower case. The empty
// name is Auto. Anything else is [diskimage.ErrUnsupported].
func ParseFormat(name string) (Format, error) {
	switch name {
	case "":
		return Auto, nil
	case "raw":
		return Raw, nil
	case "qcow2":
		return QCOW2, nil
	case "vmdk":
		return VMDK, nil
	case "vpc", "vhd":
		return VHD, nil
	case "ova":
		return OVA, nil
	}
	return Auto, &diskimage.Error{Kind: diskimage.ErrUnsupported, Off: -1,
		Msg: "unknown format " + diskimage.Quote(name) + "; known are raw, qcow2, vmdk, vpc and ova"}
}

// String returns the format's name as QEMU has it: VHD is "vpc", Auto is
// "auto".
func (f Format) String() string {
	switch f {
	case Auto:
		return "auto"
	case Raw:
		return "raw"
	case QCOW2:
		return "qcow2"
	case VMDK:
		return "vmdk"
	case VHD:
		return "vpc"
	case OVA:
		return "ova"
	}
	return fmt.Sprintf("Format(%d)", uint8(f))
}
