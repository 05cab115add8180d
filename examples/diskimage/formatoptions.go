package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strconv"
	"strings"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/convert"
	"github.com/diskimage-go/diskimage/qcow2"
	"github.com/diskimage-go/diskimage/vhd"
	"github.com/diskimage-go/diskimage/vmdk"
)

// formatOptions are what -o says of a target: "cluster_size=2M,compat=v2".
type formatOptions struct {
	qcow2      qcow2.WriterOptions
	vmdk       vmdk.WriterOptions
	vhd        vhd.WriterOptions
	backing    string        // the image below; "" if there is none
	below      []fs.FileInfo // its file, when it was opened
	backingFmt string
	size       int64  // -1: not given
	compat     string // as given
	prealloc   string // as given
	hwVersion  string // as given
	compat6    bool
	subformat  string // as given
	adapter    string // as given
	zeroed     string // as given
	forceSize  string // "on", "off"; "" if not given
}

// A formatOption is one name=value of -o.
type formatOption struct {
	name, value, about string
	set                func(o *formatOptions, value string) error
}

// optionsOf returns what -o may say of a target in this format, in the order
// of the reference's help.
func optionsOf(f convert.Format) []formatOption {
	size := formatOption{"size", "size", "Virtual disk size", func(o *formatOptions, v string) (err error) {
		o.size, err = sizeArgument("image size", v)
		return err
	}}
	prealloc := formatOption{"preallocation", "str", "Preallocation mode (allowed values: off)", func(o *formatOptions, v string) error {
		if o.prealloc = v; v != "off" {
			return fmt.Errorf("preallocation=%s is not supported, only off", v)
		}
		return nil
	}}
	backing := formatOption{"backing_file", "str", "File name of a base image", func(o *formatOptions, v string) error {
		if o.backing = v; v == "" {
			return errors.New("Expected backing file name, got empty string")
		}
		return nil
	}}
	backingFmt := formatOption{"backing_fmt", "str", "Image format of the base image", func(o *formatOptions, v string) error {
		o.backingFmt = v
		return nil
	}}
	switch f {
	case convert.QCOW2:
	case convert.VMDK:
		backingFmt.about = "Must be 'vmdk' if present"
		return vmdkOptions(backing, backingFmt, size)
	case convert.VHD:
		return vhdOptions(size)
	default:
		return []formatOption{prealloc, size}
	}
	return []formatOption{
		backing, backingFmt,
		{"cluster_size", "size", "qcow2 cluster size", setClusterSize},
		{"compat", "str", "Compatibility level (v2 [0.10] or v3 [1.1])", setCompat},
		{"compression_type", "str", "Compression method used for image cluster compression (zlib, zstd)", setCompression},
		{"lazy_refcounts", "bool (on/off)", "Postpone refcount updates", func(o *formatOptions, v string) (err error) {
			o.qcow2.LazyRefcounts, err = onOff("lazy_refcounts", v)
			return err
		}},
		prealloc,
		{"refcount_bits", "num", "Width of a reference count entry in bits", setRefcountBits},
		size,
		onlyOff("data_file_raw"), onlyOff("encryption"), onlyOff("extended_l2"),
	}
}

// onlyOff is an option that may be given as long as it asks for nothing.
func onlyOff(name string) formatOption {
	return formatOption{name: name, set: func(_ *formatOptions, v string) error {
		on, err := onOff(name, v)
		if err == nil && on {
			err = fmt.Errorf("%s=on is not supported", name)
		}
		return err
	}}
}

// known are options of the reference that this command has not, so that they
// are not called unknown.
func known(name string) bool {
	return name == "data_file" || name == "nocow" || name == "extent_size_hint" || strings.HasPrefix(name, "encrypt.")
}

func setClusterSize(o *formatOptions, v string) (err error) {
	o.qcow2.ClusterSize, err = parseSize(v)
	if err != nil {
		return fmt.Errorf("Parameter 'cluster_size' expects a size")
	}
	if n := o.qcow2.ClusterSize; n < 512 || n > 2<<20 || n&(n-1) != 0 {
		return errors.New("Cluster size must be a power of two between 512 and 2048k")
	}
	return nil
}

func setCompat(o *formatOptions, v string) error {
	switch o.compat = v; v {
	case "0.10", "v2":
		o.qcow2.Version = 2
	case "1.1", "v3":
		o.qcow2.Version = 3
	default:
		return fmt.Errorf("Parameter 'version' does not accept value '%s'", v)
	}
	return nil
}

func setCompression(o *formatOptions, v string) error {
	switch v {
	case "zlib":
		o.qcow2.Compression = diskimage.Deflate
	case "zstd":
		o.qcow2.Compression = diskimage.Zstd
	default:
		return fmt.Errorf("Parameter 'compression_type' does not accept value '%s'", v)
	}
	return nil
}

func setRefcountBits(o *formatOptions, v string) error {
	n, err := strconv.ParseUint(v, 10, 8)
	if err != nil || n == 0 || n > 64 || n&(n-1) != 0 {
		return errors.New("Refcount width must be a power of two and may not exceed 64 bits")
	}
	o.qcow2.RefcountBits = int(n)
	return nil
}

func onOff(name, v string) (bool, error) {
	switch v {
	case "on", "yes", "true", "y", "":
		return true, nil
	case "off", "no", "false", "n":
		return false, nil
	}
	return false, fmt.Errorf("Parameter '%s' expects 'on' or 'off'", name)
}

// parseFormatOptions reads the values of all -o of a command line: pairs
// parted by commas, two commas being one that is part of a value, and a lone
// name being name=on.
func parseFormatOptions(f convert.Format, given []string) (formatOptions, error) {
	o := formatOptions{size: -1}
	options := optionsOf(f)
	for _, pair := range splitCommas(given) {
		name, v, _ := strings.Cut(pair, "=")
		i := 0
		for i < len(options) && options[i].name != name {
			i++
		}
		switch {
		case i < len(options):
			if err := options[i].set(&o, v); err != nil {
				return o, err
			}
		case known(name):
			return o, fmt.Errorf("option '%s' is not supported for format %v", name, f)
		default:
			return o, fmt.Errorf("Invalid parameter '%s'", name)
		}
	}
	return o, o.agree()
}

// agree refuses what the reference's words put better than the library's.
func (o formatOptions) agree() error {
	switch {
	case o.compat6 && o.hwVersion != "":
		return errors.New("compat6 cannot be enabled with hwversion set")
	case o.vmdk.ZeroedGrains && o.flatVMDK():
		return errors.New("Flat image can't enable zeroed grain")
	}
	const v3 = " with compatibility level 1.1 and above (use version=v3 or greater)"
	if o.qcow2.Version != 2 {
		return nil
	}
	switch {
	case o.qcow2.LazyRefcounts:
		return errors.New("Lazy refcounts only supported" + v3)
	case o.qcow2.Compression == diskimage.Zstd:
		return errors.New("Non-zlib compression type is only supported" + v3)
	case o.qcow2.RefcountBits != 0 && o.qcow2.RefcountBits != 16:
		return errors.New("Different refcount widths than 16 bits require compatibility level 1.1 or above (use version=v3 or greater)")
	}
	return nil
}

func splitCommas(given []string) []string {
	const comma = "\x00" // cannot be part of an argument
	var pairs []string
	for _, g := range given {
		for _, pair := range strings.Split(strings.ReplaceAll(g, ",,", comma), ",") {
			if pair != "" {
				pairs = append(pairs, strings.ReplaceAll(pair, comma, ","))
			}
		}
	}
	return pairs
}

// wantsHelp reports whether -o asks what there is.
func wantsHelp(given []string) bool {
	for _, pair := range splitCommas(given) {
		if pair == "help" || pair == "?" {
			return true
		}
	}
	return false
}

// writeOptionHelp prints what -o may say.
func writeOptionHelp(w io.Writer, f convert.Format) error {
	fmt.Fprintf(w, "Supported %v options:\n", f)
	for _, o := range optionsOf(f) {
		if o.about == "" {
			continue
		}
		if _, err := fmt.Fprintf(w, "  %-22s - %s\n", o.name+"=<"+o.value+">", o.about); err != nil {
			return err
		}
	}
	return nil
}
