package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/diskimage-go/diskimage/vmdk"
)

// vmdkOptions returns what -o may say of a VMDK target.
func vmdkOptions(backing, backingFmt, size formatOption) []formatOption {
	return []formatOption{
		{"adapter_type", "str", "Virtual adapter type, can be one of ide (default), lsilogic, buslogic or legacyESX", func(o *formatOptions, v string) (err error) {
			o.adapter = v
			if o.vmdk.Adapter, err = vmdk.ParseAdapterType(v); err != nil {
				return errors.New("invalid parameter value: " + v)
			}
			return nil
		}},
		backing, backingFmt,
		{"compat6", "bool (on/off)", "VMDK version 6 image", func(o *formatOptions, v string) (err error) {
			if o.compat6, err = onOff("compat6", v); o.compat6 {
				o.vmdk.HWVersion = 6
			}
			return err
		}},
		{"hwversion", "str", "VMDK hardware version", func(o *formatOptions, v string) (err error) {
			o.hwVersion = v
			if o.vmdk.HWVersion, err = strconv.Atoi(v); err != nil || o.vmdk.HWVersion < 1 {
				return fmt.Errorf("Parameter 'hwversion' expects a number, not '%s'", v)
			}
			return nil
		}},
		size,
		{"subformat", "str", "VMDK flat extent format, can be one of {monolithicSparse (default) | monolithicFlat | twoGbMaxExtentSparse | twoGbMaxExtentFlat | streamOptimized} ", func(o *formatOptions, v string) (err error) {
			o.subformat = v
			if o.vmdk.Subformat, err = vmdk.ParseSubformat(v); err != nil {
				return errors.New("invalid parameter value: " + v)
			}
			return nil
		}},
		{"toolsversion", "str", "VMware guest tools version", func(o *formatOptions, v string) error {
			o.vmdk.ToolsVersion = v
			if v == "" || strings.Trim(v, "0123456789") != "" {
				return fmt.Errorf("Parameter 'toolsversion' expects a number, not '%s'", v)
			}
			return nil
		}},
		{"zeroed_grain", "bool (on/off)", "Enable efficient zero writes using the zeroed-grain GTE feature", func(o *formatOptions, v string) (err error) {
			o.vmdk.ZeroedGrains, err = onOff("zeroed_grain", v)
			o.zeroed = map[bool]string{true: "on", false: "off"}[o.vmdk.ZeroedGrains]
			return err
		}},
	}
}

// flatVMDK reports whether a VMDK target has flat extents.
func (o *formatOptions) flatVMDK() bool {
	return o.vmdk.Subformat == vmdk.MonolithicFlat || o.vmdk.Subformat == vmdk.TwoGbMaxExtentFlat
}

// compressVMDK is -c for a VMDK: streamOptimized is the kind that is
// compressed. The reference writes another one uncompressed and says nothing.
func (o *formatOptions) compressVMDK() (note string, err error) {
	switch {
	case o.vmdk.Subformat == vmdk.StreamOptimized:
		return "", nil
	case o.subformat != "":
		return "", fmt.Errorf("a %v image cannot be compressed: -c needs subformat=streamOptimized, or none", o.vmdk.Subformat)
	}
	o.vmdk.Subformat = vmdk.StreamOptimized
	return "-c: the image is a streamOptimized one", nil
}

// formattingVMDK adds what the reference prints of a VMDK that it creates.
func (o *formatOptions) formattingVMDK(add func(key string, value any)) {
	ifSaid := func(key, value string) {
		if value != "" {
			add(key, value)
		}
	}
	add("size", o.size)
	ifSaid("adapter_type", o.adapter)
	ifSaid("backing_file", o.backing)
	ifSaid("backing_fmt", o.backingFmt)
	add("compat6", map[bool]string{true: "on", false: "off"}[o.compat6])
	if o.hwVersion == "" {
		add("hwversion", "undefined")
	}
	ifSaid("hwversion", o.hwVersion)
	ifSaid("toolsversion", o.vmdk.ToolsVersion)
	ifSaid("subformat", o.subformat)
	ifSaid("zeroed_grain", o.zeroed)
}
