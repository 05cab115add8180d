package main

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage/convert"
)

// stepper is a clock that goes on when it is told to.
type stepper struct{ now time.Time }

func (s *stepper) step(d time.Duration) { s.now = s.now.Add(d) }

func newTestProgress(form progressForm, phases int) (*progress, *stepper, *strings.Builder) {
	clock, out := &stepper{time.Unix(0, 0)}, &strings.Builder{}
	p := newProgress(form, out, phases)
	p.now, p.start = func() time.Time { return clock.now }, clock.now
	return p, clock, out
}

func TestLiveProgress(t *testing.T) {
	p, clock, out := newTestProgress(progressLive, 2)
	show := func(phase convert.Phase, done, total int64) string {
		out.Reset()
		p.show(convert.Progress{Phase: phase, Done: done, Total: total})
		return strings.TrimPrefix(out.String(), "\r\x1b[K")
	}
	clock.step(time.Second)
	require.Equal(t, "converting   6.25 %  64 MiB of 1 GiB  64 MiB/s  00:15 left", show(convert.Converting, 64<<20, 1<<30))
	clock.step(50 * time.Millisecond)
	require.Empty(t, show(convert.Converting, 70<<20, 1<<30), "not again so soon")
	clock.step(time.Hour)
	require.Equal(t, "converting  12.50 %  128 MiB of 1 GiB  36.4 KiB/s  7:00:07 left", show(convert.Converting, 128<<20, 1<<30))
	require.Equal(t, "converting 100.00 %  1 GiB of 1 GiB  291 KiB/s  00:00 left", show(convert.Converting, 1<<30, 1<<30), "the end is always told")
	clock.step(time.Second)
	require.Equal(t, "verifying  50.00 %  512 MiB of 1 GiB  512 MiB/s  00:01 left", show(convert.Verifying, 512<<20, 1<<30), "each phase has its own clock")
	clock.step(time.Second)
	require.Equal(t, "verifying  600 MiB  300 MiB/s", show(convert.Verifying, 600<<20, -1), "no total, no share")
	out.Reset()
	p.end(true)
	require.Equal(t, "\n", out.String())
}

func TestPlainProgress(t *testing.T) {
	p, _, out := newTestProgress(progressPlain, 2)
	for _, done := range []int64{0, 1, 2, 3, 100} {
		p.show(convert.Progress{Phase: convert.Planning, Done: done, Total: 100})
	}
	p.show(convert.Progress{Phase: convert.Converting, Done: 50, Total: 100})
	p.end(true)
	require.Equal(t, "    (0.00/100%)\r    (1.00/100%)\r    (50.00/100%)\r    (75.00/100%)\r    (100.00/100%)\r\n", out.String())

	p, _, out = newTestProgress(progressPlain, 1)
	p.end(false)
	require.Equal(t, "    (0.00/100%)\r\n", out.String(), "a job that failed is not at its end")
	newProgress(progressNone, nil, 1).end(true)
}
