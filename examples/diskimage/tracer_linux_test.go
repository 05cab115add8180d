//go:build amd64 || arm64

package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A step is a system call by which a command changes a file or a folder, or
// makes one durable.
type step struct {
	call string // its name: "create" for an open that may create
	name string // of the file it is about, without the folder
	to   string // of a rename
	off  int64  // of a write
	len  int64
}

func (s step) String() string {
	switch s.call {
	case "write":
		return fmt.Sprintf("write %s %d+%d", s.name, s.off, s.len)
	case "rename":
		return "rename " + s.name + " " + s.to
	}
	return s.call + " " + s.name
}

// Not in package syscall.
const (
	ptraceExitKill = 0x100000
	wNoThread      = 0x20000000 // __WNOTHREAD: children of this thread only
	atRemoveDir    = 0x200
)

// untilDone is no step's number.
const untilDone = -1

// A tracer runs a command and stops it before each of its steps.
type tracer struct {
	t      *testing.T
	pid    int
	dir    string       // steps are of files in here
	inside map[int]bool // threads that are in a system call
	steps  []step
}

// errNoTrace says that the system lets nobody trace a process.
var errNoTrace = errors.New("processes cannot be traced here")

// trace runs a command in the folder dir and returns its steps there, all
// threads' in the order in which they were begun, what it said and its exit
// code, -1 if a signal killed it. Before it takes step number k, counted from 0,
// it is sent the signal sig, which SIGKILL keeps it from. A test is skipped
// where tracing is refused.
func trace(t *testing.T, dir string, argv []string, k int, sig syscall.Signal) (steps []step, said string, code int) {
	t.Helper()
	// All requests must come from the thread that began; it ends with them, as
	// nobody unlocks it.
	type outcome struct {
		said string
		code int
		err  error
	}
	done := make(chan outcome)
	tr := &tracer{t: t, dir: dir, inside: map[int]bool{}}
	go func() {
		runtime.LockOSThread()
		var o outcome
		o.said, o.code, o.err = tr.run(argv, k, sig)
		done <- o
	}()
	o := <-done
	if errors.Is(o.err, errNoTrace) && os.Getenv(envEvery) != "1" {
		t.Skip(o.err)
	}
	require.NoError(t, o.err)
	return tr.steps, o.said, o.code
}

func (tr *tracer) run(argv []string, k int, sig syscall.Signal) (said string, code int, err error) {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return "", 0, err
	}
	defer null.Close()
	out, err := os.CreateTemp(tr.t.TempDir(), "")
	if err != nil {
		return "", 0, err
	}
	defer out.Close()
	tr.pid, err = syscall.ForkExec(argv[0], argv, &syscall.ProcAttr{
		Dir: tr.dir, Env: append(os.Environ(), "DISKIMAGE_TEST_COMMAND=1"),
		Files: []uintptr{null.Fd(), null.Fd(), out.Fd()},
		Sys:   &syscall.SysProcAttr{Ptrace: true},
	})
	if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.ENOSYS) {
		return "", 0, fmt.Errorf("%w: %w", errNoTrace, err)
	}
	if err != nil {
		return "", 0, err
	}
	late := time.AfterFunc(time.Minute, func() { syscall.Kill(tr.pid, syscall.SIGKILL) })
	defer late.Stop()
	if code, err = tr.loop(k, sig); err != nil {
		return "", 0, err
	}
	if _, err := out.Seek(0, io.SeekStart); err != nil {
		return "", 0, err
	}
	p, err := io.ReadAll(out)
	return string(p), code, err
}

// loop goes from stop to stop until the process is gone, and returns its exit
// code.
func (tr *tracer) loop(k int, sig syscall.Signal) (int, error) {
	var status syscall.WaitStatus
	if _, err := syscall.Wait4(tr.pid, &status, 0, nil); err != nil {
		return 0, err
	}
	if !status.Stopped() {
		return 0, fmt.Errorf("%w: the process did not stop", errNoTrace)
	}
	if err := syscall.PtraceSetOptions(tr.pid, syscall.PTRACE_O_TRACESYSGOOD|syscall.PTRACE_O_TRACECLONE|ptraceExitKill); err != nil {
		return 0, err
	}
	tid, signal := tr.pid, 0
	known := map[int]bool{tr.pid: true}
	for {
		// One that is gone meanwhile is told of by the next wait.
		if err := syscall.PtraceSyscall(tid, signal); err != nil && err != syscall.ESRCH {
			return 0, err
		}
		var err error
		for tid, err = 0, syscall.EINTR; err == syscall.EINTR; {
			tid, err = syscall.Wait4(-1, &status, syscall.WALL|wNoThread, nil)
		}
		if err != nil {
			return 0, err
		}
		signal = 0
		switch at := status.StopSignal(); {
		case !status.Stopped():
			if tid == tr.pid {
				return status.ExitStatus(), nil
			}
		case at == syscall.SIGTRAP|0x80:
			if tr.inside[tid] = !tr.inside[tid]; !tr.inside[tid] {
				break
			}
			s, ok, err := tr.stepOf(tid)
			if err != nil {
				return 0, err
			}
			if ok && len(tr.steps) == k {
				if err := syscall.Kill(tr.pid, sig); err != nil {
					return 0, err
				}
			}
			if ok && (len(tr.steps) != k || sig != syscall.SIGKILL) {
				tr.steps = append(tr.steps, s)
			}
		case at == syscall.SIGTRAP && status.TrapCause() > 0: // a new thread
		case at == syscall.SIGSTOP && !known[tid]:
			known[tid] = true // with which it begins
		default:
			signal = int(at)
		}
	}
}

// stepOf returns the step that a thread is about to take, if it is one.
func (tr *tracer) stepOf(tid int) (step, bool, error) {
	fields, err := tr.syscallOf(tid)
	if err != nil || fields == nil {
		return step{}, false, err
	}
	number, err := strconv.Atoi(fields[0])
	if err != nil {
		return step{}, false, err
	}
	var args [6]uint64
	for i := range args {
		if args[i], err = strconv.ParseUint(fields[1+i], 0, 64); err != nil {
			return step{}, false, err
		}
	}
	var s step
	switch number {
	case syscall.SYS_OPENAT:
		if args[2]&syscall.O_CREAT == 0 {
			return s, false, nil
		}
		s.call, s.name = "create", tr.text(args[1])
	case syscall.SYS_RENAMEAT:
		s.call, s.name, s.to = "rename", tr.text(args[1]), tr.text(args[3])
	case syscall.SYS_UNLINKAT:
		s.call, s.name = "remove", tr.text(args[1])
	case syscall.SYS_LINKAT:
		s.call, s.name = "link", tr.text(args[3])
	case syscall.SYS_WRITE:
		s.call, s.name, s.off, s.len = "write", tr.file(args[0]), -1, int64(args[2])
	case syscall.SYS_PWRITE64:
		s.call, s.name, s.off, s.len = "write", tr.file(args[0]), int64(args[3]), int64(args[2])
	case syscall.SYS_FTRUNCATE:
		s.call, s.name = "truncate", tr.file(args[0])
	case syscall.SYS_FALLOCATE:
		s.call, s.name = "allocate", tr.file(args[0])
	case syscall.SYS_FSYNC, syscall.SYS_FDATASYNC:
		s.call, s.name = "sync", tr.file(args[0])
	case syscall.SYS_FCHMOD:
		s.call, s.name = "chmod", tr.file(args[0])
	case syscall.SYS_FLOCK:
		s.call, s.name = "lock", tr.file(args[0])
	}
	if s.name != "" {
		s.name, s.to = tr.local(s.name), tr.local(s.to)
	}
	return s, s.name != "", nil
}

// syscallOf returns the number and the arguments of the system call that a
// thread is in, nil if the thread is gone.
func (tr *tracer) syscallOf(tid int) ([]string, error) {
	for wait := time.Microsecond; ; wait *= 2 {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/syscall", tr.pid, tid))
		fields := strings.Fields(string(text))
		switch {
		case err != nil || len(fields) == 3: // it has ended meanwhile, and the files with it or not
			return nil, nil
		case len(fields) > 7:
			return fields, nil
		case wait > time.Second:
			return nil, fmt.Errorf("%w: /proc tells of a system call: %q", errNoTrace, text)
		}
		time.Sleep(wait) // it is "running" until it has come to its stop
	}
}

// file returns the name of an open file.
func (tr *tracer) file(fd uint64) string {
	name, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", tr.pid, fd))
	if err != nil || !filepath.IsAbs(name) {
		return "" // a pipe, an event, none
	}
	return name
}

// local returns a name without tr.dir, "" if it is of another folder.
func (tr *tracer) local(name string) string {
	if !filepath.IsAbs(name) {
		return name
	}
	if local, err := filepath.Rel(tr.dir, name); err == nil && filepath.IsLocal(local) {
		return local
	}
	return ""
}

// text returns the string at an address of the process.
func (tr *tracer) text(addr uint64) string {
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", tr.pid))
	if err != nil {
		return ""
	}
	defer mem.Close()
	p := make([]byte, 4096) // it may end before that
	n, _ := mem.ReadAt(p, int64(addr))
	s, _, _ := bytes.Cut(p[:n], []byte{0})
	return string(s)
}
