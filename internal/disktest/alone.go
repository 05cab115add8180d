package disktest

import "testing"

// Alone skips a test whose code has one goroutine under the race detector,
// which finds nothing there and takes long.
func Alone(t testing.TB) {
	t.Helper()
	if Race {
		t.Skip("one goroutine: nothing for the race detector")
	}
}
