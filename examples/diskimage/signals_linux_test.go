//go:build amd64 || arm64

package main

import (
	"os/signal"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage/internal/disktest"
)

// TestSignalsOfEveryKind interrupts conversions to every kind of target while
// they write: they clear up, and what stood there is whole.
func TestSignalsOfEveryKind(t *testing.T) {
	disktest.Alone(t) // the others are processes
	inFolder(t)
	write(t, "disk.raw", noisyDisk(32<<20))
	write(t, "target", []byte("what was there"))
	before, here := listing(t), folder(t)
	signals := []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP}
	for i, kind := range targetKinds {
		sig := signals[i%len(signals)]
		if signal.Ignored(sig) {
			continue // as under nohup, which is to keep the command going
		}
		const k = 10 // steps: some are before the first write
		argv := append([]string{commandPath(t)}, kind.convert("disk.raw", "target")...)
		steps, said, code := trace(t, here, argv, k, sig)
		require.Equal(t, 128+int(sig), code, "%s: %s", kind.name, said)
		require.Greater(t, len(steps), k, kind.name)
		require.Equal(t, "write", steps[k].call, kind.name)
		require.True(t, strings.HasSuffix(said, "diskimage: stopped: "+sig.String()+"\n"), "%s: %s", kind.name, said)
		require.Equal(t, before, listing(t), kind.name)
		require.Equal(t, "what was there", string(contents(t, "target")), kind.name)
	}
}
