package convert

import (
	"fmt"

	"github.com/diskimage-go/diskimage"
)

// How far a mapReader is ahead of who asks it, where data is far away.
const (
	aheadBytes   = 64 << 20 // of files
	aheadExtents = 1 << 14
)

// A mapReader reads a disk's map front to back. Where the data lies in a file
// that is far away (diskimage.Prefetcher) it reads ahead, and has the data come
// before it is read.
type mapReader struct {
	disk   diskimage.VirtualDisk
	wanted func(diskimage.Extent) bool

	queue []diskimage.Extent // from taken on
	taken int
	end   int64            // of the last in the queue
	err   error            // of the one behind it
	ahead int64            // bytes asked for and still in the queue
	open  diskimage.Extent // asked for as soon as it shows where it ends
}

// next returns the extent at off, which is the end of the one before.
func (m *mapReader) next(off int64) (diskimage.Extent, error) {
	if held := m.held(); held > 0 && m.queue[m.taken].Off != off || held == 0 && m.end != off {
		m.queue, m.taken, m.end, m.err, m.ahead, m.open = m.queue[:0], 0, off, nil, 0, diskimage.Extent{}
	}
	for m.err == nil && (m.held() == 0 || 0 < m.ahead && m.ahead < aheadBytes && m.held() < aheadExtents) {
		m.read()
	}
	if m.held() == 0 {
		return diskimage.Extent{}, m.err
	}
	e := m.queue[m.taken]
	m.taken++
	m.ahead -= min(m.ahead, m.cost(e))
	return e, nil
}

// held returns how many extents are in the queue.
func (m *mapReader) held() int { return len(m.queue) - m.taken }

// read adds an extent to the queue.
func (m *mapReader) read() {
	e, err := m.disk.NextExtent(m.end)
	if err == nil && (e.Off != m.end || e.Len <= 0) {
		err = fmt.Errorf("convert: the map is broken at %d", m.end)
	}
	if err != nil {
		m.err = err
		m.settle(nil)
		return
	}
	if len(m.queue) == cap(m.queue) { // before it grows, the room in front is used again
		m.queue, m.taken = m.queue[:copy(m.queue, m.queue[m.taken:])], 0
	}
	m.queue, m.end = append(m.queue, e), e.End()
	if e.Kind == diskimage.Data && m.wanted(e) {
		m.settle(&e)
		m.ahead += m.cost(e)
	}
}

// settle asks for what is open, and for e, if it shows how long it is. How long
// a unit of unknown length is shows the one behind it.
func (m *mapReader) settle(e *diskimage.Extent) {
	if open := m.open; open.Len > 0 {
		n := longest(open)
		if e != nil && e.Depth == open.Depth && e.File == open.File && e.Host > open.Host {
			n = min(n, e.Host-open.Host)
		}
		m.prefetch(open, n)
		m.open = diskimage.Extent{}
	}
	switch {
	case e == nil:
	case e.Stored != diskimage.Plain && e.HostLen == 0:
		m.open = *e
	default:
		m.prefetch(*e, longest(*e))
	}
}

func (m *mapReader) prefetch(e diskimage.Extent, n int64) {
	if p := m.source(e); p != nil {
		p.Prefetch(e.Host, n)
	}
}

// cost returns how many bytes of a file that is far away an extent takes.
func (m *mapReader) cost(e diskimage.Extent) int64 {
	if e.Kind != diskimage.Data || !m.wanted(e) || m.source(e) == nil {
		return 0
	}
	return longest(e)
}

// source returns the file with an extent's bytes, nil if it is not far away.
func (m *mapReader) source(e diskimage.Extent) diskimage.Prefetcher {
	s, ok := m.disk.(diskimage.Sourcer)
	if !ok || e.Host < 0 {
		return nil
	}
	p, _ := s.SourceOf(e).(diskimage.Prefetcher)
	return p
}

// longest returns the most bytes that an extent takes of its file.
func longest(e diskimage.Extent) int64 {
	switch {
	case e.Stored == diskimage.Plain:
		return e.Len
	case e.HostLen > 0:
		return e.HostLen
	}
	return e.Len + sectorSlack
}
