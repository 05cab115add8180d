package blockhash_test

import (
	"bytes"
	"encoding/hex"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage/internal/blockhash"
)

const k = blockhash.BlockSize

func pattern(n int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(i * 7 % 251)
	}
	return p
}

// TestValues: the wanted digests are blkhash's own: that of its test of one
// block of zeros, and what its reference implementation, test/blkhash.py,
// printed for the others.
func TestValues(t *testing.T) {
	for _, c := range []struct {
		name string
		disk []byte
		want string
	}{
		{"a block of zeros", make([]byte, k), "8ab067ab7939a3d4f40cbb118956c07c06aeae2d075d6e0a2ebbb94bd42832af"},
		{"nothing", nil, "af5570f5a1810b7af78caf4bc70a660f0df51e42baf91d4de5b2328de0e83dfc"},
		{"a byte", []byte("x"), "a64a187a24c2d405b2e6e8df661f89e3107ba40c3817d284f97493b2c75ca522"},
		{"a zero", make([]byte, 1), "3aa275143d0713bc404144a02208ea1ea840d565fa0c19af486cc65b0a10a267"},
		{"a block and a byte", bytes.Repeat([]byte("a"), k+1), "f330597b65058c18d569c456db8d6cfb93cb45222ac6aee9bd2dc51ce52af5d5"},
		{"data and zeros", bytes.Join([][]byte{pattern(k + 100), make([]byte, 5*k), pattern(3 * k), make([]byte, k/2)}, nil),
			"d2efacb797a6a9b1fa01367c57f90ce38a7d12d8ee6bfb24635214bfb6278986"},
		{"33 MiB of zeros", make([]byte, 33<<20), "c159f29f6a371e16119df42a80a464042856079626156ec47bb467ce5720ec0f"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := blockhash.New()
			h.Add(h.Append(nil, c.disk), int64(len(c.disk)))
			require.Equal(t, c.want, hex.EncodeToString(h.Sum()))

			rnd := rand.New(rand.NewPCG(1, 1)) // in parts, zeros said as such
			for h = blockhash.New(); h.At() < int64(len(c.disk)); {
				n := min(int64(len(c.disk))-h.At(), (1+rnd.Int64N(300))*k)
				if p := c.disk[h.At():][:n]; bytes.Count(p, []byte{0}) == len(p) {
					h.Zeros(h.At() + n)
				} else {
					h.Add(h.Append(nil, p), n)
				}
			}
			require.Equal(t, c.want, hex.EncodeToString(h.Sum()))
		})
	}
}

func BenchmarkZeros(b *testing.B) {
	b.SetBytes(1 << 40)
	for b.Loop() {
		blockhash.New().Zeros(1 << 40)
	}
}
