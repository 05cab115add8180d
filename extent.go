package diskimage

import "fmt"

// A Kind says what an extent's guest bytes are.
type Kind uint8

const (
	Data Kind = iota // bytes that are stored in a file
	Zero             // zeros that a layer says are zeros
	Hole             // zeros because no layer says anything
)

func (k Kind) String() string {
	switch k {
	case Data:
		return "data"
	case Zero:
		return "zero"
	case Hole:
		return "hole"
	}
	return fmt.Sprintf("Kind(%d)", uint8(k))
}

// An Encoding says how data is stored.
type Encoding uint8

const (
	Plain   Encoding = iota // the guest's bytes themselves
	Deflate                 // a bare deflate stream, RFC 1951, without a zlib wrapper
	Zstd                    // one or more zstd frames, RFC 8878
)

func (e Encoding) String() string {
	switch e {
	case Plain:
		return "plain"
	case Deflate:
		return "deflate"
	case Zstd:
		return "zstd"
	}
	return fmt.Sprintf("Encoding(%d)", uint8(e))
}

// An Extent is a run of guest bytes that are alike.
//
// The laws, which the conformance suite asserts of every format: an extent is
// not empty; it starts at the offset that was asked for; following ones are
// contiguous and ascending, and the last ends at the disk's Size. It may be
// shorter than it could be ([Extents] joins neighbours), and it never lies
// about a byte: Zero and Hole read as zeros, and data that is stored plain at
// a known host offset reads there.
type Extent struct {
	Off, Len int64    // guest bytes
	Kind     Kind     //
	Stored   Encoding // how Data is stored; Plain for Zero and Hole
	Depth    int      // the layer that supplies it: 0 is the image itself, 1 its backing image, ...; of a Hole the deepest layer, plus one
	File     int      // which file of that layer holds it: 0 is the image file itself; see the format
	Host     int64    // where in that file it lies, or would (of a Hole: in the layer above Depth); -1 where that is not known or there is no such place
	HostLen  int64    // stored bytes of a compressed unit: an upper bound; 0 where not known, and for all else
}

// End returns the guest offset after the extent.
func (e Extent) End() int64 { return e.Off + e.Len }

// IsZero reports whether the extent reads as zeros.
func (e Extent) IsZero() bool { return e.Kind != Data }

// Clip returns the part of e inside [off, off+n), which must not be empty. A
// compressed extent that was cut still names its whole unit by Host and
// HostLen.
func (e Extent) Clip(off, n int64) Extent {
	if skip := off - e.Off; skip > 0 {
		e.Off, e.Len = off, e.Len-skip
		if e.Host >= 0 && e.Stored == Plain {
			e.Host += skip
		}
	}
	e.Len = min(e.Len, off+n-e.Off)
	return e
}

// Continues reports whether next lies right behind e and is stored so that
// both can be said as one extent.
func (e Extent) Continues(next Extent) bool {
	if e.End() != next.Off || e.Kind != next.Kind || e.Depth != next.Depth || e.File != next.File ||
		e.Stored != Plain || next.Stored != Plain {
		return false
	}
	if e.Host < 0 {
		return next.Host < 0
	}
	return next.Host == e.Host+e.Len
}
