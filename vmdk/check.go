package vmdk

import (
	"context"
	"errors"
	"fmt"

	"github.com/diskimage-go/diskimage"
)

// CheckOptions says how [Check] goes about it. The zero value is right for an
// image of one file.
type CheckOptions struct {
	// Name is the image's file name, as [Options] has it. Default: not known.
	Name string

	// Opener opens the extents and the parent that the image names. Default:
	// none is opened; an image of several files is then refused with
	// [diskimage.ErrExternal], and the parent is not looked at.
	Opener diskimage.Opener

	// Data asks that compressed grains be decoded, and held against their
	// checksums: all data is read then. Default: only tables and markers are.
	Data bool

	// Report is called with each finding, in the same order every time, from
	// the goroutine that called Check: with the first [MaxReported] of them, since
	// a small file can have millions. Default: findings are only counted.
	Report func(Finding)
}

// MaxReported is how many findings [Check] reports one by one.
const MaxReported = 10_000

// A FindingKind says how bad a [Finding] is.
type FindingKind uint8

const (
	FindingLeak       FindingKind = iota // space is lost, data is not
	FindingCorruption                    // data is damaged, or would be by the next write, or by a reader that relies on the copy
	FindingError                         // something could not be read, so that it was not checked
)

func (k FindingKind) String() string {
	switch k {
	case FindingLeak:
		return "leak"
	case FindingCorruption:
		return "corruption"
	case FindingError:
		return "error"
	}
	return fmt.Sprintf("FindingKind(%d)", uint8(k))
}

// A Finding is one thing that is wrong with an image.
type Finding struct {
	Kind FindingKind
	File int    // which file of the image, as [diskimage.Extent] counts them
	Off  int64  // offset in that file of the entry, marker or sector at fault, -1 where there is none
	Text string // one line; it names the file if that is not the image itself
}

// A CheckResult is what a check found.
type CheckResult struct {
	ImageEndOffset   int64 // end of the last sector in use of the sparse file that is longest
	TotalGrains      int64 // of the sparse extents
	AllocatedGrains  int64 // of those, the ones with a place in a file
	FragmentedGrains int64 // of those, the ones that do not follow the one before
	CompressedGrains int64 // of those, the compressed ones
	Leaks            int64 // runs of sectors that nothing refers to, entries behind the disk's end
	Corruptions      int64
	CheckErrors      int64 // things that could not be checked
}

// Check checks the metadata of the VMDK image in src and, as far as the opener
// allows, of the files that it names:
//
//   - header, footer, descriptor and the lengths of the files of a set, as
//     [Open] does, which refuses what it cannot read;
//   - that grain directories, grain tables and grains lie inside the file, and
//     none in another, in other metadata, or where two entries both say;
//   - that the redundant grain directory and its tables say the same;
//   - of compressed grains that the marker is of this grain and of a size that
//     may be; of streamOptimized extents with the directory at the end that
//     each table and the directory have theirs;
//   - that nothing in the file is lost: sectors behind the metadata that
//     nothing refers to.
//
// Extents of ESX (VMFSSPARSE, SESPARSE) are held to the rules of reading them,
// up to the first that is broken, and not asked for what is lost.
//
// With an Opener the parent is opened too, which must have the content ID that
// the image asks for; it is not itself checked.
//
// What is wrong with the tables is reported and counted, and is no error. An
// error means that there is no result: src is no VMDK image, or one that Open
// refuses, or ctx was cancelled. src stays open.
//
// qemu-img check finds entries that point behind the end of the file and
// nothing else of all this.
//
// Memory: 64 MiB at most for each of three sets of sectors, of which most
// images need a thousandth. Files of more than 256 GiB are walked several times.
//
// Source: VMware's "Virtual Disk Format 5.0", sections "Hosted Sparse Extents"
// and "Stream-Optimized Compressed Sparse Extents".
func Check(ctx context.Context, src diskimage.Source, o CheckOptions) (*CheckResult, error) {
	d, err := Open(ctx, src, Options{Name: o.Name, Opener: o.Opener, SkipExternal: o.Opener == nil})
	if err != nil {
		return nil, err
	}
	defer d.closeOpened() // src is the caller's
	c := &checker{ctx: ctx, decode: o.Data, report: o.Report}
	for i := range d.parts {
		if err := c.checkPart(&d.parts[i]); err != nil {
			return nil, err
		}
	}
	return &c.res, nil
}

// A checker is one check under way.
type checker struct {
	ctx    context.Context
	decode bool
	report func(Finding)

	res  CheckResult
	file int    // the file that is looked at
	name string // of that file; "" of the image itself

	// later says that this is not the first walk over a file: what does not
	// depend on the window was reported.
	later bool
}

// find counts a finding, and reports it with its text.
func (c *checker) find(f Finding, format string, args ...any) {
	word := "ERROR "
	switch f.Kind {
	case FindingLeak:
		c.res.Leaks++
		word = "Leaked: "
	case FindingCorruption:
		c.res.Corruptions++
	case FindingError:
		c.res.CheckErrors++
	}
	if c.report == nil || c.res.Leaks+c.res.Corruptions+c.res.CheckErrors > MaxReported {
		return
	}
	f.File = c.file
	f.Text = word
	if c.name != "" {
		f.Text += "extent " + diskimage.Quote(c.name) + ": "
	}
	f.Text += fmt.Sprintf(format, args...)
	c.report(f)
}

// corrupt reports damage that does not depend on the window.
func (c *checker) corrupt(off int64, format string, args ...any) {
	if !c.later {
		c.find(Finding{Kind: FindingCorruption, Off: off}, format, args...)
	}
}

// failed reports what could not be read.
func (c *checker) failed(off int64, err error) {
	if !c.later {
		c.find(Finding{Kind: FindingError, Off: off}, "%s", err)
	}
}

// damaged reports the damage that err tells of, or that it is of another kind
// and keeps something from being checked.
func (c *checker) damaged(err error) {
	var e *diskimage.Error
	if !errors.As(err, &e) {
		c.failed(-1, err)
		return
	}
	fact := *e
	fact.Format = ""
	c.corrupt(e.Off, "%v", &fact)
}

// checkPart checks part i of the disk.
func (c *checker) checkPart(p *diskPart) error {
	c.file, c.name = p.file, ""
	if p.file != 0 {
		c.name = p.line.fileName
	}
	if s, ok := p.part.(*sparse); ok {
		return c.checkSparse(s)
	}
	return c.checkWhole(p.part)
}

// checkWhole checks a part of a kind that is not walked here: by the rules of
// reading it, up to the first that is broken.
func (c *checker) checkWhole(p part) error {
	err := p.checkMap()
	var e *diskimage.Error
	switch {
	case err == nil:
		return nil
	case c.ctx.Err() != nil:
		return c.ctx.Err()
	case errors.As(err, &e) && e.Kind != diskimage.ErrCorrupt && e.Kind != diskimage.ErrTruncated:
		return err
	}
	c.damaged(err)
	return nil
}
