package deflate

// block writes a block in the shortest of the three ways.
func (w *writer) block(tokens []token, h *histogram, src []byte, final bool) {
	h.lit[endOfBlock] = 1
	lengths(h.lit[:numLit], w.litLens[:numLit], 15, w.keys[:])
	lengths(h.dist[:numDist], w.distLens[:numDist], 15, w.keys[:])

	nLit, nDist := numLit, numDist
	for nLit > firstLen && w.litLens[nLit-1] == 0 {
		nLit--
	}
	for nDist > 1 && w.distLens[nDist-1] == 0 {
		nDist--
	}
	var preFreq [numCode]uint32
	var preLens [numCode]uint8
	nSeq := w.codeLengths(nLit, nDist, &preFreq)
	lengths(preFreq[:], preLens[:], 7, w.keys[:])
	nPre := numCode
	for nPre > 4 && preLens[codeOrder[nPre-1]] == 0 {
		nPre--
	}

	dynamic := 3 + 14 + 3*nPre + int(preFreq[16])*2 + int(preFreq[17])*3 + int(preFreq[18])*7
	for i, f := range preFreq {
		dynamic += int(f) * int(preLens[i])
	}
	fixed, extra := 3, 0
	for i, f := range h.lit[:numLit] {
		if f > 0 {
			dynamic += int(f) * int(w.litLens[i])
			l := 8
			if i >= 144 && i < 256 {
				l = 9
			} else if i >= 256 && i < 280 {
				l = 7
			}
			fixed += int(f) * l
			if i > endOfBlock {
				extra += int(f) * int(lengthBits[i-firstLen])
			}
		}
	}
	for i, f := range h.dist[:numDist] {
		if f > 0 {
			dynamic += int(f) * int(w.distLens[i])
			fixed += int(f) * 5
			extra += int(f) * int(distBits[i])
		}
	}
	dynamic += extra
	fixed += extra
	stored := 8*len(src) + (len(src)+65534)/65535*(3+7+32)

	last := uint64(0)
	if final {
		last = 1
	}
	switch {
	case stored <= dynamic && stored <= fixed:
		w.stored(src, last)
		return
	case fixed <= dynamic:
		w.room(fixed/8 + 16)
		for i := range w.litLens {
			switch {
			case i < 144:
				w.litLens[i] = 8
			case i < 256:
				w.litLens[i] = 9
			case i < 280:
				w.litLens[i] = 7
			default:
				w.litLens[i] = 8
			}
		}
		for i := range w.distLens {
			w.distLens[i] = 5
		}
		codes(w.litLens[:], w.lit[:])
		codes(w.distLens[:], w.dist[:])
		w.put(last|1<<1, 3)
	default:
		w.room(dynamic/8 + 16)
		codes(w.litLens[:numLit], w.lit[:])
		codes(w.distLens[:numDist], w.dist[:])
		w.put(last|2<<1, 3)
		w.put(uint64(nLit-firstLen)|uint64(nDist-1)<<5|uint64(nPre-4)<<10, 14)
		for _, sym := range codeOrder[:nPre] {
			w.put(uint64(preLens[sym]), 3)
		}
		var pre [numCode]uint16
		codes(preLens[:], pre[:])
		for _, s := range w.seq[:nSeq] {
			sym := s & 255
			w.put(uint64(pre[sym]), uint(preLens[sym]))
			switch sym {
			case 16:
				w.put(uint64(s>>8), 2)
			case 17:
				w.put(uint64(s>>8), 3)
			case 18:
				w.put(uint64(s>>8), 7)
			}
		}
	}
	w.symbols(tokens, src)
}

// codeLengths makes the sequence of symbols for the lengths of a block's codes
// (section 3.2.7) and returns how many there are.
func (w *writer) codeLengths(nLit, nDist int, freq *[numCode]uint32) int {
	var all [numLit + numDist]uint8
	copy(all[:], w.litLens[:nLit])
	copy(all[nLit:], w.distLens[:nDist])
	lens := all[:nLit+nDist]
	n := 0
	emit := func(sym, extra int) {
		w.seq[n] = uint16(sym | extra<<8)
		freq[sym]++
		n++
	}
	for i := 0; i < len(lens); {
		l := lens[i]
		run := 1
		for i+run < len(lens) && lens[i+run] == l {
			run++
		}
		i += run
		if l == 0 {
			for run >= 11 {
				k := min(run, 138)
				emit(18, k-11)
				run -= k
			}
			if run >= 3 {
				emit(17, run-3)
				run = 0
			}
		} else if run >= 4 {
			emit(int(l), 0)
			run--
			for run >= 3 {
				k := min(run, 6)
				emit(16, k-3)
				run -= k
			}
		}
		for ; run > 0; run-- {
			emit(int(l), 0)
		}
	}
	return n
}
