package main

import (
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
	"github.com/diskimage-go/diskimage/httpsource"
	"github.com/diskimage-go/diskimage/internal/hostfile"
	"github.com/diskimage-go/diskimage/internal/spool"
	"github.com/diskimage-go/diskimage/qcow2"
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
	alone      bool  // open none of the files that the image names
	maxVirtual int64 // bytes of guest disk; 0: any
	unwrap     bool  // take off what is around the image, whatever its name
	http       httpsource.Options
	spool      string // the folder for a copy of what is read front to back; "": there is to be none
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
		flag(0, "unwrap", &in.unwrap),
		value(0, "spool", &in.spool),
		parsed(0, "header", in.addHeader),
		{0, "public-only", noArgument, func(string) error { in.http.Allow = httpsource.PublicOnly; return nil }},
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

// openOptions say how the image in the file of this name is opened, but for
// what it names and its snapshot.
func (in *input) openOptions(name string) (convert.OpenOptions, error) {
	format, err := convert.ParseFormat(in.formatName)
	if err != nil {
		return convert.OpenOptions{}, fmt.Errorf("Unknown driver '%s'", in.formatName)
	}
	return convert.OpenOptions{
		Format: format, Name: name, RawAnyway: in.rawAnyway, Salvage: in.salvage, SkipExternal: in.alone, SizeRule: in.sizeRule,
		Member: in.disk, Unwrap: in.unwrap, Spool: in.spool, MaxVirtualSize: in.maxVirtual,
	}, nil
}

func (in *input) openDisk(ctx context.Context, s *session, name string) (*image, error) {
	o, err := in.openOptions(name)
	if err != nil {
		return nil, err
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
	return in.openWith(ctx, s, name, o)
}

// openWith opens a file, the one that is standard input, or what a URL leads to.
func (in *input) openWith(ctx context.Context, s *session, name string, o convert.OpenOptions) (*image, error) {
	var info fs.FileInfo
	var src source
	switch r := s.remotes[name]; {
	case r != nil:
		far, err := in.remoteSource(ctx, s, r)
		if err != nil {
			return nil, err
		}
		src, info = far, remoteInfo{name, far.Size()}
	case name == stdName:
		file, err := in.openStdin(ctx, s)
		if err != nil {
			return nil, err
		}
		src, info = file, file.Info()
	default:
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
	disk, err := convert.Open(ctx, src, o)
	if err != nil {
		return nil, err
	}
	return &image{name, info, disk}, nil
}

// A source is a file that is open for its plain bytes.
type source interface {
	diskimage.Source
	io.Closer
}

// openSource opens a file for its plain bytes.
func (in *input) openSource(ctx context.Context, s *session, name string) (source, error) {
	if name == stdName {
		return in.openStdin(ctx, s)
	}
	if r := s.remotes[name]; r != nil {
		return in.remoteSource(ctx, s, r)
	}
	return hostfile.Open(name)
}

// openStdin returns standard input for random access: the file that it is, or
// a copy of what comes out of the pipe, which is made once.
func (in *input) openStdin(ctx context.Context, s *session) (unclosed, error) {
	if s.spooled == nil && !s.isPiped() {
		f, err := hostfile.New(s.stdin.(*os.File))
		if err != nil {
			return unclosed{}, err
		}
		return unclosed{f}, nil
	}
	if s.spooled == nil {
		if in.spool == "" {
			return unclosed{}, errors.New("standard input is a pipe, and this reads here and there: --spool DIR makes a copy in a file")
		}
		var err error
		if s.spooled, err = spool.Fill(ctx, &patient{ctx: ctx, r: s.stdin}, in.spool); err != nil {
			return unclosed{}, fmt.Errorf("--spool: %w", err)
		}
	}
	return unclosed{s.spooled}, nil
}

// isPiped reports whether standard input can be read front to back only.
func (s *session) isPiped() bool {
	f, ok := s.stdin.(*os.File)
	if !ok {
		return true
	}
	info, err := f.Stat()
	return err != nil || !info.Mode().IsRegular() && !hostfile.IsBlockDevice(info)
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
	img, err := in.openWith(ctx, s, o.Name, o)
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

// openStream returns what can be read front to back only, standard input if it
// is a pipe and what a server gives in one piece, and else nil.
func (in *input) openStream(ctx context.Context, s *session, name string) (diskimage.Stream, error) {
	var from io.Reader
	var err error
	if r := s.remotes[name]; r != nil {
		if from, err = in.remoteStream(ctx, s, r); err != nil {
			return nil, couldNotOpen(name, err)
		}
	} else if name == stdName && s.isPiped() && in.spool == "" {
		from = &patient{ctx: ctx, r: s.stdin}
	}
	if from == nil {
		return nil, nil
	}
	o, err := in.openOptions(name)
	if err != nil {
		return nil, err
	}
	o.Snapshot = in.snapshot
	stream, err := convert.OpenStream(ctx, from, o)
	if err != nil {
		return nil, couldNotOpen(name, err)
	}
	return stream, nil
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
