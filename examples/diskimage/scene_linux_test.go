package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/convert"
)

// What scripts/crash.sh and scripts/kill.sh set: the command to be killed, else
// it is the test itself; and how long to go on.
const (
	envCommand = "DISKIMAGE_TEST_COMMAND_PATH"
	envEvery   = "DISKIMAGE_TEST_EVERY_STEP" // 1: all kinds, all steps
	envRounds  = "DISKIMAGE_TEST_KILLS"      // how many kills at random moments
)

// A targetKind is a kind of image that convert makes.
type targetKind struct {
	name string
	args string // of convert
	set  bool   // it consists of several files
	last place  // of what makes a file of it an image, which is written last
}

type place string

const (
	anywhere place = "" // any bytes are one
	atFront  place = "front"
	atEnd    place = "end"
)

var targetKinds = []targetKind{
	{name: "raw", args: "-O raw"},
	{name: "qcow2", args: "-O qcow2", last: atFront},
	{name: "qcow2 deflate", args: "-O qcow2 -c --level 1", last: atFront},
	{name: "qcow2 zstd", args: "-O qcow2 -c -o compression_type=zstd", last: atFront},
	{name: "vmdk", args: "-O vmdk", last: atFront},
	{name: "vmdk stream", args: "-O vmdk -c -o subformat=streamOptimized --level 1", last: atEnd},
	{name: "vmdk flat", args: "-O vmdk -o subformat=monolithicFlat", set: true},
	{name: "vmdk split flat", args: "-O vmdk -o subformat=twoGbMaxExtentFlat", set: true},
	{name: "vmdk split sparse", args: "-O vmdk -o subformat=twoGbMaxExtentSparse", set: true, last: atFront},
	{name: "vhd", args: "-O vpc", last: atFront},
	{name: "vhd fixed", args: "-O vpc -o subformat=fixed", last: atEnd},
}

// convert returns the words of a conversion to this kind of target, over
// whatever is there.
func (k targetKind) convert(source, target string, more ...string) []string {
	args := append([]string{"convert", "-f", "raw"}, strings.Fields(k.args)...)
	if k.set {
		args = append(args, "--force")
	}
	return append(append(args, more...), source, target)
}

// leftover is how a file looks that a command which died leaves behind.
var leftover = regexp.MustCompile(`^\.(target.*)\.diskimage-[0-9a-f]{8}\.tmp$`)

// commandPath returns the program that is to be killed.
func commandPath(t *testing.T) string {
	t.Helper()
	if path := os.Getenv(envCommand); path != "" {
		return path
	}
	self, err := os.Executable()
	require.NoError(t, err)
	return self
}

// A scene is a folder where one kind of image is made, under the same name
// again and again, and what may be found there.
type scene struct {
	t       *testing.T
	kind    targetKind
	dir     string
	workers int
	source  string
	old     string // the folder with the image that is to be replaced
	olds    map[string]digest
	news    map[string]digest
}

// A digest is one of a file's content.
type digest [sha256.Size]byte

// newScene makes both images of a kind, from two sources. With one worker the
// command's steps are the same every time.
func newScene(t *testing.T, kind targetKind, workers int, source, oldSource string) *scene {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	require.NoError(t, err)
	s := &scene{t: t, kind: kind, dir: dir, workers: workers, source: oldSource}
	s.convert()
	s.olds = s.digests()
	s.old, err = filepath.EvalSymlinks(t.TempDir())
	require.NoError(t, err)
	for name := range s.olds {
		require.NoError(t, os.Rename(filepath.Join(dir, name), filepath.Join(s.old, name)))
	}
	s.source = source
	s.convert()
	s.news = s.digests()
	require.Contains(t, s.news, "target")
	require.Equal(t, kind.set, len(s.news) > 1)
	for name := range s.news {
		require.NotEqual(t, s.news[name], s.olds[name], "nothing could be told from these")
	}
	return s
}

// argv is the command.
func (s *scene) argv(more ...string) []string {
	more = append(more, "-m", strconv.Itoa(s.workers))
	return append([]string{commandPath(s.t)}, s.kind.convert(s.source, "target", more...)...)
}

// command is a run of the command.
func (s *scene) command(more ...string) *exec.Cmd {
	argv := s.argv(more...)
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir, cmd.Env = s.dir, append(os.Environ(), "DISKIMAGE_TEST_COMMAND=1")
	return cmd
}

// convert lets the command complete.
func (s *scene) convert() {
	s.t.Helper()
	out, err := s.command("-t", "unsafe").CombinedOutput()
	require.NoError(s.t, err, "%s: %s", s.kind.name, out)
}

// set empties the folder, and puts the old image there if that is wanted.
func (s *scene) set(old bool) {
	s.t.Helper()
	list, err := os.ReadDir(s.dir)
	require.NoError(s.t, err)
	for _, e := range list {
		require.NoError(s.t, os.Remove(filepath.Join(s.dir, e.Name())))
	}
	for name := range s.olds {
		if old { // linked: whoever writes into it is found out, for good
			require.NoError(s.t, os.Link(filepath.Join(s.old, name), filepath.Join(s.dir, name)))
		}
	}
}

// digests returns what is in the folder.
func (s *scene) digests() map[string]digest {
	s.t.Helper()
	list, err := os.ReadDir(s.dir)
	require.NoError(s.t, err)
	found := map[string]digest{}
	for _, e := range list {
		found[e.Name()] = s.digest(e.Name())
	}
	return found
}

// digest is of a file's length and what is in it but zeros, which most of it
// are.
func (s *scene) digest(name string) digest {
	s.t.Helper()
	ctx := context.Background()
	if info, err := os.Stat(filepath.Join(s.dir, name)); err == nil && info.Size() == 0 {
		return digest{}
	}
	d, err := convert.OpenFile(ctx, filepath.Join(s.dir, name), convert.OpenOptions{Format: convert.Raw, RawAnyway: true})
	require.NoError(s.t, err)
	defer d.Close()
	h, zeros, page := sha256.New(), make([]byte, 64<<10), make([]byte, 64<<10)
	put := func(n int64) { h.Write(binary.LittleEndian.AppendUint64(nil, uint64(n))) }
	put(d.Size())
	next := int64(0) // pages before it are done with
	for e, err := range diskimage.Extents(d, 0, d.Size()) {
		require.NoError(s.t, err)
		if e.Kind != diskimage.Data {
			continue
		}
		for off := max(next, e.Off&^0xffff); off < e.End(); off += 64 << 10 {
			p := page[:min(64<<10, d.Size()-off)]
			n, err := d.ReadAt(p, off)
			require.Len(s.t, p, n, "%v", err)
			if !bytes.Equal(p, zeros[:n]) {
				put(off)
				h.Write(p)
			}
			next = off + 64<<10
		}
	}
	return digest(h.Sum(nil))
}

// A moment is where a kill hit.
type moment string

const (
	before   moment = "before anything was made"
	writing  moment = "while writing"
	written  moment = "complete, not yet under its name"
	renaming moment = "while the files of a set got their names"
	after    moment = "after all"
)

// judge looks at what a killed command has left, where there was an old image
// or none: the name is that of nothing, of the old image or of the new one,
// each of them whole.
func (s *scene) judge(old bool, where string) moment {
	s.t.Helper()
	found := s.digests()
	temps := map[string]digest{}
	for name, sum := range found {
		if m := leftover.FindStringSubmatch(name); m != nil {
			require.NotContains(s.t, temps, m[1], "%s: two leftovers", where)
			temps[m[1]] = sum
			delete(found, name)
		}
	}
	// Each name is that of a whole file.
	isNew, isOld := 0, 0
	for name, sum := range found {
		switch {
		case s.news[name] == sum:
			isNew++
		case old && s.olds[name] == sum:
			isOld++
		default:
			require.Fail(s.t, "an incomplete file", "%s: %s", where, name)
		}
	}
	complete := len(temps) == len(s.news)
	for name, sum := range temps {
		complete = complete && s.news[name] == sum
	}
	main, there := found["target"]
	switch {
	case there && main == s.news["target"]:
		require.Equal(s.t, len(s.news), isNew, "%s: the descriptor names files that are not its own", where)
		require.Empty(s.t, temps, where)
		return after
	case old && there:
		require.Equal(s.t, len(s.olds), isOld, "%s: the old image is not whole", where)
	case old: // it was removed, so that it would not name others
		require.True(s.t, s.kind.set, "%s: the old image is gone", where)
		for name, sum := range s.news {
			require.True(s.t, temps[name] == sum || found[name] == sum, "%s: the old descriptor is gone and %s is not complete", where, name)
		}
		return renaming
	}
	switch {
	case isNew > 0:
		return renaming
	case complete:
		return written
	case len(temps) > 0:
		return writing
	}
	return before
}

// recover has the next run complete, and clear up.
func (s *scene) recover(where string) {
	s.t.Helper()
	s.convert()
	require.Equal(s.t, s.news, s.digests(), "%s: after the next run", where)
}

// sources makes the raw disks that are converted: of 2 GiB and a bit, with
// data at both ends, so that some kinds take several extents.
func sources(t *testing.T, dataSize int) (source, old string) {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	require.NoError(t, err)
	names := []string{filepath.Join(dir, "disk.raw"), filepath.Join(dir, "old.raw")}
	for i, name := range names {
		f, err := os.Create(name)
		require.NoError(t, err)
		defer f.Close()
		random := rand.NewChaCha8([32]byte{byte(i)})
		p := make([]byte, dataSize>>i&^0xfff) // the old one is smaller
		for off := 0; off < len(p); off += 64 << 10 {
			switch piece := p[off:min(off+64<<10, len(p))]; off >> 16 % 8 {
			case 3: // zeros
			case 6:
				copy(piece, bytes.Repeat([]byte("diskimage"), len(piece)/9))
			default:
				random.Read(piece)
			}
		}
		at := []int64{0, 2 << 30}
		for j, part := range slices.Collect(slices.Chunk(p, max(len(p)/2, 1))) {
			_, err := f.WriteAt(part, at[j])
			require.NoError(t, err)
		}
		require.NoError(t, f.Truncate(2<<30+64<<20>>i)) // or descriptors were the same
	}
	return names[0], names[1]
}

// folder returns the current folder, without links.
func folder(t *testing.T) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(".")
	require.NoError(t, err)
	dir, err = filepath.Abs(dir)
	require.NoError(t, err)
	return dir
}
