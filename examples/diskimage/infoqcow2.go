package main

import (
	"fmt"
	"io"
	"time"

	"github.com/diskimage-go/diskimage/qcow2"
)

// describeQCOW2 returns what only a QCOW2 image has.
func describeQCOW2(q qcow2.Info) formatInfo {
	return formatInfo{
		clusterSize: q.ClusterSize, dirty: q.Dirty, backing: q.BackingFile, backingFormat: q.BackingFormat,
		others:    q.BackingFile != "" || q.HasDataFile,
		snapshots: listSnapshots(q.Snapshots),
		specific:  specificQCOW2(q),
		printMore: func(w io.Writer) { printSnapshots(w, q.Snapshots) },
	}
}

func specificQCOW2(q qcow2.Info) object {
	if q.Version < 3 {
		return object{{"compat", "0.10"}, {"compression-type", "zlib"}, {"refcount-bits", q.RefcountBits}}
	}
	o := object{
		{"compat", "1.1"},
		{"compression-type", compressionName(q.Compression)},
		{"lazy-refcounts", q.LazyRefcounts},
		{"bitmaps", nil},
		{"refcount-bits", q.RefcountBits},
		{"data-file", nil},
		{"data-file-raw", nil},
		{"corrupt", q.Corrupt},
		{"extended-l2", q.ExtendedL2},
	}
	if len(q.Bitmaps) > 0 {
		bitmaps := list{}
		for _, b := range q.Bitmaps {
			flags := list{}
			if b.InUse {
				flags = append(flags, "in-use")
			}
			if b.Auto {
				flags = append(flags, "auto")
			}
			bitmaps = append(bitmaps, object{{"flags", flags}, {"name", b.Name}, {"granularity", b.Granularity}})
		}
		o.set("bitmaps", bitmaps)
	}
	if q.HasDataFile {
		o.set("data-file", orNil(q.DataFile))
		o.set("data-file-raw", q.DataFileRaw)
	}
	return o
}

func listSnapshots(snapshots []qcow2.Snapshot) any {
	if len(snapshots) == 0 {
		return nil
	}
	all := list{}
	for _, s := range snapshots {
		o := object{{"icount", nil}, {"vm-clock-nsec", s.VMClock % 1e9}, {"name", s.Name}, {"date-sec", s.Date.Unix()},
			{"date-nsec", s.Date.Nanosecond()}, {"vm-clock-sec", s.VMClock / 1e9}, {"id", s.ID}, {"vm-state-size", s.VMStateSize}}
		if s.Icount != ^uint64(0) {
			o.set("icount", s.Icount)
		}
		all = append(all, o)
	}
	return all
}

func printSnapshots(w io.Writer, snapshots []qcow2.Snapshot) {
	if len(snapshots) == 0 {
		return
	}
	fmt.Fprintf(w, "Snapshot list:\n%-10s%-17s%8s%20s%13s%11s\n", "ID", "TAG", "VM SIZE", "DATE", "VM CLOCK", "ICOUNT")
	for _, s := range snapshots {
		clock := time.Duration(min(s.VMClock, 1<<63-1)) / time.Millisecond
		icount := ""
		if s.Icount != ^uint64(0) {
			icount = fmt.Sprint(s.Icount)
		}
		fmt.Fprintf(w, "%-9s %-16s %8s%20s%13s%11s\n", plain(s.ID), plain(s.Name), humanSize(int64(min(s.VMStateSize, 1<<63-1))),
			s.Date.Local().Format("2006-01-02 15:04:05"),
			fmt.Sprintf("%02d:%02d:%02d.%03d", clock/3600000, clock/60000%60, clock/1000%60, clock%1000), icount)
	}
}
