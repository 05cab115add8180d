package main

import (
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestSameDevice: a block device is not written over with what is read from
// it, by another node of the same device either. (Row S04 of the hostile inputs.)
func TestSameDevice(t *testing.T) {
	inFolder(t)
	write(t, "backing", diskBytes(1<<20))
	out, err := exec.Command("losetup", "--find", "--show", "backing").CombinedOutput()
	if err != nil {
		t.Skipf("no loop device to be had: %v %s", err, out)
	}
	dev := strings.TrimSpace(string(out))
	defer exec.Command("losetup", "--detach", dev).Run()
	var st syscall.Stat_t
	require.NoError(t, syscall.Stat(dev, &st))
	require.NoError(t, syscall.Mknod("node", syscall.S_IFBLK|0o600, int(st.Rdev)))
	require.NoError(t, os.Symlink(dev, "soft"))
	for _, source := range []string{dev, "node", "soft"} {
		for _, target := range []string{dev, "node", "soft"} {
			for _, args := range []string{"convert --force -f raw -O qcow2", "convert -n -f raw -O raw"} {
				r := command(t, append(strings.Fields(args), source, target)...)
				require.Equal(t, 1, r.code, "%s %s %s", args, source, target)
				require.Contains(t, r.stderr, "which is read", "%s %s %s", args, source, target)
			}
		}
	}
	require.Equal(t, diskBytes(1<<20), contents(t, dev))
}
