package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/convert"
	"github.com/diskimage-go/diskimage/qcow2"
)

const infoSynopsis = "[-f FMT] [--output human|json] [--backing-chain] [-q] [--raw-anyway] [--allow-external[=DIR|any]] FILE"

func runInfo(ctx context.Context, s *session, args []string) (int, error) {
	var (
		in    input
		form  output
		chain bool
	)
	operands, err := parse(args, in.options(), []option{
		outputOption(&form),
		flag(0, "backing-chain", &chain),
		flag('q', "quiet", &s.quiet),
		ignored('t', "cache", needsArgument),
	})
	if err != nil {
		return 1, err
	}
	if len(operands) != 1 {
		return 1, usageError("Expecting one image file name")
	}
	infos, notes, verdict := in.collect(ctx, s, operands[0], chain)
	if len(infos) > 0 {
		if err := printInfo(s.stdout, infos, form, chain); err != nil {
			return 1, err
		}
	}
	s.notes(notes...)
	if verdict != nil {
		return 1, verdict
	}
	return 0, nil
}

// collect gathers what is known of an image, and, for the chain, of those
// below it. An error that convert would give too is the verdict; what is known
// of the image itself is returned with it.
func (in input) collect(ctx context.Context, s *session, name string, chain bool) (infos []imageInfo, notes []diskimage.Note, verdict error) {
	in.alone = true
	img, verdict := in.open(ctx, s, name)
	if errors.Is(verdict, diskimage.ErrCorrupt) { // perhaps no more than marked so
		in.salvage = true
		img, _ = in.open(ctx, s, name)
	}
	if img == nil {
		return nil, nil, verdict
	}
	defer img.Close()
	top := describe(layer{name: name, disk: img.disk}, img.file)
	if verdict == nil {
		notes = diskimage.NotesOf(img.disk)
	}
	if verdict != nil || !top.namesOthers() || !chain && in.external.policy() != externalNone {
		return []imageInfo{top}, notes, verdict
	}
	in.alone = false
	whole, err := in.open(ctx, s, name)
	if err != nil {
		return []imageInfo{top}, notes, err
	}
	defer whole.Close()
	for _, l := range whole.layers() {
		file := img.file
		if len(infos) > 0 {
			if file, err = os.Stat(l.name); err != nil {
				return infos, notes, couldNotOpen(l.name, err)
			}
		}
		infos = append(infos, describe(l, file))
	}
	return infos, diskimage.NotesOf(whole.disk), nil
}

// An imageInfo is what info prints of one image.
type imageInfo struct {
	name        string
	format      string
	size        int64
	diskSize    int64       // bytes allocated on the host
	qcow2       *qcow2.Info // nil of a raw image
	backing     string      // what qcow2 says, or ""
	fullBacking string      // the same, from here
}

func describe(l layer, file fs.FileInfo) imageInfo {
	info := imageInfo{name: l.name, format: convert.FormatOf(l.disk).String(), size: l.disk.Size(), diskSize: allocatedBytes(file)}
	if d, ok := l.disk.(*qcow2.Disk); ok {
		q := d.Info()
		info.qcow2, info.backing, info.fullBacking = &q, q.BackingFile, beside(l.name, q.BackingFile)
	}
	return info
}

func (i imageInfo) namesOthers() bool {
	return i.qcow2 != nil && (i.backing != "" || i.qcow2.HasDataFile)
}

func (i imageInfo) backingFormat() string {
	if i.qcow2 == nil {
		return ""
	}
	return i.qcow2.BackingFormat
}

func printInfo(w io.Writer, infos []imageInfo, form output, chain bool) error {
	if form == jsonForm {
		all := list{}
		for _, i := range infos {
			all = append(all, i.object())
		}
		if chain {
			return writeJSON(w, all)
		}
		return writeJSON(w, all[0])
	}
	for n, i := range infos {
		if n > 0 {
			fmt.Fprintln(w)
		}
		i.print(w)
	}
	return nil
}

// object returns the image's information as the reference orders it.
func (i imageInfo) object() object {
	o := object{
		{"snapshots", i.snapshots()},
		{"backing-filename-format", orNil(i.backingFormat())},
		{"virtual-size", i.size},
		{"filename", i.name},
		{"cluster-size", nil},
		{"format", i.format},
		{"actual-size", i.diskSize},
		{"format-specific", nil},
		{"full-backing-filename", orNil(i.fullBacking)},
		{"backing-filename", orNil(i.backing)},
		{"dirty-flag", i.qcow2 != nil && i.qcow2.Dirty},
	}
	if i.qcow2 != nil {
		o.set("cluster-size", i.qcow2.ClusterSize)
		o.set("format-specific", object{{"type", i.format}, {"data", i.specific()}})
	}
	return o
}

// specific returns what only a QCOW2 image has.
func (i imageInfo) specific() object {
	q := i.qcow2
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

func (i imageInfo) snapshots() any {
	if i.qcow2 == nil || len(i.qcow2.Snapshots) == 0 {
		return nil
	}
	all := list{}
	for _, s := range i.qcow2.Snapshots {
		o := object{{"icount", nil}, {"vm-clock-nsec", s.VMClock % 1e9}, {"name", s.Name}, {"date-sec", s.Date.Unix()},
			{"date-nsec", s.Date.Nanosecond()}, {"vm-clock-sec", s.VMClock / 1e9}, {"id", s.ID}, {"vm-state-size", s.VMStateSize}}
		if s.Icount != ^uint64(0) {
			o.set("icount", s.Icount)
		}
		all = append(all, o)
	}
	return all
}

// print prints the image's information for people. Text of the image's own is
// made harmless.
func (i imageInfo) print(w io.Writer) {
	fmt.Fprintf(w, "image: %s\nfile format: %s\n", plain(i.name), i.format)
	fmt.Fprintf(w, "virtual size: %s (%d bytes)\n", humanSize(i.size), i.size)
	fmt.Fprintf(w, "disk size: %s\n", humanSize(i.diskSize))
	q := i.qcow2
	if q == nil {
		return
	}
	fmt.Fprintf(w, "cluster_size: %d\n", q.ClusterSize)
	if q.Dirty {
		fmt.Fprintln(w, "cleanly shut down: no")
	}
	if i.backing != "" {
		fmt.Fprintf(w, "backing file: %s", plain(i.backing))
		if i.fullBacking != i.backing {
			fmt.Fprintf(w, " (actual path: %s)", plain(i.fullBacking))
		}
		fmt.Fprintln(w)
		if i.backingFormat() != "" {
			fmt.Fprintf(w, "backing file format: %s\n", plain(i.backingFormat()))
		}
	}
	i.printSnapshots(w)
	fmt.Fprintln(w, "Format specific information:")
	writeHuman(w, i.specific(), 1)
}

func (i imageInfo) printSnapshots(w io.Writer) {
	if len(i.qcow2.Snapshots) == 0 {
		return
	}
	fmt.Fprintf(w, "Snapshot list:\n%-10s%-17s%8s%20s%13s%11s\n", "ID", "TAG", "VM SIZE", "DATE", "VM CLOCK", "ICOUNT")
	for _, s := range i.qcow2.Snapshots {
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

// orNil is s, or nil if it is empty: left out.
func orNil(s string) any {
	if s == "" {
		return nil
	}
	return s
}
