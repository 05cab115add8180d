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

// A job is one conversion, said as the arguments of convert that both
// programs understand.
type job struct {
	name string
	from string // the input's name
	to   string // format of the output
	args []string
	pipe bool // our command reads the input from a pipe; qemu-img, which cannot, from the file
}

// What -o says of the VMDK images that products exchange, and of VHD images
// whose disk is as large as it is.
var (
	stream  = []string{"-o", "subformat=streamOptimized"}
	dynamic = []string{"-o", "force_size"}
	fixed   = []string{"-o", "subformat=fixed,force_size"}
)

var jobs = []job{
	{"raw to qcow2", "disk.raw", "qcow2", nil, false},
	{"qcow2 to raw", "plain.qcow2", "raw", nil, false},
	{"raw to zlib", "disk.raw", "qcow2", []string{"-c"}, false},
	{"raw to zstd", "disk.raw", "qcow2", []string{"-c", "-o", "compression_type=zstd"}, false},
	{"zlib to raw", "zlib.qcow2", "raw", nil, false},
	{"zstd to raw", "zstd.qcow2", "raw", nil, false},
	{"zlib to zlib", "zlib.qcow2", "qcow2", []string{"-c"}, false},
	{"streamOptimized to qcow2", "stream.vmdk", "qcow2", nil, false},
	{"streamOptimized to zlib", "stream.vmdk", "qcow2", []string{"-c"}, false},
	{"streamOptimized, piped, to qcow2", "stream.vmdk", "qcow2", nil, true},
	{"streamOptimized, piped, to zlib", "stream.vmdk", "qcow2", []string{"-c"}, true},
	{"zlib to streamOptimized", "zlib.qcow2", "vmdk", stream, false},
	{"raw to streamOptimized", "disk.raw", "vmdk", stream, false},
	{"monolithicSparse to qcow2", "sparse.vmdk", "qcow2", nil, false},
	{"qcow2 to monolithicSparse", "plain.qcow2", "vmdk", nil, false},
	{"dynamic VHD to qcow2", "dynamic.vpc", "qcow2", nil, false},
	{"qcow2 to dynamic VHD", "plain.qcow2", "vpc", dynamic, false},
	{"fixed VHD to raw", "fixed.vpc", "raw", nil, false},
	{"raw to fixed VHD", "disk.raw", "vpc", fixed, false},
}

// format returns the format of an input, by its name.
func format(name string) string { return filepath.Ext(name)[1:] }

// bench is what all runs share.
type bench struct {
	reference, ours string // the two programs
	work            string // the folder of inputs and outputs
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
	if err := readThrough(b.path(j.from)); err != nil { // equally warm for both
		return err
	}
	syncAll()
	used, err := s.run(ctx, j, mode, out)
	if err != nil {
		return err
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

func (b *bench) runReference(ctx context.Context, j job, mode, out string) (usage, error) {
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

func (b *bench) runOurs(ctx context.Context, j job, mode, out string) (usage, error) {
	args := append([]string{"convert", "-f", format(j.from), "-O", j.to}, j.args...)
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
