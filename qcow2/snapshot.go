package qcow2

import (
	"encoding/binary"
	"slices"
	"time"

	"github.com/diskimage-go/diskimage"
)

// A Snapshot is an internal snapshot: the disk as it was, and perhaps the
// virtual machine's state, which is not part of the disk.
type Snapshot struct {
	ID, Name    string // from the image: not to be trusted
	Date        time.Time
	VMClock     uint64 // nanoseconds that the virtual machine had run
	VMStateSize uint64 // bytes; 0 if only the disk was saved
	DiskSize    int64  // bytes of the guest disk
	Icount      uint64 // instructions executed; ^0 if not counted

	l1Offset uint64
	l1Size   uint32 // entries
	off, len int64  // of the entry in the file
	extra    uint32 // bytes of extra data
}

// readSnapshots reads the snapshot table. With an error it returns the
// snapshots before the one at fault.
func readSnapshots(src diskimage.Source, h *header) ([]Snapshot, error) {
	var (
		all   []Snapshot
		start = int64(h.snapshotsOffset)
		off   = start
	)
	for i := range int(h.nbSnapshots) {
		s, err := readSnapshot(src, h, off)
		if err != nil {
			return all, within(err, "snapshot table: entry %d", i)
		}
		if s.off+s.len-start > maxSnapshotBytes {
			return all, fail(diskimage.ErrLimit, off, "snapshot table", "it is larger than %d MiB", maxSnapshotBytes>>20)
		}
		all = append(all, s)
		off = s.off + (s.len+7)&^7
	}
	return all, nil
}

func readSnapshot(src diskimage.Source, h *header, off int64) (Snapshot, error) {
	be := binary.BigEndian
	var fixed [snapshotHeaderLen]byte
	if err := readFull(src, fixed[:], off, "entry"); err != nil {
		return Snapshot{}, err
	}
	var (
		idLen    = int64(be.Uint16(fixed[12:]))
		nameLen  = int64(be.Uint16(fixed[14:]))
		extraLen = int64(be.Uint32(fixed[36:]))
	)
	if extraLen > maxSnapshotExtra {
		return Snapshot{}, fail(diskimage.ErrLimit, off+36, "extra_data_size", "%d bytes, %d at most", extraLen, maxSnapshotExtra)
	}
	rest := make([]byte, extraLen+idLen+nameLen) // at most 129 KiB
	if err := readFull(src, rest, off+snapshotHeaderLen, "entry"); err != nil {
		return Snapshot{}, err
	}
	extra := rest[:extraLen]
	s := Snapshot{
		ID:          string(rest[extraLen : extraLen+idLen]),
		Name:        string(rest[extraLen+idLen:]),
		Date:        time.Unix(int64(be.Uint32(fixed[16:])), int64(be.Uint32(fixed[20:]))).UTC(),
		VMClock:     be.Uint64(fixed[24:]),
		VMStateSize: uint64(be.Uint32(fixed[32:])),
		DiskSize:    int64(h.size),
		Icount:      ^uint64(0),
		l1Offset:    be.Uint64(fixed[0:]),
		l1Size:      be.Uint32(fixed[8:]),
		off:         off,
		len:         snapshotHeaderLen + extraLen + idLen + nameLen,
		extra:       uint32(extraLen),
	}
	if extraLen >= 8 {
		s.VMStateSize = be.Uint64(extra)
	}
	if extraLen >= snapshotExtraV3 {
		size := be.Uint64(extra[8:])
		if size > 1<<63-1 {
			return Snapshot{}, fail(diskimage.ErrCorrupt, off+snapshotHeaderLen+8, "disk size", "%d bytes, above 2^63-1", size)
		}
		s.DiskSize = int64(size)
	} else if h.version >= 3 {
		return Snapshot{}, fail(diskimage.ErrCorrupt, off+36, "extra_data_size", "%d bytes, version 3 needs %d at least", extraLen, snapshotExtraV3)
	}
	if extraLen >= snapshotExtraIcnt {
		s.Icount = be.Uint64(extra[16:])
	}
	return s, nil
}

// validate checks the snapshot's L1 table, in an image file of fileSize bytes.
// As QEMU does it is checked when it is used, not when the table is listed.
func (s *Snapshot) validate(h *header, fileSize int64) error {
	if uint64(s.l1Size)*8 > maxL1Bytes {
		return fail(diskimage.ErrCorrupt, s.off+8, "l1_size", "%d entries, %d at most", s.l1Size, maxL1Bytes/8)
	}
	if need := h.l1Entries(uint64(s.DiskSize)); uint64(s.l1Size) < need {
		return fail(diskimage.ErrCorrupt, s.off+8, "l1_size", "%d entries, %d needed for a disk of %d bytes", s.l1Size, need, s.DiskSize)
	}
	n := int64(s.l1Size) * 8
	if s.l1Offset&uint64(h.clusterSize()-1) != 0 || s.l1Offset > 1<<63-1-maxL1Bytes || s.l1Offset == 0 && n > 0 {
		return fail(diskimage.ErrCorrupt, s.off, "l1_table_offset", "%#x is not where a table may start", s.l1Offset)
	}
	if end := int64(s.l1Offset) + n; n > 0 && end > fileSize {
		return fail(diskimage.ErrTruncated, int64(s.l1Offset), "l1 table", "it ends at %#x, the file at %#x", end, fileSize)
	}
	return nil
}

// findSnapshot returns the number of the snapshot of that id, or else of that
// name, or -1.
func findSnapshot(all []Snapshot, idOrName string) int {
	if i := slices.IndexFunc(all, func(s Snapshot) bool { return s.ID == idOrName }); i >= 0 {
		return i
	}
	return slices.IndexFunc(all, func(s Snapshot) bool { return s.Name == idOrName })
}
