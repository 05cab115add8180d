package main

import (
	"cmp"
	"fmt"
	"io"
	"math"
	"time"

	"github.com/diskimage-go/diskimage/convert"
)

// A progressForm is how a long job shows that it moves.
type progressForm uint8

const (
	progressNone  progressForm = iota
	progressPlain              // the reference's: "    (12.34/100%)", a carriage return, no line
	progressLive               // one line of a terminal, drawn again and again
	progressJSON               // a line of JSON for each event
)

// progress shows one job. Its methods may be called on a nil progress.
type progress struct {
	form   progressForm
	w      io.Writer
	phases int    // how many of equal weight there will be
	label  string // said instead of the phase

	now     func() time.Time
	start   time.Time // of the phase
	told    time.Time // when show was called last
	drawn   time.Time // when it drew last, in this phase
	phase   convert.Phase
	past    int     // phases done
	percent float64 // last printed, -1 if none
}

// newProgress returns the progress of a job of so many phases on w, or nil if
// none is to be shown.
func newProgress(form progressForm, w io.Writer, phases int) *progress {
	if form == progressNone {
		return nil
	}
	p := &progress{form: form, w: w, phases: phases, now: time.Now, percent: -1}
	p.start = p.now()
	if form == progressPlain {
		p.printPercent(0)
	}
	return p
}

// show is the callback for package convert.
func (p *progress) show(at convert.Progress) {
	now := p.now()
	if at.Phase != p.phase && !p.told.IsZero() {
		p.past++
		p.start, p.drawn = p.told, time.Time{}
	}
	p.phase, p.told = at.Phase, now
	share := 0.0
	if at.Total > 0 {
		share = float64(at.Done) / float64(at.Total)
	}
	every := 200 * time.Millisecond
	switch {
	case p.form == progressPlain:
		p.printPercent(100 * (float64(p.past) + share) / float64(max(p.phases, p.past+1)))
		return
	case p.form == progressLive:
		every /= 2
	}
	if at.Done < at.Total && now.Sub(p.drawn) < every {
		return
	}
	p.drawn = now
	rate := 0.0
	if t := now.Sub(p.start).Seconds(); t > 0 {
		rate = float64(at.Done) / t
	}
	left := time.Duration(-1)
	if at.Total >= at.Done && rate > 0 {
		left = time.Duration(float64(at.Total-at.Done) / rate * float64(time.Second))
	}
	label := cmp.Or(p.label, at.Phase.String())
	if p.form == progressJSON {
		p.event(object{{"event", "progress"}, {"phase", label}, {"done", at.Done}, {"total", at.Total},
			{"seconds", seconds(now.Sub(p.start))}, {"rate", int64(rate)}})
		return
	}
	line := fmt.Sprintf("%s  %s", label, humanSize(at.Done))
	if at.Total >= 0 {
		line = fmt.Sprintf("%s %6.2f %%  %s of %s", label, 100*share, humanSize(at.Done), humanSize(at.Total))
	}
	line += fmt.Sprintf("  %s/s", humanSize(int64(rate)))
	if left >= 0 {
		line += "  " + clock(left) + " left"
	}
	fmt.Fprintf(p.w, "\r\x1b[K%s", line)
}

// printPercent prints in the reference's form when a per cent has passed.
func (p *progress) printPercent(percent float64) {
	if p.percent < 0 || percent >= p.percent+1 || percent >= 100 && p.percent < 100 {
		p.percent = percent
		fmt.Fprintf(p.w, "    (%.2f/100%%)\r", math.Min(percent, 100))
	}
}

// end closes the line. done says that the job is.
func (p *progress) end(done bool) {
	switch {
	case p == nil, p.form == progressJSON, p.form == progressLive && p.told.IsZero():
		return
	case p.form == progressPlain && done:
		p.printPercent(100)
	}
	fmt.Fprintln(p.w)
}

// event prints one line of JSON.
func (p *progress) event(o object) {
	if p != nil && p.form == progressJSON {
		writeJSONLine(p.w, o)
	}
}

// seconds is a duration as JSON prints it.
func seconds(d time.Duration) any { return fixed(d.Seconds()) }

// clock is a duration as h:mm:ss or mm:ss.
func clock(d time.Duration) string {
	s := int64(d.Round(time.Second) / time.Second)
	if s >= 3600 {
		return fmt.Sprintf("%d:%02d:%02d", s/3600, s/60%60, s%60)
	}
	return fmt.Sprintf("%02d:%02d", s/60, s%60)
}
