package main

import (
	"errors"
	"fmt"

	"github.com/diskimage-go/diskimage/vhd"
)

// vhdOptions returns what -o may say of a VHD target: the reference's, then
// ours.
func vhdOptions(size formatOption) []formatOption {
	return []formatOption{
		{"force_size", "bool (on/off)", "Force disk size calculation to use the actual size specified, rather than using the nearest CHS-based calculation", func(o *formatOptions, v string) error {
			on, err := onOff("force_size", v)
			o.forceSize = map[bool]string{true: "on", false: "off"}[on]
			return err
		}},
		size,
		{"subformat", "str", "Type of virtual hard disk format. Supported formats are {dynamic (default) | fixed} ", func(o *formatOptions, v string) error {
			switch o.subformat = v; v {
			case "dynamic":
				o.vhd.Type = vhd.Dynamic
			case "fixed":
				o.vhd.Type = vhd.Fixed
			default:
				return fmt.Errorf("Parameter 'subformat' does not accept value '%s'", v)
			}
			return nil
		}},
		{"azure", "bool (on/off)", "What Azure takes: a fixed disk of exact size, padded to whole MiB", func(o *formatOptions, v string) (err error) {
			o.vhd.Azure, err = onOff("azure", v)
			return err
		}},
		{"block_size", "size", "Block size of a dynamic disk, a power of two between 4k and 2M (default)", func(o *formatOptions, v string) (err error) {
			if o.vhd.BlockSize, err = parseSize(v); err != nil {
				return errors.New("Parameter 'block_size' expects a size")
			}
			if n := o.vhd.BlockSize; n < 4<<10 || n > 2<<20 || n&(n-1) != 0 {
				return errors.New("Block size must be a power of two between 4k and 2M")
			}
			return nil
		}},
	}
}

// completeVHD makes the writer's options of a VHD whole. Where nothing is said
// of the size it is, as the reference has it, one that a geometry covers.
func (o *formatOptions) completeVHD() {
	if o.backing != "" {
		o.vhd.Type = vhd.Differencing
		o.vhd.Parent = &vhd.Parent{Name: o.backing} // its identifier is known when it is open
	}
	exact := o.vhd.Azure || o.vhd.Parent != nil
	o.vhd.Geometric = o.forceSize == "off" || o.forceSize == "" && !exact
}

// fixedVHD reports whether a VHD target has no tables in front.
func fixedVHD(o vhd.WriterOptions) bool { return o.Type == vhd.Fixed || o.Azure && o.Type == 0 }

// formattingVHD adds what the reference prints of a VHD that it creates, and
// what it has not if it was said.
func (o *formatOptions) formattingVHD(add func(key string, value any)) {
	add("size", o.size)
	if o.subformat != "" {
		add("subformat", o.subformat)
	}
	if o.forceSize != "" {
		add("force_size", o.forceSize)
	}
	if o.vhd.Azure {
		add("azure", "on")
	}
	if o.vhd.BlockSize != 0 {
		add("block_size", o.vhd.BlockSize)
	}
}
