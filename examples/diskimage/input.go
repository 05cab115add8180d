package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/convert"
	"github.com/diskimage-go/diskimage/internal/hostfile"
	"github.com/diskimage-go/diskimage/qcow2"
	"github.com/diskimage-go/diskimage/raw"
	"github.com/diskimage-go/diskimage/vhd"
	"github.com/diskimage-go/diskimage/vmdk"
)

// stdName stands for standard input or output.
const stdName = "-"

// An input is what a verb can be told about an image that it reads.
type input struct {
	formatName string
	external   external
	rawAnyway  bool
	salvage    bool
	snapshot   string // -l, as given
	disk       string // of an OVA
	sizeRule   vhd.SizeRule
	alone      bool // open none of the files that the image names
}

func (in *input) options() []option {
	return []option{
		value('f', "format", &in.formatName),
		in.external.option(),
		value(0, "disk", &in.disk),
		flag(0, "raw-anyway", &in.rawAnyway),
		parsed(0, "size-rule", func(v string) (err error) {
			if in.sizeRule, err = vhd.ParseSizeRule(v); err != nil {
				return fmt.Errorf("--size-rule: %s is none of auto, current and geometry", v)
			}
			return nil
		}),
		ignored('U', "force-share", noArgument), // images are not locked
		refused(0, "image-opts", noArgument, "images are given by their file names"),
		refused(0, "object", needsArgument, "there are no objects"),
	}
}

// An image is one that is open for reading.
type image struct {
	name string
	file fs.FileInfo
	disk diskimage.VirtualDisk
}

func (img *image) Close() error { return img.disk.Close() }

// open opens the image in the file of this name. The error names the file.
func (in *input) open(ctx context.Context, s *session, name string) (*image, error) {
	img, err := in.openDisk(ctx, s, name)
	if err != nil {
		return nil, couldNotOpen(name, err)
	}
	return img, nil
}

func (in *input) openDisk(ctx context.Context, s *session, name string) (_ *image, err error) {
	o := convert.OpenOptions{Name: name, RawAnyway: in.rawAnyway, Salvage: in.salvage, SkipExternal: in.alone, SizeRule: in.sizeRule, Member: in.disk}
	if o.Format, err = convert.ParseFormat(in.formatName); err != nil {
		return nil, fmt.Errorf("Unknown driver '%s'", in.formatName)
	}
	if !in.alone {
		opener, err := in.external.opener(name)
		if err != nil {
			return nil, err
		}
		if c, ok := opener.(io.Closer); ok {
			defer c.Close() // what it opened stays open
		}
		o.Opener = opener
	}
	if in.snapshot != "" {
		if o.Snapshot, err = in.findSnapshot(ctx, s, o); err != nil {
			return nil, err
		}
	}
	return s.openWith(ctx, name, o)
}

// openWith opens a file, or the one that is standard input.
func (s *session) openWith(ctx context.Context, name string, o convert.OpenOptions) (*image, error) {
	if name != stdName {
		disk, err := convert.OpenFile(ctx, name, o)
		if err != nil {
			return nil, err
		}
		info, err := os.Stat(name)
		if err != nil {
			disk.Close()
			return nil, err
		}
		return &image{name, info, disk}, nil
	}
	src, err := s.openStdin()
	if err != nil {
		return nil, err
	}
	disk, err := convert.Open(ctx, unclosed{src}, o)
	if err != nil {
		return nil, err
	}
	return &image{name, src.Info(), disk}, nil
}

// openSource opens a file for its plain bytes.
func (s *session) openSource(name string) (*hostfile.File, error) {
	if name == stdName {
		return s.openStdin()
	}
	return hostfile.Open(name)
}

// openStdin returns standard input if it is a file.
func (s *session) openStdin() (*hostfile.File, error) {
	if f, ok := s.stdin.(*os.File); ok {
		return hostfile.New(f)
	}
	return nil, errors.New("standard input is no file; from a pipe only convert reads, and only raw")
}

// unclosed is standard input's file: closing the disk in it leaves it open.
type unclosed struct{ *hostfile.File }

func (unclosed) Close() error { return nil }

// findSnapshot returns the ID of the snapshot that -l asks for: an ID or a
// name, or, as the reference has it, "snapshot.id=ID,snapshot.name=NAME".
func (in *input) findSnapshot(ctx context.Context, s *session, o convert.OpenOptions) (string, error) {
	if !strings.HasPrefix(in.snapshot, "snapshot.") {
		return in.snapshot, nil
	}
	want := map[string]string{}
	for _, pair := range splitCommas([]string{in.snapshot}) {
		key, v, _ := strings.Cut(pair, "=")
		if key != "snapshot.id" && key != "snapshot.name" {
			return "", fmt.Errorf("Invalid parameter '%s'", key)
		}
		want[key] = v
	}
	o.SkipExternal, o.Opener = true, nil
	img, err := s.openWith(ctx, o.Name, o)
	if err != nil {
		return "", err
	}
	defer img.Close()
	if d, ok := img.disk.(*qcow2.Disk); ok {
		for _, snap := range d.Info().Snapshots {
			id, byID := want["snapshot.id"]
			name, byName := want["snapshot.name"]
			if (!byID || id == snap.ID) && (!byName || name == snap.Name) {
				return snap.ID, nil
			}
		}
	}
	return "", errors.New("Can't find snapshot")
}

// openStream returns standard input as a raw disk if it is a pipe, nil if it
// is a file. The first block has to be no image of another format.
func (in *input) openStream(ctx context.Context, s *session) (diskimage.Stream, error) {
	if f, ok := s.stdin.(*os.File); ok {
		if info, err := f.Stat(); err == nil && (info.Mode().IsRegular() || hostfile.IsBlockDevice(info)) {
			return nil, nil
		}
	}
	format, err := convert.ParseFormat(in.formatName)
	if err != nil {
		return nil, fmt.Errorf("Unknown driver '%s'", in.formatName)
	}
	if in.snapshot != "" {
		return nil, errors.New("standard input is a pipe: a raw disk has no snapshots")
	}
	if format != convert.Raw && format != convert.Auto {
		return nil, fmt.Errorf("standard input is a pipe: only raw disks are read from there, not %v", format)
	}
	const front = 1 << 20
	b := bufio.NewReaderSize(&patient{ctx: ctx, r: s.stdin}, front)
	first, err := b.Peek(front)
	if err != nil && err != io.EOF {
		return nil, couldNotOpen(stdName, err)
	}
	if !in.rawAnyway {
		src := diskimage.NewSource(bytes.NewReader(first), int64(len(first)))
		if err := rawSoFar(ctx, src, format); err != nil {
			return nil, couldNotOpen(stdName, err)
		}
	}
	return raw.NewStream(b, -1), nil
}

// rawSoFar returns an error if the first bytes of a disk, which may be declared
// raw, say that it is something else.
func rawSoFar(ctx context.Context, first diskimage.Source, declared convert.Format) error {
	if declared == convert.Raw {
		disk, err := convert.Open(ctx, first, convert.OpenOptions{Format: convert.Raw})
		if err == nil {
			disk.Close()
		}
		return err
	}
	found, err := convert.Detect(first)
	if err == nil && found != convert.Raw {
		err = fmt.Errorf("content is %v; from a pipe only raw disks are read", found)
	}
	return err
}

// A layer is one image of a chain, the first being the one on top.
type layer struct {
	name  string   // as the reference would print it
	files []string // its files in the order of [diskimage.Extent.File]: the image's own, then those that it names for its data
	disk  diskimage.VirtualDisk
}

// layers returns the image and those below it, as far as they are open.
func (img *image) layers() []layer {
	var all []layer
	name := img.name
	for d := img.disk; d != nil; {
		l := layer{name: name, files: []string{name}, disk: d}
		var below string
		switch q := d.(type) {
		case *qcow2.Disk:
			info := q.Info()
			if info.HasDataFile {
				l.files = append(l.files, beside(name, info.DataFile))
			}
			below, d = info.BackingFile, q.Backing()
		case *vmdk.Disk:
			info := q.Info()
			for i := 1; i <= len(info.Extents) && q.FileName(i) != ""; i++ {
				l.files = append(l.files, beside(name, q.FileName(i)))
			}
			below, d = info.ParentHint, q.Parent()
		case *vhd.Disk:
			below, d = q.ParentName(), q.Parent()
		default:
			d = nil
		}
		all = append(all, l)
		name = beside(name, below)
	}
	return all
}

// beside returns the name, from here, of a file that an image names: a
// relative one starts in the image's folder.
func beside(image, name string) string {
	if name == "" || filepath.IsAbs(name) || hasProtocol(name) {
		return name
	}
	if i := strings.LastIndexByte(image, os.PathSeparator); i >= 0 {
		return image[:i+1] + name
	}
	return name
}

// hasProtocol reports whether the reference would not take the name for a
// file's: "nbd:unix:socket".
func hasProtocol(name string) bool {
	colon := strings.IndexByte(name, ':')
	return colon > 0 && !strings.ContainsRune(name[:colon], '/')
}

// files returns what the image is read from: its own file, and those that it
// names and that are open.
func (img *image) files() []fs.FileInfo {
	all := []fs.FileInfo{img.file}
	for i, l := range img.layers() {
		names := l.files
		if i == 0 {
			names = names[1:]
		}
		for _, name := range names {
			if info, err := os.Stat(name); err == nil {
				all = append(all, info)
			}
		}
	}
	return all
}
