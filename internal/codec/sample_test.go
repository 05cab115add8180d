package codec

import (
	"encoding/binary"
	"math/rand/v2"
)

// sample returns n bytes that are the same on every machine: words, records of
// little-endian numbers, long repeats and noise by turns, so that every part of
// a coder has something to do.
func sample(seed uint64, n int) []byte {
	r := rand.New(rand.NewPCG(seed, 1))
	words := make([]string, 300)
	for i := range words {
		w := make([]byte, 2+r.IntN(9))
		for j := range w {
			w[j] = "etaoinshrdlucmfwypvbgkqjxz"[min(r.IntN(26), r.IntN(26))]
		}
		words[i] = string(w)
	}
	p := make([]byte, 0, n+1024)
	for len(p) < n {
		switch r.IntN(6) {
		case 0, 1:
			for range 40 + r.IntN(400) {
				p = append(p, words[min(r.IntN(300), r.IntN(300))]...)
				p = append(p, " ,.\n"[r.IntN(4)])
			}
		case 2:
			v := r.Uint32()
			for range 20 + r.IntN(500) {
				v += r.Uint32N(300)
				p = binary.LittleEndian.AppendUint32(p, v)
				p = append(p, 0, 0, byte(r.IntN(3)), 0x80)
			}
		case 3:
			if len(p) > 0 {
				from := r.IntN(len(p))
				p = append(p, p[from:min(len(p), from+r.IntN(9000))]...)
			}
		case 4:
			for range r.IntN(2000) {
				p = append(p, byte(r.Uint32()))
			}
		case 5:
			b := byte(r.Uint32())
			for range r.IntN(3000) {
				p = append(p, b)
			}
		}
	}
	return p[:n]
}

// noise returns n bytes that do not compress.
func noise(seed uint64, n int) []byte {
	r := rand.New(rand.NewPCG(seed, 2))
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(r.Uint32())
	}
	return p
}
