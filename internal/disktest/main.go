package disktest

import (
	"os"
	"runtime/debug"
	"strconv"
	"testing"
)

// Main runs a package's tests with a garbage collector that comes less often,
// where there is room for that. Each test makes buffers for a few images and
// drops them: without it a third of the time goes into memory that is given back
// and taken anew.
func Main(m *testing.M) {
	if os.Getenv("GOGC") == "" && strconv.IntSize == 64 {
		debug.SetGCPercent(400)
	}
	os.Exit(m.Run())
}
