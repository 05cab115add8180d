package disktest

import (
	"os"
	"testing"
)

// Data returns at most so many bytes of what disks hold, for benchmarks: the
// start of the file that DISKIMAGE_BENCH_DATA names, or of this program.
func Data(tb testing.TB, most int) []byte {
	tb.Helper()
	name := os.Getenv("DISKIMAGE_BENCH_DATA")
	if name == "" {
		var err error
		if name, err = os.Executable(); err != nil {
			tb.Fatal(err)
		}
	}
	data, err := os.ReadFile(name)
	if err != nil {
		tb.Fatal(err)
	}
	return data[:min(len(data), most)]
}
