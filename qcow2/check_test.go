package qcow2

import (
	"context"
	"encoding/binary"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/internal/disktest"
)

// setRefcount sets the refcount of a cluster that the first block counts, of
// any width.
func (m *patient) setRefcount(c, v uint64) {
	order := uint64(defaultRefcountOrder)
	if m.u32(offVersion) == 3 {
		order = m.u32(offRefcountOrder)
	}
	block := m.b[m.refblock():]
	switch order {
	case 6:
		binary.BigEndian.PutUint64(block[c*8:], v)
	case 5:
		binary.BigEndian.PutUint32(block[c*4:], uint32(v))
	case 4:
		binary.BigEndian.PutUint16(block[c*2:], uint16(v))
	default:
		width := uint64(1) << order
		mask := byte(1<<width - 1)
		at, shift := c*width/8, c*width%8
		block[at] = block[at]&^(mask<<shift) | byte(v)&mask<<shift
	}
}

// TestCheckOptions asks qemu-img's opinion on sound images of many kinds, and
// on the same with a refcount that is wrong.
func TestCheckOptions(t *testing.T) {
	disktest.Alone(t)
	const io = "write 0 300k;write -z 64k 64k;write 1M 70k;write -c 2M 64k;discard 1M 16k;write 4095k 1k"
	for _, opts := range []string{
		"cluster_size=512,refcount_bits=64", "cluster_size=512,refcount_bits=1", "cluster_size=1k,refcount_bits=2",
		"cluster_size=2k,refcount_bits=4", "cluster_size=4k,refcount_bits=8", "cluster_size=8k", "cluster_size=64k,refcount_bits=32",
		"cluster_size=64k,refcount_bits=64", "cluster_size=64k,compression_type=zstd", "compat=0.10", "lazy_refcounts=on",
		"extended_l2=on,cluster_size=16k", "extended_l2=on,cluster_size=64k,refcount_bits=1",
		"preallocation=metadata", "cluster_size=4k,preallocation=full",
	} {
		t.Run(opts, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			r := recipe{opts: opts, size: "5M", io: io}
			if strings.Contains(opts, "preallocation") {
				r.io = "write 0 300k;write -z 64k 64k"
			}
			if !strings.Contains(opts, "refcount_bits=1") && !strings.Contains(opts, "k,refcount_bits=2") && !strings.Contains(opts, "bits=4") {
				r.snap, r.later = "one two", "write 32k 64k"
			}
			m := &patient{r.bake(t, dir)}
			agree := func() {
				t.Helper()
				name := filepath.Join(dir, "b.qcow2")
				require.NoError(t, os.WriteFile(name, m.b, 0o666))
				theirs := runPeerCheck(t, name)
				ours, lines := checkBytes(t, m.b, CheckOptions{})
				require.Empty(t, cmp.Diff(theirs.result, ours))
				require.ElementsMatch(t, theirs.lines, lines)
			}
			agree()
			ours, lines := checkBytes(t, m.b, CheckOptions{})
			require.Zero(t, exitCode(ours), lines)
			for _, snapshot := range strings.Fields(r.snap) {
				d, err := Open(t.Context(), source(m.b), Options{Snapshot: snapshot})
				require.NoError(t, err)
				require.NoError(t, d.CheckMap(), snapshot)
			}
			d, err := Open(t.Context(), source(m.b), Options{})
			require.NoError(t, err)
			require.NoError(t, d.CheckMap())
			l2 := m.l2() / m.cluster()
			m.setRefcount(l2, 0)
			agree()
			m.setRefcount(l2, 1)
			m.setRefcount(l2+1, 0)
			agree()
		})
	}
}

// TestCheckRandomDamage changes metadata at random. What qemu-img finds corrupt
// we do, and what it finds clean we find clean, or say more.
func TestCheckRandomDamage(t *testing.T) {
	disktest.Alone(t)
	dir := t.TempDir()
	rnd := rand.New(rand.NewPCG(1, 2))
	for _, r := range []recipe{
		{io: "write 0 256k;write -c 1M 64k", size: "4M", snap: "s", later: "write 64k 64k", bitmaps: 0},
		{opts: "extended_l2=on,cluster_size=16k", io: "write 0 40k;write 100k 2k;write -z 200k 4k", size: "4M"},
		{opts: "cluster_size=512,refcount_bits=8", io: "write 0 40k;write -c 64k 4k", size: "1M"},
	} {
		whole := r.bake(t, dir)
		if n := len(whole) % 65536; n != 0 { // so that no cluster is cut
			whole = append(whole, make([]byte, 65536-n)...)
		}
		for range 40 {
			m := &patient{slices.Clone(whole)}
			for range 1 + rnd.IntN(2) {
				tables := []uint64{m.l1(), m.l2() + m.entrySize()*rnd.Uint64N(20), m.refblock() + 8*rnd.Uint64N(4), m.reftable() + 8*rnd.Uint64N(2)}
				if m.u32(offNbSnapshots) > 0 {
					tables = append(tables, m.snapL1(), m.snapshots())
				}
				at := tables[rnd.IntN(len(tables))]
				if at+8 > uint64(len(m.b)) {
					continue
				}
				bit := uint64(1) << rnd.Uint64N(64)
				if bit < 1<<m.u32(offClusterBits) && bit > 1 { // unaligned tables are read as garbage by qemu-img
					bit <<= 20
				}
				m.flip(at, bit)
			}
			name := filepath.Join(dir, "c.qcow2")
			require.NoError(t, os.WriteFile(name, m.b, 0o666))
			theirs := runPeerCheck(t, name)
			r, err := Check(t.Context(), source(m.b), CheckOptions{})
			if err != nil {
				require.Equal(t, 1, theirs.code, "%v; qemu-img: %v", err, theirs.lines)
				continue
			}
			_, lines := checkBytes(t, m.b, CheckOptions{})
			switch code := exitCode(*r); theirs.code {
			case 0:
				for _, line := range lines {
					// An overlap that is counted, the COPIED flag of nothing, or the zero flag where subclusters have their own.
					require.Regexp(t, "and is referenced|COPIED flag and no cluster|l2 entry with reserved bits set: .*[13579bdf]$", line, "%v", lines)
				}
			case 1:
				require.Equal(t, 2, code, "%v; qemu-img: %v", lines, theirs.lines)
			case 2:
				require.Equal(t, 2, code, "%v; qemu-img: %v", lines, theirs.lines)
			case 3:
				require.NotZero(t, code, "%v; qemu-img: %v", lines, theirs.lines)
			}
		}
	}
}

// TestCheckWindows checks with room for few counters: what is found must not
// depend on it.
func TestCheckWindows(t *testing.T) {
	disktest.Alone(t)
	dir := t.TempDir()
	m := &patient{recipe{
		opts: "cluster_size=512", size: "2M", io: "write 0 1500k;write -c 1536k 64k", snap: "s1 s2", later: "write 256k 512k", bitmaps: 1,
	}.bake(t, dir)}
	require.Greater(t, len(m.b)/512, 4*tallyPageLen, "too small to need windows")
	sound, lines := checkBytes(t, m.b, CheckOptions{})
	require.Zero(t, exitCode(sound), lines)

	// Damage all over: each table and cluster that an L2 table points to.
	rnd := rand.New(rand.NewPCG(3, 4))
	for i := range uint64(30) {
		if l2 := m.u64(m.l1()+i*8) & l1OffsetMask; l2 != 0 {
			m.set64(l2+8*rnd.Uint64N(64), copied|rnd.Uint64N(uint64(len(m.b)/512))<<9)
			m.flip(l2+8*rnd.Uint64N(64), copied)
		}
	}
	for range 30 {
		block := m.u64(m.reftable() + 8*rnd.Uint64N(16))
		m.set16(block+2*rnd.Uint64N(256), rnd.Uint64N(3))
	}
	m.set64(m.l1()+8*30, 1<<54) // far behind the end
	m.set64(m.l2(), copied|1<<50)
	want, all := checkBytes(t, m.b, CheckOptions{})
	require.Greater(t, want.Corruptions, int64(40))
	require.Greater(t, want.Leaks, int64(10))
	again, lines := checkBytes(t, m.b, CheckOptions{})
	require.Equal(t, want, again)
	require.Equal(t, all, lines, "the order of findings")
	slices.Sort(all)
	for _, pages := range []int{1, 4} {
		got, lines := checkBytes(t, m.b, CheckOptions{pages: pages})
		require.Equal(t, want, got, "%d pages", pages)
		slices.Sort(lines)
		require.Empty(t, cmp.Diff(all, lines), "%d pages", pages)
	}
}

func TestCheckErrors(t *testing.T) {
	b := (recipe{io: "write 0 64k"}).bake(t, t.TempDir())
	t.Run("cancelled", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := Check(ctx, source(b), CheckOptions{})
		require.ErrorIs(t, err, context.Canceled)
	})
	t.Run("no image", func(t *testing.T) {
		_, err := Check(t.Context(), source(make([]byte, 4096)), CheckOptions{})
		require.ErrorIs(t, err, diskimage.ErrFormat)
	})
	t.Run("cut in the L1 table", func(t *testing.T) {
		m := &patient{b}
		_, err := Check(t.Context(), source(b[:m.l1()+4]), CheckOptions{})
		require.ErrorIs(t, err, diskimage.ErrTruncated)
	})
}
