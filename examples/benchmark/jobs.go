package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"time"
)

const (
	unsynced = "unsynced"
	synced   = "synced"
)

// A job is one run of each program, said as the arguments that both understand.
type job struct {
	name string
	verb string   // default: convert
	from string   // the input's name
	to   string   // convert: format of the output
	args []string // of both
	ours []string // of our command alone
	pipe bool     // our command reads the input from a pipe; qemu-img, which cannot, from the file
}

// What -o says of the VMDK images that products exchange, and of VHD images
// whose disk is as large as it is.
var (
	stream  = []string{"-o", "subformat=streamOptimized"}
	dynamic = []string{"-o", "force_size"}
	fixed   = []string{"-o", "subformat=fixed,force_size"}
)

var jobs = []job{
	{name: "raw to qcow2", from: "disk.raw", to: "qcow2"},
	{name: "qcow2 to raw", from: "plain.qcow2", to: "raw"},
	{name: "raw to zlib", from: "disk.raw", to: "qcow2", args: []string{"-c"}},
	{name: "raw to zlib, window of 32k", from: "disk.raw", to: "qcow2", args: []string{"-c"}, ours: []string{"--window", "32k"}},
	{name: "raw to zstd", from: "disk.raw", to: "qcow2", args: []string{"-c", "-o", "compression_type=zstd"}},
	{name: "zlib to raw", from: "zlib.qcow2", to: "raw"},
	{name: "zstd to raw", from: "zstd.qcow2", to: "raw"},
	{name: "zlib to zlib", from: "zlib.qcow2", to: "qcow2", args: []string{"-c"}},
	{name: "streamOptimized to qcow2", from: "stream.vmdk", to: "qcow2"},
	{name: "streamOptimized to zlib", from: "stream.vmdk", to: "qcow2", args: []string{"-c"}},
	{name: "streamOptimized, piped, to qcow2", from: "stream.vmdk", to: "qcow2", pipe: true},
	{name: "streamOptimized, piped, to zlib", from: "stream.vmdk", to: "qcow2", args: []string{"-c"}, pipe: true},
	{name: "zlib to streamOptimized", from: "zlib.qcow2", to: "vmdk", args: stream},
	{name: "raw to streamOptimized", from: "disk.raw", to: "vmdk", args: stream},
	{name: "monolithicSparse to qcow2", from: "sparse.vmdk", to: "qcow2"},
	{name: "qcow2 to monolithicSparse", from: "plain.qcow2", to: "vmdk"},
	{name: "dynamic VHD to qcow2", from: "dynamic.vpc", to: "qcow2"},
	{name: "qcow2 to dynamic VHD", from: "plain.qcow2", to: "vpc", args: dynamic},
	{name: "fixed VHD to raw", from: "fixed.vpc", to: "raw"},
	{name: "raw to fixed VHD", from: "disk.raw", to: "vpc", args: fixed},
	{name: "compare plain.qcow2", verb: "compare", from: "plain.qcow2"},
	{name: "compare zlib.qcow2", verb: "compare", from: "zlib.qcow2"},
	{name: "compare sparse.vmdk", verb: "compare", from: "sparse.vmdk"},
	{name: "compare dynamic.vpc", verb: "compare", from: "dynamic.vpc"},
	{name: "check plain.qcow2", verb: "check", from: "plain.qcow2"},
	{name: "check zlib.qcow2", verb: "check", from: "zlib.qcow2"},
	{name: "check sparse.vmdk", verb: "check", from: "sparse.vmdk"},
	{name: "map plain.qcow2", verb: "map", from: "plain.qcow2", args: []string{"--output=json"}},
	{name: "map zlib.qcow2", verb: "map", from: "zlib.qcow2", args: []string{"--output=json"}},
	{name: "map sparse.vmdk", verb: "map", from: "sparse.vmdk", args: []string{"--output=json"}},
	{name: "map dynamic.vpc", verb: "map", from: "dynamic.vpc", args: []string{"--output=json"}},
	{name: "measure plain.qcow2", verb: "measure", from: "plain.qcow2", args: []string{"-O", "qcow2"}},
	{name: "measure zlib.qcow2", verb: "measure", from: "zlib.qcow2", args: []string{"-O", "qcow2"}},
	{name: "measure disk.raw", verb: "measure", from: "disk.raw", args: []string{"-O", "qcow2"}},
	{name: "info plain.qcow2", verb: "info", from: "plain.qcow2"},
	{name: "info zlib.qcow2", verb: "info", from: "zlib.qcow2"},
	{name: "info stream.vmdk", verb: "info", from: "stream.vmdk"},
	{name: "info dynamic.vpc", verb: "info", from: "dynamic.vpc"},
}

// format returns the format of an input, by its name.
func format(name string) string { return filepath.Ext(name)[1:] }

// bench is what all runs share.
type bench struct {
	reference, ours string // the two programs
	work            string // the folder of inputs and outputs
	cold            bool   // inputs are not in the page cache
	spare           bool   // memory for an output is at hand
	log             io.Writer

	size, allocated int64 // of disk.raw
}

// A side is one of the two programs, and where its measurements go.
type side struct {
	run func(ctx context.Context, j job, mode, out string) (usage, error)
	to  *measured
}

func (b *bench) path(name string) string { return filepath.Join(b.work, name) }

// makeInputs makes disk.raw and those images of it that jobs of the results
// begin with.
func (b *bench) makeInputs(ctx context.Context, src, tree, size string, results []result) error {
	disk := b.path("disk.raw")
	if src != "" {
		fmt.Fprintln(b.log, "reading", src)
		if _, err := output(ctx, b.reference, "convert", "-O", "raw", src, disk); err != nil {
			return err
		}
	} else if err := b.makeFileSystem(ctx, disk, tree, size); err != nil {
		return err
	}
	info, err := os.Stat(disk)
	if err != nil {
		return err
	}
	b.size, b.allocated = info.Size(), allocated(info)
	for name, args := range map[string][]string{
		"plain.qcow2": nil,
		"zlib.qcow2":  {"-c"},
		"zstd.qcow2":  {"-c", "-o", "compression_type=zstd"},
		"sparse.vmdk": nil,
		"stream.vmdk": stream,
		"dynamic.vpc": dynamic,
		"fixed.vpc":   fixed,
	} {
		if !slices.ContainsFunc(results, func(r result) bool { return r.job.from == name }) {
			continue
		}
		fmt.Fprintln(b.log, "making", name)
		args = append([]string{"convert", "-f", "raw", "-O", format(name)}, args...)
		if format(name) == "qcow2" { // grains in any order would be no stream
			args = append(args, "-W", "-m", "16")
		}
		if _, err := output(ctx, b.reference, append(args, disk, b.path(name))...); err != nil {
			return err
		}
	}
	return nil
}

// makeFileSystem makes an ext4 file system of the files under tree.
func (b *bench) makeFileSystem(ctx context.Context, disk, tree, size string) error {
	mkfs, err := exec.LookPath("mkfs.ext4")
	if err != nil { // where users do not have the administrator's PATH
		mkfs, err = exec.LookPath("/usr/sbin/mkfs.ext4")
	}
	if err != nil {
		return err
	}
	if size == "" {
		files, err := treeSize(tree)
		if err != nil {
			return err
		}
		size = strconv.FormatInt((files*4/3>>20+64)<<10, 10) // in KiB
	}
	fmt.Fprintln(b.log, "making a file system of", tree)
	_, err = output(ctx, mkfs, "-q", "-m", "0", "-d", tree, disk, size)
	return err
}

// treeSize returns the bytes that the files under a folder take, in blocks of
// 4 KiB.
func treeSize(tree string) (total int64, err error) {
	err = filepath.WalkDir(tree, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if !d.IsDir() {
			total += (info.Size() + 4095) &^ 4095
		}
		total += 512 // its name and inode
		return nil
	})
	return total, err
}

// measure runs one job with one program and records what it took.
func (b *bench) measure(ctx context.Context, s side, j job, mode string, verify bool) error {
	out := b.path("out." + j.to)
	defer os.Remove(out)
	if err := b.settle(ctx, j); err != nil {
		return err
	}
	used, err := s.run(ctx, j, mode, out)
	if err != nil {
		return err
	}
	if j.verb != "" {
		s.to.add(used, 0, 0)
		return nil
	}
	info, err := os.Stat(out)
	if err != nil {
		return err
	}
	s.to.add(used, info.Size(), allocated(info))
	if !verify {
		return nil
	}
	if j.to != "raw" && j.to != "vpc" { // those it does not check
		if _, err := output(ctx, b.reference, "check", "-q", out); err != nil {
			return err
		}
	}
	_, err = output(ctx, b.reference, "compare", "-q", "-f", j.to, "-F", "raw", out, b.path("disk.raw"))
	return err
}

// settle makes what a job finds the same for both programs.
func (b *bench) settle(ctx context.Context, j job) error {
	from := b.path(j.from)
	if b.cold {
		syncAll()
		if _, err := output(ctx, "dd", "if="+from, "iflag=nocache", "count=0"); err != nil {
			return err
		}
	} else if err := readThrough(from); err != nil {
		return err
	}
	if b.spare && j.verb == "" {
		if err := b.spareMemory(); err != nil {
			return err
		}
	}
	syncAll()
	return nil
}

// spareMemory has memory for an output at hand, by writing one and deleting it:
// what was free for a while, the host of a virtual machine may have taken back,
// and takes longer to bring again than it takes to write to it.
func (b *bench) spareMemory() error {
	f, err := os.Create(b.path("spare"))
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	buf := make([]byte, 32<<10)
	for left := b.size; left > 0 && err == nil; left -= int64(len(buf)) {
		_, err = f.Write(buf)
	}
	return errors.Join(err, f.Close())
}

func (b *bench) runReference(ctx context.Context, j job, mode, out string) (usage, error) {
	if j.verb != "" {
		return timed(exec.CommandContext(ctx, b.reference, b.reading(j)...))
	}
	args := append([]string{"convert", "-W", "-m", "16", "-f", format(j.from), "-O", j.to}, j.args...)
	used, err := timed(exec.CommandContext(ctx, b.reference, append(args, b.path(j.from), out)...))
	if err != nil || mode == unsynced {
		return used, err
	}
	start := time.Now()
	err = errors.Join(syncPath(out), syncPath(b.work))
	used.seconds += time.Since(start).Seconds()
	return used, err
}

// reading returns the arguments of a job that writes nothing.
func (b *bench) reading(j job) []string {
	args := append([]string{j.verb, "-f", format(j.from)}, j.args...)
	if j.verb == "compare" {
		return append(args, "-F", "raw", b.path(j.from), b.path("disk.raw"))
	}
	return append(args, b.path(j.from))
}

func (b *bench) runOurs(ctx context.Context, j job, mode, out string) (usage, error) {
	if j.verb != "" {
		return timed(exec.CommandContext(ctx, b.ours, b.reading(j)...))
	}
	args := slices.Concat([]string{"convert", "-f", format(j.from), "-O", j.to}, j.args, j.ours)
	if mode == unsynced {
		args = append(args, "-t", "unsafe")
	}
	if !j.pipe {
		return timed(exec.CommandContext(ctx, b.ours, append(args, b.path(j.from), out)...))
	}
	in, err := os.Open(b.path(j.from))
	if err != nil {
		return usage{}, err
	}
	defer in.Close()
	cmd := exec.CommandContext(ctx, b.ours, append(args, "-", out)...)
	cmd.Stdin = struct{ io.Reader }{in} // not a file: copied through a pipe
	return timed(cmd)
}

// usage is what one run of a program took.
type usage struct {
	seconds float64
	cpu     float64 // seconds of processor time, user and system
	memory  int64   // peak resident bytes, 0 where the system does not tell
}

// timed runs a command.
func timed(cmd *exec.Cmd) (usage, error) {
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	start := time.Now()
	err := cmd.Run()
	used := usage{seconds: time.Since(start).Seconds()}
	if err != nil {
		return used, fmt.Errorf("%s: %w\n%s", cmd, err, stderr.Bytes())
	}
	used.cpu = (cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Seconds()
	used.memory = peakMemory(cmd.ProcessState)
	return used, nil
}

// output runs a command that is not measured.
func output(ctx context.Context, name string, args ...string) ([]byte, error) {
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		return out, fmt.Errorf("%s %q: %w\n%s", name, args, err, out)
	}
	return out, nil
}

// readThrough reads a file to its end.
func readThrough(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(io.Discard, f)
	return err
}

// syncPath waits until a file or folder is on the disk.
func syncPath(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
