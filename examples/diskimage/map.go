package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/internal/hostfile"
	"github.com/diskimage-go/diskimage/qcow2"
	"github.com/diskimage-go/diskimage/vhd"
	"github.com/diskimage-go/diskimage/vmdk"
)

const mapSynopsis = "[-f FMT] [--disk N|NAME] [-s OFFSET] [-l LENGTH] [--output human|json] [--raw-anyway] [--size-rule RULE] [--unwrap] [--spool DIR] [--header H] [--public-only] [--allow-external[=DIR|any]] FILE"

func runMap(ctx context.Context, s *session, args []string) (int, error) {
	var (
		in     input
		form   output
		start  int64
		length = int64(math.MaxInt64)
	)
	operands, err := parse(args, in.options(), []option{
		outputOption(&form),
		parsed('s', "start-offset", func(v string) (err error) {
			start, err = sizeArgument("start offset", v)
			return err
		}),
		parsed('l', "max-length", func(v string) (err error) {
			length, err = sizeArgument("max length", v)
			return err
		}),
	})
	if err != nil {
		return 1, err
	}
	if len(operands) != 1 {
		return 1, usageError("Expecting one image file name")
	}
	img, err := in.open(ctx, s, operands[0])
	if err != nil {
		return 1, err
	}
	defer img.Close()
	m := mapper{layers: img.mapLayers()}
	if m.shift, err = in.packageOffset(ctx, s, operands[0]); err != nil {
		return 1, err
	}
	defer m.close()
	b := bufio.NewWriterSize(s.stdout, 64<<10)
	if form == jsonForm {
		m.print = func(e mapEntry) error { return m.printJSON(b, e) }
	} else {
		fmt.Fprintf(b, "%-16s%-16s%-16s%s\n", "Offset", "Length", "Mapped to", "File")
		m.print = func(e mapEntry) error { return m.printHuman(b, e) }
	}
	err = m.walk(ctx, img.disk, start, length)
	if err == nil {
		err = m.flush()
	}
	if form == jsonForm && err == nil {
		fmt.Fprintln(b, "]")
	}
	if ferr := b.Flush(); err == nil {
		err = ferr
	}
	if err != nil {
		return 1, about(operands[0], err)
	}
	return 0, nil
}

// A mapEntry is one line of the map: a run of guest bytes that are alike.
type mapEntry struct {
	start, length       int64
	depth, file         int
	present, zero, data bool
	offset              int64 // -1: none
}

// continues reports whether next can be said together with e.
func (e mapEntry) continues(next mapEntry) bool {
	return e.depth == next.depth && e.file == next.file && e.present == next.present && e.zero == next.zero && e.data == next.data &&
		(e.offset < 0 && next.offset < 0 || e.offset >= 0 && e.offset+e.length == next.offset)
}

// A mapper makes the map's lines of a disk's extents.
type mapper struct {
	layers []mapLayer
	shift  int64    // where in its file the image lies; -1: not as it is there
	held   mapEntry // not printed yet, as the next may continue it
	some   bool     // a line was printed
	print  func(mapEntry) error
}

// A mapLayer is one image of a chain, as far as the map is concerned.
type mapLayer struct {
	names []string          // of its files, by number
	holes [2]*hostfile.File // of the first ones, where what was allocated may not have been written
	solid bool              // what is stored plain is data, the holes of its file too
	whole bool              // it has all of the disk: what it does not store is zeros of its own
}

// mapLayers returns the layers' files. Like the reference, it asks the file
// system for holes in the data of those QCOW2 images only that take markedly
// fewer bytes on the host than they are long: their clusters were given out
// ahead of use.
func (img *image) mapLayers() []mapLayer {
	var all []mapLayer
	for _, l := range img.layers() {
		m := mapLayer{names: l.files}
		switch d := l.disk.(type) {
		case *qcow2.Disk:
			if l.name != stdName && !isURL.MatchString(l.name) {
				m.look(d.Info().ClusterSize)
			}
		case *vmdk.Disk:
			m.solid = true
		case *vhd.Disk:
			m.whole, m.solid = d.Info().Type != vhd.Differencing, d.Info().Type == vhd.Fixed
		}
		all = append(all, m)
	}
	return all
}

func (l *mapLayer) look(clusterSize int64) {
	f, err := hostfile.Open(l.names[0])
	if err != nil {
		return
	}
	used := allocatedBytes(f.Info()) / clusterSize
	if f.Size()/clusterSize < max(used*10/9, used+2) {
		f.Close()
		return
	}
	l.holes[0] = f
	if len(l.names) > 1 {
		l.holes[1], _ = hostfile.Open(l.names[1])
	}
}

func (m *mapper) close() {
	for _, l := range m.layers {
		for _, f := range l.holes {
			if f != nil {
				f.Close()
			}
		}
	}
}

// walk goes through the extents of a part of the disk.
func (m *mapper) walk(ctx context.Context, d diskimage.VirtualDisk, start, length int64) error {
	if start >= d.Size() || length == 0 {
		m.held = mapEntry{start: start, offset: -1} // as the reference says it
		return nil
	}
	for e, err := range diskimage.Extents(d, start, length) {
		if err == nil {
			err = context.Cause(ctx)
		}
		if err == nil {
			err = m.extent(e)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// extent adds an extent, in as many pieces as its host file has runs.
func (m *mapper) extent(e diskimage.Extent) error {
	entry := mapEntry{start: e.Off, length: e.Len, depth: e.Depth, file: e.File, offset: -1,
		present: e.Kind != diskimage.Hole, zero: e.IsZero(), data: e.Kind == diskimage.Data}
	if e.Kind == diskimage.Hole {
		entry.depth = max(0, e.Depth-1) // the last layer that was asked
		entry.present = entry.depth < len(m.layers) && m.layers[entry.depth].whole
	}
	if e.Stored != diskimage.Plain || e.Host < 0 {
		return m.add(entry)
	}
	entry.offset = e.Host + m.shift
	if m.shift < 0 || m.shift > 0 && e.File > 0 { // in a file that has no name outside the package
		entry.offset = -1
		return m.add(entry)
	}
	if e.Kind == diskimage.Zero && e.Depth < len(m.layers) && m.layers[e.Depth].solid {
		entry.data = true
	}
	f := m.holesOf(e)
	if f == nil {
		return m.add(entry)
	}
	for left := e.Len; left > 0; {
		entry.length, entry.zero = left, true // beyond the file's end
		if entry.offset < f.Size() {
			end, hole, err := f.NextRange(entry.offset)
			if err != nil {
				return err
			}
			entry.length, entry.zero = min(left, end-entry.offset), hole
		}
		if err := m.add(entry); err != nil {
			return err
		}
		left -= entry.length
		entry.start += entry.length
		entry.offset += entry.length
	}
	return nil
}

func (m *mapper) holesOf(e diskimage.Extent) *hostfile.File {
	if e.Kind != diskimage.Data || e.Depth >= len(m.layers) || e.File > 1 {
		return nil
	}
	return m.layers[e.Depth].holes[e.File]
}

func (m *mapper) add(e mapEntry) error {
	if m.held.length > 0 && m.held.continues(e) {
		m.held.length += e.length
		return nil
	}
	err := m.flush()
	m.held = e
	return err
}

// flush prints the entry that is held, if one is.
func (m *mapper) flush() error {
	if m.held == (mapEntry{}) {
		return nil
	}
	err := m.print(m.held)
	m.some, m.held = true, mapEntry{}
	return err
}

// printJSON prints an entry as the reference does, on a line.
func (m *mapper) printJSON(w *bufio.Writer, e mapEntry) error {
	lead := "["
	if m.some {
		lead = ",\n"
	}
	b := append(w.AvailableBuffer(), lead...)
	b = strconv.AppendInt(append(b, `{ "start": `...), e.start, 10)
	b = strconv.AppendInt(append(b, `, "length": `...), e.length, 10)
	b = strconv.AppendInt(append(b, `, "depth": `...), int64(e.depth), 10)
	b = strconv.AppendBool(append(b, `, "present": `...), e.present)
	b = strconv.AppendBool(append(b, `, "zero": `...), e.zero)
	b = strconv.AppendBool(append(b, `, "data": `...), e.data)
	if e.offset >= 0 {
		b = strconv.AppendInt(append(b, `, "offset": `...), e.offset, 10)
	}
	_, err := w.Write(append(b, '}'))
	return err
}

var errNoPlace = errors.New("File contains external, encrypted or compressed clusters.")

// printHuman prints where data is, and fails at data that has no such place.
func (m *mapper) printHuman(w *bufio.Writer, e mapEntry) error {
	if !e.data || e.zero {
		return nil
	}
	if e.offset < 0 {
		return errNoPlace
	}
	name := ""
	if e.depth < len(m.layers) && e.file < len(m.layers[e.depth].names) {
		name = m.layers[e.depth].names[e.file]
	}
	b := w.AvailableBuffer()
	for _, n := range [...]int64{e.start, e.length, e.offset} {
		b = appendHex(b, n)
	}
	_, err := w.Write(append(append(b, plain(name)...), '\n'))
	return err
}

// appendHex appends a number as C prints it, where zero has no prefix, in a
// column of 16 characters.
func appendHex(b []byte, n int64) []byte {
	end := len(b) + 16
	if n != 0 {
		b = append(b, "0x"...)
	}
	b = strconv.AppendInt(b, n, 16)
	for len(b) < end {
		b = append(b, ' ')
	}
	return b
}
