package convert

import (
	"encoding/binary"
	"fmt"
	"io"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/internal/adler32"
	"github.com/diskimage-go/diskimage/internal/zero"
	"github.com/diskimage-go/diskimage/raw"
)

// strictWindow is the longest match distance that every reader of QCOW2 takes:
// QEMU writes with window bits -12, and who inflates piece by piece with as
// many refuses more.
const strictWindow = 4 << 10

// trustFrom is the shortest stream that is moved without being looked at. A
// unit of 64 KiB of zeros takes about 80 bytes, by the poorest encoder 420; so
// units of zeros are found all the same.
const trustFrom = 512

// adlerLen is the length of the checksum behind a stream (RFC 1950).
const adlerLen = 4

// A mover hands compressed units over to the writer as they are stored. It
// counts what it does, and is safe for concurrent use.
type mover struct {
	taker diskimage.StoredTaker // nil: nothing is moved
	unit  int64                 // of the writer
	trust bool                  // Options.TrustStored

	moved   counter // guest bytes
	trusted counter // those of them that were not decoded
	far     counter // units whose matches reach back beyond strictWindow, as far as known
}

// terms returns on which terms a unit that is stored like this may be moved,
// if it may.
func (m *mover) terms(off, n int64, enc diskimage.Encoding) (diskimage.StoredTerms, bool) {
	if m.taker == nil || enc == diskimage.Plain || n != m.unit || off%m.unit != 0 {
		return diskimage.StoredTerms{}, false
	}
	return m.taker.TakesStored(enc, n)
}

// A verdict says what becomes of a compressed unit.
type verdict uint8

const (
	asData  verdict = iota // it was decoded, and is encoded anew
	asZeros                // it was decoded to nothing but zeros
	asIs                   // it is moved: the block is complete
)

// judge decodes the compressed unit blk, stored like this, to place, holds it
// against its checksum if there is one, and completes blk if the unit is to be
// moved. Nothing is passed on that was not proven sound, unless the user
// trusts it.
func (m *mover) judge(w *worker, place []byte, blk *diskimage.Block, stored diskimage.Stored) (verdict, error) {
	terms, movable := m.terms(blk.Off, blk.Len, blk.Enc)
	if movable && m.trust {
		if stream, ok := m.unseen(stored, terms); ok {
			m.moved.add(blk.Len)
			m.trusted.add(blk.Len)
			blk.Data = stream
			return asIs, nil
		}
	}
	res, err := w.dec.Decode(place, stored.Stream, blk.Enc)
	if err != nil {
		return asData, damagedUnit(blk.Off, err)
	}
	var sum uint32
	if stored.Adler32 || movable && terms.Adler32 {
		sum = adler32.Checksum(place)
	}
	if stored.Adler32 {
		if err := checkSum(sum, stored.Stream[res.Used:], stored.Exact); err != nil {
			return asData, damagedUnit(blk.Off, err)
		}
	}
	if zero.Is(place) {
		return asZeros, nil
	}
	if !movable || int64(res.Used) >= m.unit || terms.MaxDistance > 0 && res.MaxDistance > terms.MaxDistance {
		return asData, nil
	}
	m.moved.add(blk.Len)
	if res.MaxDistance > strictWindow {
		m.far.add(1)
	}
	blk.Data, blk.Adler32 = stored.Stream[:res.Used], sum
	return asIs, nil
}

// unseen returns the stream of a unit that may be moved without being decoded:
// its end is known, nothing about its content is asked for, and it is neither
// so short that it may be zeros nor too long.
func (m *mover) unseen(stored diskimage.Stored, terms diskimage.StoredTerms) ([]byte, bool) {
	stream := stored.Stream
	if stored.Adler32 {
		stream = stream[:max(len(stream)-adlerLen, 0)]
	}
	ok := stored.Exact && terms == diskimage.StoredTerms{} && len(stream) >= trustFrom && int64(len(stream)) < m.unit
	return stream, ok
}

// checkSum holds the Adler-32 of what was decoded against the one behind the
// stream, which is to be all that is there if rest is exact.
func checkSum(sum uint32, rest []byte, exact bool) error {
	if len(rest) < adlerLen {
		return io.ErrUnexpectedEOF
	}
	if exact && len(rest) > adlerLen {
		return fmt.Errorf("%d bytes follow its checksum", len(rest)-adlerLen)
	}
	if want := binary.BigEndian.Uint32(rest); sum != want {
		return fmt.Errorf("the Adler-32 of its bytes is %#08x, not %#08x as stored", sum, want)
	}
	return nil
}

// damagedUnit returns the error for a compressed unit of which nothing else is
// known than its guest offset.
func damagedUnit(off int64, err error) error {
	return &diskimage.Error{Kind: diskimage.ErrCorrupt, Off: -1,
		Field: "compressed unit", Msg: fmt.Sprintf("guest offset %#x: it is damaged", off), Err: err}
}

// account takes the mover's counts into the report.
func (r *run) account(m *mover) {
	r.rep.Moved, r.rep.Unverified, r.far = m.moved.get(), m.trusted.get(), m.far.get()
}

// noteMoved notes what a user should know of units that were moved. A window
// that was asked for is no news.
func (r *run) noteMoved() {
	if r.far > 0 && r.o.Format == QCOW2 && r.o.QCOW2.Window == 0 {
		r.note("%d compressed clusters were moved with matches that reach back more than %d bytes: QEMU reads them, readers that inflate them piece by piece with window bits -12 do not (a window of 4k encodes them anew)", r.far, strictWindow)
	}
	if r.rep.Unverified > 0 {
		r.note("%d guest bytes were moved in compressed form without a look inside, as asked for: that they can be decoded, what they hold and how far their matches reach back is not known", r.rep.Unverified)
	}
}

// checkTrust refuses TrustStored where it cannot be had.
func (r *run) checkTrust() error {
	o := &r.o
	bad := func(why string) error {
		return fmt.Errorf("convert: compressed data cannot be trusted unseen: %s", why)
	}
	switch {
	case !o.TrustStored:
		return nil
	case o.Format != QCOW2 || o.QCOW2.Compression != diskimage.Deflate:
		return bad("only a QCOW2 target compressed with deflate takes streams as they are; any other is made of the data")
	case o.digests() || o.Verify:
		return bad("a digest and a verification need the data, which would not be decoded")
	case o.AllocateZeros || o.Salvage:
		return bad("where zeros are allocated or damage is salvaged everything is decoded")
	case o.QCOW2.Window == strictWindow:
		return bad("that no match reaches back more than 4096 bytes is known of decoded streams only")
	}
	_, plain := r.stream.(*raw.Stream)
	if f := FormatOf(r.disk); plain || f == Raw || f == QCOW2 {
		return bad("only the grains of a VMDK image tell where their streams end")
	}
	return nil
}
