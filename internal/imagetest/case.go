package imagetest

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"strconv"

	"github.com/diskimage-go/diskimage"
)

// A Stage says who finds an image's defect.
type Stage uint8

const (
	AtOpen   Stage = iota // opening it: nobody gets at it
	AtRead                // reading its tables or data: NextExtent or ReadAt at Guest fails
	AtMap                 // looking at all its tables: CheckMap, which a conversion calls; reading alone does not
	AtAttest              // reading all of it: Attest, which a conversion calls
)

// A Verdict is what a check is expected to say.
type Verdict uint8

const (
	Refused Verdict = iota // the error that opening gives
	Sound                  // neither corruptions nor leaks
	Corrupt                // corruptions
	Unsaid                 // left to the check
)

// A Case is an image with a named defect, a row of the list of hostile input.
type Case struct {
	ID   string // of the row; several cases may share one
	Name string // the defect
	File string // the name under which it must lie, if that matters

	Build Build
	Files map[string]Build // that lie beside it
	Allow bool             // what it names may be opened

	Kind  diskimage.ErrorKind // of the error; "": the image is accepted
	Stage Stage               // where that error comes
	Field string              // a part of the error's text: the object at fault
	Off   int64               // the error's host offset; -1: not said
	Guest int64               // AtRead: a guest offset that cannot be read

	Note  string // accepted: a part of the text of a note; "": there may be none
	Check Verdict
}

// A Build makes an image file.
type Build func() []byte

// change returns a Build that changes b's file.
func (b Build) change(do func(file []byte)) Build {
	return func() []byte {
		file := b()
		do(file)
		return file
	}
}

// Base returns the image that most cases start from: five clusters of
// metadata (header, refcount table, refcount block, L1 and L2 table), then
// four clusters of data, 64 KiB each. It is sound.
func Base() *Image { return base().Build() }

func base() QCOW2 {
	rnd := rand.New(rand.NewPCG(1, 2))
	var q QCOW2
	for range 4 {
		p := make([]byte, 64<<10)
		for i := range p {
			p[i] = byte(rnd.Uint32())
		}
		q.Clusters = append(q.Clusters, Cluster{Kind: Plain, Data: p})
	}
	return q
}

// Where the clusters of Base lie.
const (
	cluster      = 64 << 10
	baseRefTable = 1 * cluster
	baseRefBlock = 2 * cluster
	baseL1       = 3 * cluster
	baseL2       = 4 * cluster
	baseData     = 5 * cluster
	baseEnd      = 9 * cluster
)

// with returns a Build that changes Base.
func with(change func(m *Image)) Build {
	return func() []byte {
		m := Base()
		change(m)
		return m.Bytes
	}
}

// of returns a Build that changes an image like Base.
func of(change func(q *QCOW2)) Build {
	return func() []byte {
		q := base()
		change(&q)
		return q.Build().Bytes
	}
}

// packed returns a Build of an image whose first cluster is compressed, to
// the stream if it is not nil, changed by change if that is not nil.
func packed(stream []byte, change func(m *Image)) Build {
	return func() []byte {
		q := base()
		q.Clusters[0] = Cluster{Kind: Packed, Data: bytes.Repeat([]byte("compressible "), 5000), Stream: stream}
		m := q.Build()
		if change != nil {
			change(m)
		}
		return m.Bytes
	}
}

// cut returns a Build of Base cut to n bytes.
func cut(n int64) Build {
	return with(func(m *Image) { m.Bytes = m.Bytes[:n] })
}

// backed returns a Build of an image that names a backing file.
func backed(name string) Build {
	return of(func(q *QCOW2) {
		q.Backing = name
		q.Clusters = append(q.Clusters, Cluster{Kind: Absent})
	})
}

// dataFile returns a Build of an image that names an external data file.
func dataFile(name string) Build {
	return of(func(q *QCOW2) {
		q.Incompatible = 1 << 2
		q.Extensions = []Extension{{ExtDataFile, []byte(name)}}
		q.Clusters = make([]Cluster, 4)
	})
}

func be32(b []byte, v uint32) { binary.BigEndian.PutUint32(b, v) }
func be64(b []byte, v uint64) { binary.BigEndian.PutUint64(b, v) }

func number(v uint64) string { return strconv.FormatUint(v, 10) }
