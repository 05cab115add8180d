package vmdk_test

import (
	"fmt"

	"github.com/diskimage-go/diskimage/vmdk"
)

// The first bytes of a file tell whether it may be a VMDK.
func ExampleProbe() {
	fmt.Println(vmdk.Probe([]byte("# Disk DescriptorFile\nversion=1\n")))
	fmt.Println(vmdk.Probe([]byte("KDMV\x01\x00\x00\x00")))
	fmt.Println(vmdk.Probe([]byte("QFI\xfb\x00\x00\x00\x03")))
	// Output:
	// true
	// true
	// false
}
