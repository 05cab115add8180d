package main

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
)

// A report is everything that was measured; its JSON is for programs.
type report struct {
	Cores     int      `json:"cores"`
	Rounds    int      `json:"rounds"`
	Size      int64    `json:"disk-size"`
	Allocated int64    `json:"disk-allocated"`
	Results   []result `json:"results"`
}

// A result is one job in one mode.
type result struct {
	Job       string   `json:"job"`
	Mode      string   `json:"mode"`
	Reference measured `json:"qemu-img"`
	Ours      measured `json:"diskimage"`
	Ratio     float64  `json:"ratio"` // qemu-img's median time by ours
	job       job
}

// measured is one program's rounds: medians, but for memory the most.
type measured struct {
	Seconds   float64   `json:"seconds"`
	CPU       float64   `json:"cpu-seconds"`
	Memory    int64     `json:"peak-memory,omitempty"`
	Size      int64     `json:"size"`
	Allocated int64     `json:"allocated"`
	All       []float64 `json:"all-seconds"`
	cpu       []float64
}

func (m *measured) add(used usage, size, allocated int64) {
	m.All = append(m.All, used.seconds)
	m.cpu = append(m.cpu, used.cpu)
	m.Memory = max(m.Memory, used.memory)
	m.Size, m.Allocated = size, allocated
}

func median(of []float64) float64 {
	sorted := slices.Sorted(slices.Values(of))
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// finish works out the medians.
func (r *report) finish() {
	for i := range r.Results {
		res := &r.Results[i]
		for _, m := range []*measured{&res.Reference, &res.Ours} {
			m.Seconds, m.CPU = median(m.All), median(m.cpu)
		}
		res.Ratio = res.Reference.Seconds / res.Ours.Seconds
	}
}

func (r *report) writeJSON(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(r)
}

func (r *report) writeTable(w io.Writer) error {
	mib := func(n int64) string { return fmt.Sprintf("%.1f", float64(n)/(1<<20)) }
	fmt.Fprintf(w, "disk of %s MiB, %s MiB of it allocated; %d cores; medians of %d rounds; qemu-img / diskimage\n\n",
		mib(r.Size), mib(r.Allocated), r.Cores, r.Rounds)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "job\tmode\tseconds\tratio\tcpu seconds\tpeak MiB\tsize MiB\tallocated MiB")
	for _, res := range r.Results {
		a, b := res.Reference, res.Ours
		fmt.Fprintf(t, "%s\t%s\t%.3f / %.3f\t%.2f\t%.2f / %.2f\t%s / %s\t%s / %s\t%s / %s\n", res.Job, res.Mode,
			a.Seconds, b.Seconds, res.Ratio, a.CPU, b.CPU, mib(a.Memory), mib(b.Memory),
			mib(a.Size), mib(b.Size), mib(a.Allocated), mib(b.Allocated))
	}
	return t.Flush()
}
