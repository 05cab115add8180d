package convert

import (
	"bytes"
	"context"
	"encoding/binary"
	"hash/adler32"
	"io"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"

	"github.com/klauspost/compress/flate"
	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/internal/peer"
	"github.com/diskimage-go/diskimage/qcow2"
	"github.com/diskimage-go/diskimage/raw"
)

const grain = 64 << 10

// A grainDisk is a disk of compressed grains, as of a VMDK image: each stream
// ends exactly and is followed by its checksum. It is read without looking at
// either, so that what is found was found by the one who moves them.
type grainDisk struct{ *memDisk }

func (d grainDisk) ReadStored(e diskimage.Extent, buf []byte) (diskimage.Stored, error) {
	const wrapper = 14 // a marker and the zlib header are read along with it
	stored := append(append(buf[:0], make([]byte, wrapper)...), d.streams[e.Off]...)
	return diskimage.Stored{Stream: stored[wrapper:], Exact: true, Adler32: true}, nil
}

// A grainStream is the same disk, front to back.
type grainStream struct {
	grainDisk
	at int64
}

func (s *grainStream) NextBlock(buf []byte) (diskimage.Block, error) {
	for ; s.at < s.Size(); s.at += grain {
		if stream, ok := s.streams[s.at]; ok {
			s.at += grain
			return diskimage.Block{Off: s.at - grain, Len: grain, Enc: diskimage.Deflate, Data: append(buf[:0], stream...), Checked: true}, nil
		}
	}
	return diskimage.Block{}, io.EOF
}

// grainsOf returns a disk of compressed grains with this content; holes are
// not stored, other zeros are.
func grainsOf(t testing.TB, content []byte, hole func(off int64) bool) grainDisk {
	t.Helper()
	d := &memDisk{content: content, streams: map[int64][]byte{}, badFrom: -1, badTo: -1}
	for off := int64(0); off < d.Size(); off += grain {
		e := diskimage.Extent{Off: off, Len: grain, Stored: diskimage.Deflate}
		if hole(off) {
			e.Kind, e.Stored, e.Host = diskimage.Hole, diskimage.Plain, -1
		} else {
			d.streams[off] = zlibbed(t, content[off:off+grain])
			e.HostLen = int64(len(d.streams[off]))
		}
		d.extents = append(d.extents, e)
	}
	return grainDisk{d}
}

// zlibbed returns a bare deflate stream with a window of 32 KiB, and the
// checksum.
func zlibbed(t testing.TB, p []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := flate.NewWriter(&b, 6)
	require.NoError(t, err)
	_, err = w.Write(p)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	return binary.BigEndian.AppendUint32(b.Bytes(), adler32.Checksum(p))
}

// mixedContent returns grains of text (matches near by), of noise that comes
// twice (matches from afar), of noise, of zeros.
func mixedContent(grains int) []byte {
	source := rand.NewChaCha8([32]byte{7})
	p := make([]byte, grains*grain)
	for i := range grains {
		g := p[i*grain:][:grain]
		switch i % 4 {
		case 0:
			copy(g, bytes.Repeat([]byte("the quick brown fox jumps over the lazy dog, "), grain/45+1)[i:])
		case 1:
			source.Read(g[:8<<10])
			copy(g[20<<10:], g[:8<<10])
		case 2:
			source.Read(g)
		}
	}
	return p
}

func noHoles(int64) bool { return false }

// into runs a conversion from the disk, or from a stream of it.
func (d grainDisk) into(out diskimage.Output, streamed bool, o Options) (*Report, error) {
	if streamed {
		return StreamToOutput(context.Background(), out, &grainStream{grainDisk: d}, o)
	}
	return ToOutput(context.Background(), out, d, o)
}

// moving is what moves grains.
var moving = Options{Format: QCOW2, QCOW2: qcow2.WriterOptions{Compression: diskimage.Deflate}}

// Grains become clusters as they are, whatever their window, which is noted;
// zeros and what does not shrink do not. The reference reads the result.
func TestGrainsBecomeClusters(t *testing.T) {
	d := grainsOf(t, mixedContent(80), func(off int64) bool { return off/grain%20 == 19 })
	file := filepath.Join(t.TempDir(), "moved.qcow2")
	o := moving
	o.Verify, o.Digest = true, true
	rep, err := ToFile(context.Background(), file, d, o)
	require.NoError(t, err)
	require.Equal(t, int64(40*grain), rep.Moved)
	require.Zero(t, rep.Unverified)
	require.Len(t, rep.Notes, 1)
	require.Contains(t, rep.Notes[0].Text, "20 compressed clusters were moved with matches that reach back more than 4096 bytes")
	require.True(t, bytes.Equal(d.content, guest(t, file, QCOW2)))

	// Each cluster holds the very stream, without the checksum.
	q, err := OpenFile(context.Background(), file, OpenOptions{})
	require.NoError(t, err)
	defer q.Close()
	e, err := q.NextExtent(grain)
	require.NoError(t, err)
	stored, err := q.(diskimage.StoredReader).ReadStored(e, nil)
	require.NoError(t, err)
	want := d.streams[grain]
	require.Equal(t, want[:len(want)-4], stored.Stream[:len(want)-4])

	peer.Run(t, "qemu-img", "check", "-q", file)
	raw := file + ".raw"
	peer.Run(t, "qemu-img", "convert", "-O", "raw", file, raw)
	require.True(t, bytes.Equal(d.content, guest(t, raw, Raw)))

	var first []byte
	for _, streamed := range []bool{false, true} {
		for _, workers := range []int{1, 3} {
			var out memOutput
			o := moving
			o.Workers = workers
			_, err := d.into(&out, streamed, o)
			require.NoError(t, err)
			if first == nil {
				first = out.data
			}
			require.True(t, bytes.Equal(first, out.data), "streamed %v, %d workers", streamed, workers)
		}
	}
}

// A window that was chosen is kept to, and nothing is noted.
func TestWindowsOfMovedUnits(t *testing.T) {
	d := grainsOf(t, mixedContent(40), noHoles)
	for _, streamed := range []bool{false, true} {
		for window, moved := range map[int]int64{0: 20, 4096: 10, 32 << 10: 20} {
			var out memOutput
			o := moving
			o.QCOW2.Window, o.Verify = window, true
			rep, err := d.into(&out, streamed, o)
			require.NoError(t, err)
			require.Equal(t, moved*grain, rep.Moved, "window %d", window)
			require.Equal(t, window == 0, len(rep.Notes) > 0, "%v", rep.Notes)
		}
	}
}

// Nothing damaged is passed on, be it moved or not.
func TestDamagedGrains(t *testing.T) {
	text := mixedContent(1)
	for name, stream := range map[string][]byte{
		"checksum":               flipped(zlibbed(t, text), -1),
		"checksum missing":       zlibbed(t, text)[:len(zlibbed(t, text))-4],
		"checksum cut":           zlibbed(t, text)[:len(zlibbed(t, text))-1],
		"cut":                    zlibbed(t, text)[:100],
		"empty":                  {},
		"a byte too many":        zlibbed(t, append(slices.Clone(text), 1)),
		"a byte too few":         zlibbed(t, text[:grain-1]),
		"64 times as much":       zlibbed(t, make([]byte, 64*grain)),
		"zeros, wrong checksum":  flipped(zlibbed(t, make([]byte, grain)), -1),
		"of another grain":       append(zlibbed(t, text)[:len(zlibbed(t, text))-4], 1, 2, 3, 4),
		"a bit in the stream":    flipped(zlibbed(t, text), 60),
		"noise instead":          bytes.Repeat([]byte{0xfe, 0x55}, 1000),
		"a checksum and no more": zlibbed(t, text)[len(zlibbed(t, text))-4:],
	} {
		t.Run(name, func(t *testing.T) {
			content := make([]byte, 20*grain)
			copy(content[17*grain:], text)
			d := grainsOf(t, content, func(off int64) bool { return off != 17*grain })
			d.streams[17*grain] = stream
			for _, streamed := range []bool{false, true} {
				for target, o := range map[string]Options{"moved": moving, "plain": {Format: QCOW2}} {
					if !streamed && target == "plain" {
						continue // the disk itself decodes
					}
					rep, err := d.into(&memOutput{}, streamed, o)
					require.ErrorIs(t, err, diskimage.ErrCorrupt, "streamed %v, %s: %+v", streamed, target, rep)
					require.ErrorContains(t, err, "guest offset 0x110000", "streamed %v, %s", streamed, target)
				}
			}
		})
	}
}

// flipped returns p with a bit flipped in the byte at i, from the end if i is
// negative.
func flipped(p []byte, i int) []byte {
	p = slices.Clone(p)
	p[(i+len(p))%len(p)] ^= 0x10
	return p
}

// What is trusted is moved without a look inside, damaged or not; zeros are
// found all the same. The report says so.
func TestTrustStored(t *testing.T) {
	content := mixedContent(40)
	for _, streamed := range []bool{false, true} {
		d := grainsOf(t, content, noHoles)
		o := moving
		o.TrustStored = true
		var trusted, verified memOutput
		rep, err := d.into(&trusted, streamed, o)
		require.NoError(t, err)
		require.Equal(t, int64(20*grain), rep.Moved)
		require.Equal(t, int64(10*grain), rep.Unverified, "the text is short enough to be decoded")
		require.Contains(t, rep.Notes[len(rep.Notes)-1].Text, "655360 guest bytes were moved in compressed form without a look inside")
		_, err = d.into(&verified, streamed, moving)
		require.NoError(t, err)
		require.True(t, bytes.Equal(verified.data, trusted.data))

		d.streams[grain] = flipped(d.streams[grain], -1)
		_, err = d.into(&memOutput{}, streamed, o)
		require.NoError(t, err)
		d.streams[3*grain] = flipped(d.streams[3*grain], -1) // of zeros
		_, err = d.into(&memOutput{}, streamed, o)
		require.ErrorIs(t, err, diskimage.ErrCorrupt)
	}
}

func TestTrustStoredIsRefused(t *testing.T) {
	zlib := qcow2.WriterOptions{Compression: diskimage.Deflate}
	for why, o := range map[string]Options{
		"only a QCOW2 target compressed with deflate": {Format: QCOW2},
		"only a QCOW2 target":                         {Format: Raw},
		"compressed with deflate":                     {Format: QCOW2, QCOW2: qcow2.WriterOptions{Compression: diskimage.Zstd}},
		"a digest":                                    {Format: QCOW2, QCOW2: zlib, Digest: true},
		"a verification":                              {Format: QCOW2, QCOW2: zlib, Verify: true},
		"zeros are allocated":                         {Format: QCOW2, QCOW2: zlib, AllocateZeros: true},
		"damage is salvaged":                          {Format: QCOW2, QCOW2: zlib, Salvage: true},
		"more than 4096 bytes":                        {Format: QCOW2, QCOW2: qcow2.WriterOptions{Compression: diskimage.Deflate, Window: 4096}},
	} {
		o.TrustStored = true
		_, err := ToOutput(context.Background(), &memOutput{}, patchworkDisk(1, 512), o)
		require.ErrorContains(t, err, why)
	}
	o := moving
	o.TrustStored = true
	r, err := raw.Open(diskimage.NewSource(bytes.NewReader(make([]byte, 512)), 512), raw.Options{})
	require.NoError(t, err)
	_, err = ToOutput(context.Background(), &memOutput{}, r, o)
	require.ErrorContains(t, err, "only the grains of a VMDK image")
	_, err = StreamToOutput(context.Background(), &memOutput{}, raw.NewStream(bytes.NewReader(nil), -1), o)
	require.ErrorContains(t, err, "only the grains of a VMDK image")
}

// A sumWriter asks for checksums, as a writer of VMDK images does.
type sumWriter struct {
	logWriter
	seen map[int64]uint32
}

func (w *sumWriter) TakesStored(enc diskimage.Encoding, unit int64) (diskimage.StoredTerms, bool) {
	return diskimage.StoredTerms{Adler32: true}, enc == diskimage.Deflate && unit == w.unit
}

func (w *sumWriter) Place(b *diskimage.Batch) error {
	for _, blk := range b.Blocks {
		if blk.Enc == diskimage.Deflate {
			w.seen[blk.Off] = blk.Adler32
		}
	}
	return w.logWriter.Place(b)
}

// A writer that asks for it is told the checksum of each unit, whether its
// source has one or not.
func TestChecksumsOfMovedUnits(t *testing.T) {
	content := mixedContent(40)
	grains := grainsOf(t, content, noHoles)
	for name, d := range map[string]diskimage.VirtualDisk{"with": grains, "without": grains.memDisk} {
		w := &sumWriter{logWriter{unit: grain}, map[int64]uint32{}}
		_, err := runInto(t, context.Background(), w, d, nil, Options{Workers: 2})
		require.NoError(t, err)
		require.Len(t, w.seen, 20, name)
		for off, sum := range w.seen {
			require.Equal(t, adler32.Checksum(content[off:off+grain]), sum, name)
		}
	}
}
