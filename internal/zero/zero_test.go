package zero

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

// slow is what Is must agree with.
func slow(p []byte) bool {
	for _, c := range p {
		if c != 0 {
			return false
		}
	}
	return true
}

// TestIsEveryPlace sets each single bit's byte of every short length, at
// several alignments, and some bytes of long ones.
func TestIsEveryPlace(t *testing.T) {
	mem := make([]byte, 9<<10)
	for align := range 9 {
		for n := range 300 {
			p := mem[align : align+n]
			require.True(t, Is(p), "%d bytes", n)
			for i := range p {
				p[i] = 1 << (i % 8)
				if Is(p) {
					t.Fatalf("%d bytes, byte %d", n, i)
				}
				p[i] = 0
			}
		}
		for _, n := range []int{4095, 4096, 4097, 8191, 8192, 8193} {
			p := mem[align : align+n]
			require.True(t, Is(p))
			for i := range p {
				p[i] = 0x80
				if Is(p) {
					t.Fatalf("%d bytes, byte %d", n, i)
				}
				p[i] = 0
			}
		}
	}
}

// TestIsLooksNoFurther: bytes around p do not count.
func TestIsLooksNoFurther(t *testing.T) {
	mem := bytes.Repeat([]byte{0xff}, 9000)
	for _, n := range []int{0, 1, 7, 8, 9, 15, 16, 17, 4095, 4096, 4097, 8192} {
		p := mem[100 : 100+n]
		clear(p)
		require.True(t, Is(p), "%d bytes", n)
		for i := range p {
			p[i] = 0xff
		}
	}
}

func TestRun(t *testing.T) {
	for _, tt := range []struct {
		name   string
		p      []byte
		n      int
		isZero bool
	}{
		{"nothing", nil, 0, false},
		{"one zero grain", []byte{0, 0}, 2, true},
		{"one data grain", []byte{0, 1}, 2, false},
		{"zeros then data", []byte{0, 0, 0, 0, 0, 1}, 4, true},
		{"data then zeros", []byte{1, 0, 0, 1, 0, 0}, 4, false},
		{"part of a grain at the end, zero", []byte{0, 0, 0}, 3, true},
		{"part of a grain at the end, alike", []byte{1, 1, 1}, 3, false},
		{"part of a grain at the end, other", []byte{1, 1, 0}, 2, false},
		{"less than a grain", []byte{0}, 1, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n, isZero := Run(tt.p, 2)
			require.Equal(t, tt.n, n)
			if n > 0 {
				require.Equal(t, tt.isZero, isZero)
			}
		})
	}
}

func FuzzIs(f *testing.F) {
	f.Add([]byte{}, uint16(0), byte(0))
	f.Add(make([]byte, 40), uint16(39), byte(1))
	f.Add(make([]byte, 5000), uint16(4097), byte(1))
	f.Fuzz(func(t *testing.T, p []byte, at uint16, c byte) {
		require.Equal(t, slow(p), Is(p))
		clear(p)
		require.True(t, Is(p))
		if len(p) > 0 {
			p[int(at)%len(p)] = c
			require.Equal(t, c == 0, Is(p))
		}
	})
}

func BenchmarkIs(b *testing.B) {
	for _, size := range []int{64, 512, 4 << 10, 64 << 10, 2 << 20} {
		p := make([]byte, size)
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			b.SetBytes(int64(size))
			for b.Loop() {
				if !Is(p) {
					b.Fatal("zeros are not zero")
				}
			}
		})
	}
}

// BenchmarkIsEarly is the usual case of data: known by its first bytes, or
// only after some.
func BenchmarkIsEarly(b *testing.B) {
	for _, at := range []int{0, 100, 2048} {
		p := make([]byte, 4096)
		p[at] = 1
		b.Run(fmt.Sprint(at), func(b *testing.B) {
			for b.Loop() {
				if Is(p) {
					b.Fatal("data is zero")
				}
			}
		})
	}
}

// The forms that lost, kept to be measured again on another machine.

func isShifted(p []byte) bool {
	return len(p) < 8 || binary.NativeEndian.Uint64(p) == 0 && bytes.Equal(p[:len(p)-8], p[8:])
}

func isLoads(p []byte) bool {
	for len(p) >= 32 {
		if binary.NativeEndian.Uint64(p)|binary.NativeEndian.Uint64(p[8:])|
			binary.NativeEndian.Uint64(p[16:])|binary.NativeEndian.Uint64(p[24:]) != 0 {
			return false
		}
		p = p[32:]
	}
	return slow(p)
}

func BenchmarkOther(b *testing.B) {
	for _, f := range []struct {
		name string
		is   func([]byte) bool
	}{{"shifted", isShifted}, {"loads", isLoads}, {"bytes", slow}} {
		for _, size := range []int{512, 4 << 10, 64 << 10, 2 << 20} {
			p := make([]byte, size)
			b.Run(fmt.Sprintf("%s/%d", f.name, size), func(b *testing.B) {
				b.SetBytes(int64(size))
				for b.Loop() {
					if !f.is(p) {
						b.Fatal("zeros are not zero")
					}
				}
			})
		}
	}
}
