//go:build amd64 || arm64

package main

import (
	"fmt"
	"os"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage/internal/disktest"
)

// TestStoppedAtAnyStep kills conversions before a step of theirs, each once: at
// no moment does an incomplete image have the target's name, and the next run
// clears up what is left. (Row S01 of the hostile inputs. All kinds and steps:
// scripts/crash.sh.)
func TestStoppedAtAnyStep(t *testing.T) {
	disktest.Alone(t) // the others are processes
	t.Parallel()
	all := os.Getenv(envEvery) == "1"
	source, oldSource := sources(t, 1<<20)
	for _, kind := range targetKinds {
		if !all && kind.name != "qcow2" && kind.name != "vmdk split sparse" {
			continue
		}
		t.Run(kind.name, func(t *testing.T) {
			s := newScene(t, kind, 1, source, oldSource)
			for _, old := range []bool{false, true} {
				if !all && !old {
					continue
				}
				s.set(old)
				steps, said, code := trace(t, s.dir, s.argv(), untilDone, 0)
				require.Zero(t, code, said)
				require.Equal(t, after, s.judge(old, "not killed"))
				moments := map[moment]int{}
				for _, k := range stops(len(steps), all) {
					s.set(old)
					where := fmt.Sprintf("%s, killed before step %d of %d, %v", kind.name, k+1, len(steps), steps[k])
					taken, _, code := trace(t, s.dir, s.argv(), k, syscall.SIGKILL)
					require.Equal(t, -1, code, where)
					require.Equal(t, k, len(taken), where)
					moments[s.judge(old, where)]++
					s.recover(where)
				}
				t.Logf("an old image: %v; %d steps; %v", old, len(steps), moments)
				for _, m := range []moment{before, writing, written, after} {
					require.NotZero(t, moments[m], m)
				}
				require.Equal(t, kind.set, moments[renaming] > 0)
			}
		})
	}
}

// stops returns which of the steps to be killed before: all, or the first, some
// between and the last, where the image gets its name.
func stops(steps int, all bool) (k []int) {
	for i := range steps {
		if all || i == 0 || i == steps/2 || i >= steps-8 {
			k = append(k, i)
		}
	}
	return k
}
