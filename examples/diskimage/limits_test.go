package main

import (
	"bytes"
	"fmt"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage/internal/imagetest"
)

// A conversion is held to the limits that it is given, and leaves nothing
// where it is over one.
func TestLimits(t *testing.T) {
	inFolder(t)
	disk := diskBytes(1 << 20)
	write(t, "disk.raw", disk)
	write(t, "huge.qcow2", imagetest.QCOW2{Size: 64 << 40, Backing: "/etc/passwd"}.Build().Bytes)
	for _, c := range []struct {
		args  []string
		piped bool
		says  string
	}{
		{args: []string{"--max-virtual-size", "1M", "disk.raw"}},
		{args: []string{"--max-virtual-size", "1M", "-f", "raw", "-"}, piped: true},
		{args: []string{"--max-virtual-size", "1M", "--max-output-size=1M", "-O", "raw", "disk.raw"}},
		{args: []string{"--max-virtual-size", "1023k", "disk.raw"}, says: "Could not open 'disk.raw': virtual size: 1048576 bytes, the limit is 1047552"},
		{args: []string{"--max-virtual-size", "1023k", "-f", "raw", "-"}, piped: true, says: "virtual size: more than the limit of 1047552 bytes"},
		{args: []string{"--max-virtual-size", "500G", "--allow-external=any", "huge.qcow2"}, says: "virtual size: 70368744177664 bytes, the limit is 536870912000"},
		{args: []string{"--max-output-size", "1023k", "-O", "raw", "disk.raw"}, says: "output size: 1048576 bytes at least, the limit is 1047552"},
		{args: []string{"--max-output-size", "200k", "disk.raw"}, says: "output size: more than the limit of 204800 bytes"},
		{args: []string{"--max-output-size", "1x", "disk.raw"}, says: "Invalid max output size specified: 1x."},
	} {
		args := append([]string{"convert", "-O", "qcow2"}, c.args...)
		var stdin bytes.Reader
		if c.piped {
			stdin.Reset(disk)
		}
		r := commandOn(t, &stdin, append(args, "image")...)
		if c.says == "" {
			require.Zero(t, r.code, "%v: %s", c.args, r.stderr)
			succeed(t, "compare", "disk.raw", "image")
			require.NoError(t, os.Remove("image"))
			continue
		}
		require.Equal(t, 1, r.code, c.args)
		require.Contains(t, r.stderr, c.says)
		require.Equal(t, []string{"disk.raw", "huge.qcow2"}, listing(t), fmt.Sprint(c.args))
	}
}
