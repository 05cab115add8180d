package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage/internal/disktest"
)

// TestKilledAtAnyTime kills conversions at random moments: the target's name is
// that of nothing, of the old image, or of the new one, each whole, and the
// next run clears up what is left. (Row S01 of the hostile inputs. A thousand
// times: scripts/kill.sh.)
func TestKilledAtAnyTime(t *testing.T) {
	disktest.Alone(t) // the others are processes
	t.Parallel()
	rounds, data := len(targetKinds), 1<<20
	if n := os.Getenv(envRounds); n != "" {
		var err error
		rounds, err = strconv.Atoi(n)
		require.NoError(t, err)
		data = 24 << 20 // long enough to be hit while it is written
	}
	source, oldSource := sources(t, data)
	hits := map[moment]int{}
	scenes := make([]*scene, len(targetKinds))
	spans := make([]time.Duration, len(targetKinds)) // in which a kind's kills fall
	for round := range rounds {
		i, old := round%len(targetKinds), round/len(targetKinds)%2 == 0
		s := scenes[i]
		if s == nil {
			s = newScene(t, targetKinds[i], runtime.GOMAXPROCS(0), source, oldSource)
			begun := time.Now()
			s.convert()
			scenes[i], spans[i] = s, time.Since(begun)
		}
		s.set(old)
		cmd := s.command()
		require.NoError(t, cmd.Start())
		delay := rand.N(spans[i])
		time.Sleep(delay)
		killed := cmd.Process.Kill() == nil
		if err := cmd.Wait(); !killed {
			require.NoError(t, err)
		}
		where := fmt.Sprintf("round %d: %s, an old image: %v, killed after %v", round, s.kind.name, old, delay)
		hit := s.judge(old, where)
		hits[hit]++
		// So that some come too late, and most do not, however busy the machine is.
		if hit == after {
			spans[i] -= spans[i] / 8
		} else {
			spans[i] += spans[i] / 32
		}
		s.recover(where)
	}
	for _, m := range []moment{before, writing, written, renaming, after} {
		share := 100 * float64(hits[m]) / float64(rounds)
		t.Logf("%-44s %5d %5.1f %% %s", m, hits[m], share, strings.Repeat("#", int(share/2)))
	}
	if rounds >= 100 {
		require.GreaterOrEqual(t, hits[writing]*100, rounds*30, "too few hit while writing")
	}
}
