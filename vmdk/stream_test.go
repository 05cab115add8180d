package vmdk_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/adler32"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"testing/iotest"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/internal/codec"
	"github.com/diskimage-go/diskimage/internal/disktest"
	"github.com/diskimage-go/diskimage/internal/imagetest"
	"github.com/diskimage-go/diskimage/internal/peer"
	"github.com/diskimage-go/diskimage/vmdk"
	"github.com/stretchr/testify/require"
)

var errChecksum = errors.New("wrong checksum")

// drain reads a stream to its end and returns the guest disk. Blocks that
// break what diskimage.Stream promises fail the test.
func drain(t testing.TB, s *vmdk.Stream, anyOrder bool) ([]byte, error) {
	t.Helper()
	guest := make([]byte, s.Size())
	if anyOrder {
		s.AnyOrder()
	}
	dec, at := codec.NewDecoder(), int64(0)
	for {
		b, err := s.NextBlock(nil)
		if err != nil {
			_, again := s.NextBlock(nil)
			require.Equal(t, err, again, "an error stays")
			if err == io.EOF {
				return guest, nil
			}
			return nil, err
		}
		require.True(t, anyOrder || b.Off >= at, "ascending")
		at = b.Off + b.Len
		require.Equal(t, diskimage.Data, b.Kind)
		p := guest[b.Off:at]
		if b.Enc == diskimage.Plain {
			require.Len(t, b.Data, len(p))
			copy(p, b.Data)
			continue
		}
		require.True(t, b.Checked)
		res, err := dec.Decode(p, b.Data, b.Enc)
		if err != nil {
			return nil, err
		}
		if sum := b.Data[res.Used:]; len(sum) != 4 || binary.BigEndian.Uint32(sum) != adler32.Checksum(p) {
			return nil, errChecksum
		}
	}
}

// readStream opens and reads a stream.
func readStream(t testing.TB, r io.Reader, anyOrder bool) ([]byte, error) {
	t.Helper()
	s, err := vmdk.NewStream(r, vmdk.StreamOptions{})
	if err != nil {
		return nil, err
	}
	require.NoError(t, s.Close())
	return drain(t, s, anyOrder)
}

// streamShapes are the shapes that can be read front to back.
func streamShapes() map[string]imagetest.VMDK {
	all := imagetest.VMDKShapes()
	for name, v := range all {
		if v.Dialect == imagetest.Sparse {
			delete(all, name)
		}
	}
	return all
}

// TestStreamShapes: every layout gives its guest disk, whatever pieces it
// comes in.
func TestStreamShapes(t *testing.T) {
	disktest.Alone(t)
	for name, v := range streamShapes() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := v.Build()
			for _, anyOrder := range []bool{false, true} {
				got, err := readStream(t, bytes.NewReader(m.Bytes), anyOrder)
				require.NoError(t, err)
				require.True(t, bytes.Equal(m.Guest, got))
			}
			got, err := readStream(t, iotest.DataErrReader(iotest.HalfReader(bytes.NewReader(m.Bytes))), false)
			require.NoError(t, err)
			require.True(t, bytes.Equal(m.Guest, got))
		})
	}
}

// permuted returns a shape whose grains lie in the file in another order.
func permuted(v imagetest.VMDK, seed uint64) imagetest.VMDK {
	v.Order = rand.New(rand.NewPCG(seed, 1)).Perm(len(v.Grains))
	return v
}

// TestStreamOrder: grains out of order are given as they come if that was
// asked for, and refused if not.
func TestStreamOrder(t *testing.T) {
	for name, v := range streamShapes() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := permuted(v, 1).Build()
			got, err := readStream(t, bytes.NewReader(m.Bytes), true)
			require.NoError(t, err)
			require.True(t, bytes.Equal(m.Guest, got))
			_, err = readStream(t, bytes.NewReader(m.Bytes), false)
			require.ErrorIs(t, err, diskimage.ErrUnsupported)
			require.ErrorContains(t, err, "out of order")
			require.ErrorContains(t, err, "--spool")
		})
	}
}

// TestStreamCut: a stream that is cut anywhere is an error, at the boundaries
// of its blocks too.
func TestStreamCut(t *testing.T) {
	disktest.Alone(t)
	for _, d := range []imagetest.Dialect{imagetest.Exported, imagetest.FrontIndex, imagetest.QEMUStream} {
		v := imagetest.VMDK{Dialect: d, Grain: 8}
		for i := range 20 {
			v.Grains = append(v.Grains, imagetest.Grain{Kind: imagetest.Plain, Data: bytes.Repeat([]byte{byte(i), 1}, 1000)}, imagetest.Grain{})
		}
		m := v.Build()
		// Only the padding behind the last grain, and an end-of-stream marker
		// that repeats what the tables in front say, can be missing.
		needed := int64(len(m.Bytes))
		if d != imagetest.Exported {
			last := m.Data[len(m.Data)-2]
			needed = last + 12 + int64(m.Get32(last+8))
		}
		for n := int64(0); n < needed; n++ {
			if n > 20 && n%512 > 1 && n%512 < 511 && n%997 != 0 {
				continue
			}
			_, err := readStream(t, bytes.NewReader(m.Bytes[:n]), n%2 == 0)
			want := diskimage.ErrTruncated
			if n < 4 {
				want = diskimage.ErrFormat
			}
			require.ErrorIs(t, err, want, "dialect %d: cut at %#x of %#x", d, n, len(m.Bytes))
		}
		for n := int64(len(m.Bytes)); n >= needed; n -= 13 {
			got, err := readStream(t, bytes.NewReader(m.Bytes[:n]), false)
			require.NoError(t, err, "dialect %d: cut at %#x of %#x", d, n, len(m.Bytes))
			require.True(t, bytes.Equal(m.Guest, got))
		}
	}
}

// TestStreamOfProducts reads what products made, as far as that is a stream.
func TestStreamOfProducts(t *testing.T) {
	dir := os.Getenv("DISKIMAGE_SAMPLES")
	if dir == "" {
		t.Skip("DISKIMAGE_SAMPLES is not set")
	}
	sum := func(name string) string {
		f, err := os.Open(filepath.Join(dir, name))
		require.NoError(t, err)
		defer f.Close()
		s, err := vmdk.NewStream(f, vmdk.StreamOptions{})
		require.NoError(t, err)
		require.Empty(t, s.Notes())
		if s.Size() > 1<<30 { // too much to hold
			return fmt.Sprint(s.Size())
		}
		guest, err := drain(t, s, false)
		require.NoError(t, err)
		require.Empty(t, s.Notes())
		h := sha256.Sum256(guest)
		return hex.EncodeToString(h[:])
	}
	require.Equal(t, "a3bcf05f07a1c06a3380eeca8571f0efb2b85afafa1e21662b8cad436d1f7727", sum("streamOptimized.vmdk"))
	require.Equal(t, "8589934592", sum("ubuntu.2.0-disk1.vmdk"))

	// No grains at all.
	ubuntu, err := os.ReadFile(filepath.Join(dir, "ubuntu.2.0-disk1.vmdk"))
	require.NoError(t, err)
	s, err := vmdk.NewStream(bytes.NewReader(ubuntu), vmdk.StreamOptions{})
	require.NoError(t, err)
	_, err = s.NextBlock(nil)
	require.Equal(t, io.EOF, err)

	// 512 bytes at i*640 KiB + i*512 are all (i mod 10) + 0x30.
	version3, err := os.ReadFile(filepath.Join(dir, "iotest-version3.vmdk"))
	require.NoError(t, err)
	s, err = vmdk.NewStream(bytes.NewReader(version3), vmdk.StreamOptions{})
	require.NoError(t, err)
	require.EqualValues(t, int64(17179869184), s.Size())
	dec, p, found := codec.NewDecoder(), make([]byte, 64<<10), 0
	for {
		b, err := s.NextBlock(nil)
		if err == io.EOF {
			break
		}
		require.NoError(t, err)
		_, err = dec.Decode(p, b.Data, b.Enc)
		require.NoError(t, err)
		for at := 0; at < len(p); at += 512 {
			i := (b.Off + int64(at)) / (640<<10 + 512)
			if p[at] == 0 || i >= 100 {
				continue
			}
			require.Equal(t, i*(640<<10+512), b.Off+int64(at))
			require.Equal(t, bytes.Repeat([]byte{byte(i%10) + 0x30}, 512), p[at:at+512])
			found++
		}
	}
	require.Equal(t, 100, found)

	for _, name := range []string{"monolithicSparse.vmdk", "twoGbMaxExtentSparse.vmdk", "twoGbMaxExtentSparse-s001.vmdk"} {
		f, err := os.Open(filepath.Join(dir, name))
		require.NoError(t, err)
		_, err = vmdk.NewStream(f, vmdk.StreamOptions{})
		require.ErrorIs(t, err, diskimage.ErrUnsupported, name)
		f.Close()
	}
	f, err := os.Open(filepath.Join(dir, "aws-export-header-only.vmdk"))
	require.NoError(t, err)
	defer f.Close()
	s, err = vmdk.NewStream(f, vmdk.StreamOptions{})
	if err == nil {
		_, err = s.NextBlock(nil)
	}
	require.ErrorIs(t, err, diskimage.ErrTruncated)
}

// TestStreamOfReference reads what qemu-img made, of sizes that are no multiple
// of a grain too, and with grains in the order in which its coroutines end.
func TestStreamOfReference(t *testing.T) {
	peer.Find(t, "qemu-img")
	dir := t.TempDir()
	rnd := rand.NewChaCha8([32]byte{1})
	for _, size := range []int{512, 64 << 10, 64<<10 + 512, 5<<20 + 3*512, 40<<20 - 512} {
		guest := make([]byte, size)
		rnd.Read(guest[:min(size, 3<<20)])
		copy(guest[size/2:], bytes.Repeat([]byte("some text that shrinks, "), 10000))
		rnd.Read(guest[size-300:])
		src, dst := filepath.Join(dir, "src"), filepath.Join(dir, "dst")
		require.NoError(t, os.WriteFile(src, guest, 0o600))
		for _, order := range [][]string{nil, {"-W", "-m", "16"}} {
			args := append([]string{"convert", "-f", "raw", "-O", "vmdk", "-o", "subformat=streamOptimized"}, order...)
			peer.Run(t, "qemu-img", append(args, src, dst)...)
			image, err := os.ReadFile(dst)
			require.NoError(t, err)
			got, err := readStream(t, bytes.NewReader(image), order != nil)
			require.NoError(t, err)
			require.True(t, bytes.Equal(guest, got))
		}
	}
}
