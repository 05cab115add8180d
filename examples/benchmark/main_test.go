package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/diskimage-go/diskimage/internal/peer"
	"github.com/stretchr/testify/require"
)

// standIn is a program that takes our command's place: what is measured here
// is the benchmark.
func standIn(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	script, piped := filepath.Join(dir, "diskimage"), filepath.Join(dir, "piped")
	text := "#!/bin/sh\nfor a; do shift; case $a in -t) ;; unsafe) ;; --window) ;; 32k) ;;\n-) cat >" + piped + "; set -- \"$@\" " + piped + ";;\n*) set -- \"$@\" \"$a\";; esac; done\nexec qemu-img \"$@\"\n"
	require.NoError(t, os.WriteFile(script, []byte(text), 0o755))
	return script
}

func TestRunMeasuresEveryJob(t *testing.T) {
	peer.Find(t, "qemu-img")
	src := filepath.Join(t.TempDir(), "src.raw")
	require.NoError(t, os.WriteFile(src, bytes.Repeat([]byte("some guest data "), 64<<10), 0o600))

	var stdout, stderr bytes.Buffer
	args := []string{"-src", src, "-rounds", "2", "-command", standIn(t), "-dir", t.TempDir()}
	require.NoError(t, run(t.Context(), append(args, "-json"), &stdout, &stderr), "%s", &stderr)
	var got report
	require.NoError(t, json.Unmarshal(stdout.Bytes(), &got))
	require.EqualValues(t, 1<<20, got.Size)
	converts := 0
	for _, j := range jobs {
		if j.verb == "" {
			converts++
		}
	}
	require.Len(t, got.Results, len(jobs)+converts) // what writes nothing is not synced
	for i, r := range got.Results {
		for _, m := range []measured{r.Reference, r.Ours} {
			require.Len(t, m.All, 2)
			require.Positive(t, m.Seconds)
			require.Equal(t, i >= len(jobs) || jobs[i].verb == "", m.Size > 0, r.Job)
		}
		require.Positive(t, r.Ratio)
	}

	stdout.Reset()
	more := append(args, "-run", "zlib to raw", "-mode", "synced", "-spare")
	if runtime.GOOS == "linux" { // where dd is GNU's
		more = append(more, "-cold")
	}
	require.NoError(t, run(t.Context(), more, &stdout, &stderr), "%s", &stderr)
	require.Contains(t, stdout.String(), "zlib to raw")
	require.NotContains(t, stdout.String(), unsynced)
	left, err := os.ReadDir(args[len(args)-1])
	require.NoError(t, err)
	require.Empty(t, left, "it cleans up")
}

func TestWrongResultIsAnError(t *testing.T) {
	peer.Find(t, "qemu-img")
	src := filepath.Join(t.TempDir(), "src.raw")
	require.NoError(t, os.WriteFile(src, bytes.Repeat([]byte("some guest data "), 4<<10), 0o600))
	liar := filepath.Join(t.TempDir(), "liar")
	require.NoError(t, os.WriteFile(liar, []byte("#!/bin/sh\nfor out; do :; done\nexec qemu-img create -q -f qcow2 \"$out\" 64k\n"), 0o755))
	err := run(t.Context(), []string{"-src", src, "-rounds", "1", "-run", "^raw to qcow2$", "-command", liar}, &bytes.Buffer{}, &bytes.Buffer{})
	require.ErrorContains(t, err, "compare")
}

func TestRunRefusesBadArguments(t *testing.T) {
	for _, args := range [][]string{{"-rounds", "0"}, {"-mode", "fast"}, {"-run", "("}, {"image"}, {"-nonsense"}} {
		require.Error(t, run(t.Context(), args, &bytes.Buffer{}, &bytes.Buffer{}), "%q", args)
	}
}

func TestMedian(t *testing.T) {
	require.Equal(t, 2.0, median([]float64{9, 1, 2}))
	require.Equal(t, 3.0, median([]float64{9, 1, 2, 4}))
	require.Equal(t, 5.0, median([]float64{5}))
}
