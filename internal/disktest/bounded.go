package disktest

import (
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Bounded holds f to what hostile input may cost: two seconds, which are not
// counted under the race detector, and 64 MiB, all that it gives up again
// included. Tests that run at the same time are counted too.
func Bounded(t testing.TB, f func()) {
	t.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	start := time.Now()
	f()
	if took := time.Since(start); !Race {
		require.Less(t, took, 2*time.Second)
	}
	runtime.ReadMemStats(&after)
	require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(64<<20))
}
