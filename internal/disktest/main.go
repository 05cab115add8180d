package disktest

import (
	"os"
	"runtime/debug"
	"testing"
)

// Main runs a package's tests with a garbage collector that comes less often.
// Each test makes buffers for a few images and drops them: without it a third
// of the time goes into memory that is given back and taken anew.
func Main(m *testing.M) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(400)
	}
	os.Exit(m.Run())
}
