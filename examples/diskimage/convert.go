package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strconv"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/convert"
	"github.com/diskimage-go/diskimage/vmdk"
)

const convertSynopsis = "[-f FMT] [--disk N|NAME] [-O FMT] [-o OPTIONS] [-c [--level N] [--window auto|4k|32k] [--trust-compressed]] [-B FILE -F FMT] [-l SNAPSHOT] [-S SIZE] [-n [--target-is-zero]] " +
	"[-t CACHE] [-m WORKERS] [-p] [-q] [--progress=json] [--verify] [--digest] [--sidecar] [--block-hash] [--salvage] [--max-virtual-size SIZE] [--max-output-size SIZE] [--raw-anyway] [--force] [--size-rule RULE] [--unwrap] [--spool DIR] [--header H] [--public-only] [--allow-external[=DIR|any]] SOURCE TARGET"

// A conversion is the command line of convert.
type conversion struct {
	in         input
	source     string
	target     string
	format     convert.Format
	formatName string
	opts       []string // -o
	compress   bool
	backing    string // -B
	backingFmt string // -F
	inPlace    bool   // -n
	zeroed     bool   // --target-is-zero
	copying    bool   // -C
	sparse     int64  // -S, -1 if not given
	force      bool
	sidecar    bool
	said       []string // notes for when the options are read
	form       progressForm
	level      int
	window     int
	of         formatOptions

	convert.Options
}

func runConvert(ctx context.Context, s *session, args []string) (int, error) {
	c := &conversion{formatName: "raw", sparse: -1}
	operands, err := parse(args, c.in.options(), c.options(s))
	if err != nil {
		return 1, err
	}
	if c.format, err = targetFormat(c.formatName); err != nil {
		return 1, err
	}
	if wantsHelp(c.opts) {
		return 0, writeOptionHelp(s.stdout, c.format)
	}
	switch {
	case len(operands) < 2:
		return 1, errors.New("Must specify image file name")
	case len(operands) > 2:
		return 1, fmt.Errorf("%d source images: joining several is not supported", len(operands)-1)
	}
	c.source, c.target = operands[0], operands[1]
	if err := c.settle(); err != nil {
		return 1, err
	}
	for _, text := range c.said {
		s.note(text)
	}
	report, err := c.run(ctx, s)
	if err != nil {
		return 1, err
	}
	c.tell(s, report)
	if c.sidecar {
		if err := c.writeSidecar(report.Files); err != nil {
			return 1, about(sidecarName(c.target), err)
		}
	}
	return 0, nil
}

func (c *conversion) options(s *session) []option {
	return []option{
		value('O', "target-format", &c.formatName),
		parsed('o', "target-options", func(v string) error { c.opts = append(c.opts, v); return nil }),
		flag('c', "compress", &c.compress),
		value('B', "backing", &c.backing),
		value('F', "backing-format", &c.backingFmt),
		value('l', "snapshot", &c.in.snapshot),
		parsed('S', "sparse-size", c.setSparse),
		flag('n', "no-create", &c.inPlace),
		flag(0, "target-is-zero", &c.zeroed),
		parsed('t', "cache", func(v string) error { return c.setCache(v, "-t", &c.Unsynced) }),
		parsed('T', "source-cache", func(v string) error { return c.setCache(v, "-T", new(bool)) }),
		parsed('m', "parallel", c.setWorkers),
		ignored('W', "oob", noArgument), // the order of writes is ours to choose, the bytes are the same
		flag('C', "copy-range-offloading", &c.copying),
		{'p', "", noArgument, func(string) error { c.form = progressPlain; return nil }},
		{0, "progress", optionalArgument, c.setProgress},
		flag('q', "quiet", &s.quiet),
		flag(0, "verify", &c.Verify),
		flag(0, "digest", &c.Digest),
		flag(0, "sidecar", &c.sidecar),
		flag(0, "block-hash", &c.BlockHash),
		flag(0, "salvage", &c.Salvage),
		flag(0, "force", &c.force),
		parsed(0, "max-virtual-size", func(v string) (err error) {
			c.in.maxVirtual, err = sizeArgument("max virtual size", v)
			return err
		}),
		parsed(0, "max-output-size", func(v string) (err error) {
			c.MaxOutputSize, err = sizeArgument("max output size", v)
			return err
		}),
		parsed(0, "level", func(v string) (err error) {
			if c.level, err = strconv.Atoi(v); err != nil || c.level < 1 {
				return fmt.Errorf("--level: %s is no level", v)
			}
			return nil
		}),
		parsed(0, "window", func(v string) error {
			switch v {
			case "auto":
				c.window = 0
			case "4k", "4K", "4096":
				c.window = 4 << 10
			case "32k", "32K", "32768":
				c.window = 32 << 10
			default:
				return fmt.Errorf("--window: %s is none of auto, 4k and 32k", v)
			}
			return nil
		}),
		flag(0, "trust-compressed", &c.TrustStored),
		refused('r', "rate-limit", needsArgument, "the rate is not limited"),
		refused(0, "bitmaps", noArgument, "bitmaps are not copied"),
		refused(0, "skip-broken-bitmaps", noArgument, "bitmaps are not copied"),
		refused(0, "target-image-opts", noArgument, "the target is a file name"),
	}
}

func (c *conversion) setProgress(v string) error {
	switch v {
	case "":
		c.form = progressPlain
	case "json":
		c.form = progressJSON
	default:
		return fmt.Errorf("--progress: %s is not json", v)
	}
	return nil
}

func (c *conversion) setWorkers(v string) error {
	n, err := strconv.Atoi(v)
	if err != nil || n < 1 || n > 16 {
		return errors.New("Invalid number of coroutines. Allowed number of coroutines is between 1 and 16")
	}
	c.Workers = n
	return nil
}

func (c *conversion) setSparse(v string) error {
	n, err := parseSize(v)
	if err != nil || n%512 != 0 || n > 16<<20 {
		return errors.New("Invalid buffer size for sparse output specified. Valid sizes are multiples of 512 up to 16777216. Select 0 to disable sparse detection (fully allocates output).")
	}
	c.sparse, c.AllocateZeros = n, n == 0
	return nil
}

// sparseFits reports whether zeros will be found as -S asks: in steps of 4 KiB
// for a raw target, flat extents and a fixed VHD, in whole clusters for QCOW2,
// in grains for the other VMDKs, in blocks for the other VHDs, or not at all.
func (c *conversion) sparseFits(o *formatOptions) bool {
	switch {
	case c.format == convert.QCOW2:
		return c.sparse <= cmp.Or(o.qcow2.ClusterSize, 64<<10)
	case c.format == convert.VMDK && !o.flatVMDK():
		return c.sparse <= 64<<10
	case c.format == convert.VHD && !fixedVHD(o.vhd):
		return c.sparse <= cmp.Or(o.vhd.BlockSize, 2<<20)
	}
	return c.sparse <= 0 || c.sparse == 4096
}

// setCache takes the reference's cache modes. Two of them can be had for a
// target: with and without waiting for the disk at the end.
func (c *conversion) setCache(mode, letter string, unsynced *bool) error {
	switch mode {
	case "unsafe", "writeback":
	case "none", "writethrough", "directsync":
		c.said = append(c.said, letter+" "+mode+": the page cache is used all the same, and the target synced at the end")
	default:
		return errors.New("Invalid cache option: " + mode)
	}
	*unsynced = mode == "unsafe"
	return nil
}

// targetFormat returns a format that can be written.
func targetFormat(name string) (convert.Format, error) {
	f, err := convert.ParseFormat(name)
	if err != nil || f == convert.Auto {
		return f, fmt.Errorf("Unknown file format '%s'", name)
	}
	if f == convert.OVA {
		return f, fmt.Errorf("format %v cannot be written, only qcow2, raw, vmdk and vpc can", f)
	}
	return f, nil
}

// settle makes the pipeline's options of the command line's.
func (c *conversion) settle() error {
	o, err := parseFormatOptions(c.format, c.opts)
	if err != nil {
		return err
	}
	if c.backing != "" {
		o.backing = c.backing
	}
	if c.backingFmt != "" {
		o.backingFmt = c.backingFmt
	}
	toPipe := c.target == stdName
	switch {
	case c.compress && (c.format == convert.Raw || c.format == convert.VHD):
		return errors.New("Compression not supported for this file format")
	case !c.compress && (c.level != 0 || c.window != 0):
		return errors.New("--level and --window need -c")
	case c.TrustStored && !c.compress:
		return errors.New("--trust-compressed needs -O qcow2 -c: what is not moved has to be decoded")
	case !c.compress && o.qcow2.Compression == diskimage.Zstd:
		return errors.New("compression_type=zstd needs -c: it would only make the image harder to read")
	case o.size >= 0:
		return errors.New("option 'size' is not supported: the target is as large as the source")
	case o.backing != "" && c.format == convert.Raw:
		return fmt.Errorf("Backing file not supported for file format '%v'", c.format)
	case o.backing != "" && o.backingFmt == "":
		return errors.New("Use of backing file requires explicit backing format")
	case o.backing == "" && o.backingFmt != "":
		return errors.New("Use of backing format requires a backing file")
	case o.backing != "" && c.AllocateZeros:
		return errors.New("-S 0 allocates everything, -B leaves out what is below: not both")
	case o.backing != "" && (c.Digest || c.BlockHash):
		return errors.New("--digest and --block-hash are of the whole disk, -B writes one layer of it: not both")
	case c.zeroed && !c.inPlace:
		return errors.New("--target-is-zero requires use of -n flag")
	case c.inPlace && (c.format != convert.Raw || toPipe):
		return errors.New("-n writes into an existing raw file or device, and into nothing else")
	case c.copying && (c.compress || c.sparse >= 0):
		return errors.New("Cannot enable copy offloading when -c or -S is used")
	case !c.sparseFits(&o):
		return fmt.Errorf("option '-S' with %d is not supported: zeros are told from data in steps of 4k in a raw target, flat extents and a fixed VHD, of a cluster in QCOW2, of 64k in another VMDK, of a block in another VHD", c.sparse)
	case c.sidecar && (toPipe || c.inPlace):
		return errNoSidecar
	case toPipe && c.Verify:
		return errors.New("--verify: what went into a pipe cannot be read back")
	}
	if c.compress && o.qcow2.Compression == diskimage.Plain {
		o.qcow2.Compression = diskimage.Deflate
	}
	if !c.compress {
		o.qcow2.Compression = diskimage.Plain
	}
	o.qcow2.Level, o.qcow2.Window = c.level, c.window
	if c.format == convert.VMDK {
		if err := c.settleVMDK(&o); err != nil {
			return err
		}
	}
	o.nameBacking(c.format)
	c.Format, c.QCOW2, c.VMDK, c.VHD = c.format, o.qcow2, o.vmdk, o.vhd
	c.OnlyTop, c.Force = o.backing != "", c.force
	c.FileDigest = (c.Digest || c.sidecar) && !c.inPlace
	c.of = o
	c.in.salvage = c.Salvage
	return nil
}

// settleVMDK does what is left of settle for a VMDK.
func (c *conversion) settleVMDK(o *formatOptions) error {
	if c.window != 0 {
		return errors.New("--window is not for a VMDK: all that read one take a window of 32k")
	}
	if c.compress {
		note, err := o.compressVMDK()
		if err != nil {
			return err
		}
		if note != "" {
			c.said = append(c.said, note)
		}
	}
	o.vmdk.Level = c.level
	return nil
}

// run opens the source and converts it.
func (c *conversion) run(ctx context.Context, s *session) (*convert.Report, error) {
	if s.remotes[c.target] != nil {
		return nil, fmt.Errorf("'%s': a URL cannot be written to", c.target)
	}
	stream, err := c.in.openStream(ctx, s, c.source)
	if err != nil {
		return nil, err
	}
	if stream != nil {
		defer stream.Close()
		return c.runStream(ctx, s, stream, nil)
	}
	stream, file, err := c.in.openEnclosed(ctx, s, c.source)
	if err != nil {
		return nil, err
	}
	if stream != nil {
		defer file.Close()
		defer stream.Close()
		var from []fs.FileInfo
		if f, ok := file.(interface{ Info() fs.FileInfo }); ok { // unless it is no file
			from = append(from, f.Info())
		}
		return c.runStream(ctx, s, stream, from)
	}
	img, err := c.in.open(ctx, s, c.source)
	if err != nil {
		return nil, err
	}
	defer img.Close()
	if err := c.checkBacking(ctx, s, img.disk.Size(), img.layers()); err != nil {
		return nil, err
	}
	if c.target == stdName {
		if err := checkStdout(s.stdout); err != nil {
			return nil, err
		}
		return c.report(s, func() (*convert.Report, error) { return convert.ToWriter(ctx, s.stdout, img.disk, c.Options) })
	}
	if !c.inPlace {
		reads := append(img.files(), c.of.below...)
		if err := checkTargets(c.target, img.disk.Size(), c.Options, reads); err != nil {
			return nil, err
		}
		if err := c.checkSidecar(reads); err != nil {
			return nil, err
		}
		return c.report(s, func() (*convert.Report, error) { return convert.ToFile(ctx, c.target, img.disk, c.Options) })
	}
	if err := checkTarget(c.target, true, img.files()); err != nil {
		return nil, err
	}
	return c.replace(s, img.disk.Size(), func(out *inPlace) (*convert.Report, error) {
		return convert.ToOutput(ctx, out, img.disk, c.Options)
	})
}

// runStream converts what is read front to back, from these files.
func (c *conversion) runStream(ctx context.Context, s *session, stream diskimage.Stream, from []fs.FileInfo) (*convert.Report, error) {
	if err := c.checkBacking(ctx, s, stream.Size(), nil); err != nil {
		return nil, err
	}
	if c.target == stdName {
		if err := checkStdout(s.stdout); err != nil {
			return nil, err
		}
		return c.report(s, func() (*convert.Report, error) { return convert.StreamToWriter(ctx, s.stdout, stream, c.Options) })
	}
	if !c.inPlace {
		reads := append(from, c.of.below...)
		if err := checkTargets(c.target, stream.Size(), c.Options, reads); err != nil {
			return nil, err
		}
		if err := c.checkSidecar(reads); err != nil {
			return nil, err
		}
		return c.report(s, func() (*convert.Report, error) { return convert.StreamToFile(ctx, c.target, stream, c.Options) })
	}
	if err := checkTarget(c.target, true, from); err != nil {
		return nil, err
	}
	if stream.Size() < 0 {
		return nil, errors.New("-n: standard input is a pipe, and how large the disk in it is shows only at its end (--spool DIR)")
	}
	return c.replace(s, stream.Size(), func(out *inPlace) (*convert.Report, error) {
		return convert.StreamToOutput(ctx, out, stream, c.Options)
	})
}

// replace has work write a disk of size bytes into the existing target.
func (c *conversion) replace(s *session, size int64, work func(*inPlace) (*convert.Report, error)) (*convert.Report, error) {
	s.noteLink(c.target)
	out, err := openInPlace(c.target, size, c.zeroed)
	if err != nil {
		return nil, couldNotOpen(c.target, err)
	}
	report, err := c.report(s, func() (*convert.Report, error) { return work(out) })
	if cerr := out.f.Close(); err == nil && cerr != nil {
		return nil, about(c.target, cerr)
	}
	return report, err
}

// checkBacking opens the target's backing file, which is the user's to name.
// It has to stand for what is below the source, whose size (-1: not known) and
// layers are given: were it shorter, what the source has below behind its end
// would be lost.
func (c *conversion) checkBacking(ctx context.Context, s *session, source int64, layers []layer) error {
	if c.of.backing == "" {
		return nil
	}
	size, err := c.of.openBacking(ctx, s, c.target, c.format)
	if err != nil {
		return err
	}
	c.VMDK.ParentCID, c.VHD.Parent = c.of.vmdk.ParentCID, c.of.vhd.Parent
	if c.format == convert.VHD && source >= 0 && size != roundToSector(source) {
		return fmt.Errorf("%s: a differencing disk is as large as its parent: the backing file '%s' has %d bytes, the source %d", c.target, c.of.backing, size, source)
	}
	if len(layers) > 1 {
		if below := min(layers[1].disk.Size(), source); size < below {
			return fmt.Errorf("%s: the backing file '%s' has %d bytes, fewer than the %d that the source has below", c.target, c.of.backing, size, below)
		}
	}
	return nil
}

// report does the work with its progress shown, and names the source and the
// target in its error.
func (c *conversion) report(s *session, work func() (*convert.Report, error)) (*convert.Report, error) {
	p := c.progress(s)
	if p != nil {
		c.Progress = p.show
	}
	report, err := work()
	p.end(err == nil)
	if err != nil {
		return nil, fmt.Errorf("%s: error while converting to %s: %w", c.source, c.target, reason(err))
	}
	if p != nil {
		p.event(object{{"event", "report"}, {"size", report.Size}, {"data", report.Data}, {"zeros", report.Zeros}, {"holes", report.Holes},
			{"moved", report.Moved}, {"unverified", report.Unverified}, {"written", report.Written}, {"verified", report.Verified}, {"seconds", seconds(report.Duration)}})
	}
	return report, nil
}

// progress returns how the conversion is to be shown: on standard output as
// the reference does, unless the image goes there.
func (c *conversion) progress(s *session) *progress {
	w, phases := s.stdout, 1
	if c.target == stdName {
		w = s.stderr
		switch {
		case c.format == convert.QCOW2, c.format == convert.VMDK && c.VMDK.Subformat == vmdk.MonolithicSparse, c.format == convert.VHD && !fixedVHD(c.VHD):
			phases = 2
		}
	}
	if c.Verify {
		phases = 2
	}
	if c.FileDigest && c.target != stdName {
		phases++
	}
	form := c.form
	switch {
	case form == progressJSON:
		w = s.stderr
	case s.quiet:
		form = progressNone
	case form == progressPlain && isTerminal(w):
		form = progressLive
	}
	return newProgress(form, w, phases)
}

// tell prints what is to be said of a conversion that succeeded.
func (c *conversion) tell(s *session, r *convert.Report) {
	for _, lost := range r.Unreadable {
		fmt.Fprintf(s.stderr, "diskimage: %s: %d guest bytes at %#x could not be read and are zeros in %s\n", c.source, lost.Len, lost.Off, c.target)
	}
	s.notes(r.Notes...)
	w := s.stdout
	if c.target == stdName {
		w = s.stderr
	}
	for _, sum := range []struct {
		hash []byte
		of   string
	}{
		{r.Digest, c.source}, {r.OutputDigest, c.target}, {r.BlockHash, c.source},
	} {
		if sum.hash != nil {
			fmt.Fprintf(w, "%x  %s (guest disk)\n", sum.hash, sum.of)
		}
	}
	if c.Digest {
		writeSums(w, filepath.Dir(c.target), r.Files)
	}
}
