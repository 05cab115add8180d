package inflate

import (
	"io"
	"math/bits"
)

// Sizes of RFC 1951, section 3.2.5 to 3.2.7.
const (
	maxLitLen  = 288 // symbols of the fixed code; a dynamic one has at most 286
	maxDist    = 32  // and 30
	maxCodes   = 19
	maxBits    = 15
	endOfBlock = 256
)

// A table decodes a prefix code. It is looked up by the next bits: first its
// primary part; where the code is longer than that, the entry points at a part
// of its own for the rest.
//
// An entry:
//
//	bit  0..5    bits that the entry uses: code and extra bits
//	bit  6..7    zero
//	bit  8..9    literals: how many, 0 to 2
//	bit 10..13   length of the code alone; of a pointer: bits that look up the rest
//	bit 14       special: not a literal, length or distance
//	bit 15       special, and a pointer
//	bit 16..31   one or two literals, the first one low
//	bit 16..24   the base of a length
//	bit 25..31   a mask of as many ones as it has extra bits
//	bit 16..31   the base of a distance
//	bit 32..47   a mask of as many ones as it has extra bits
//	bit 16..31   of a pointer: where it leads; of the end of block 0; of an invalid code 1
//
// The arrays are larger than the largest code needs (2342 and 400 entries), so
// that an index is brought into bounds by a mask.
type (
	litTable  [4096]uint32
	distTable [512]uint64
	tables    struct {
		lit  litTable
		dist distTable
	}
)

const (
	litBits  = 11 // of the primary part
	distBits = 8
	codeBits = 7 // code lengths' codes are at most so long

	oneLiteral = 1 << 8
	isLiteral  = 3 << 8
	isSpecial  = 1 << 14
	isPointer  = 1 << 15

	// oneBit is what one bit of code adds to an entry.
	oneBit = 1<<10 + 1

	entryEnd     = isSpecial
	entryInvalid = isSpecial | 1<<16 | 1 // uses a bit, so that it is not found behind the end
)

// Section 3.2.5: extra bits and bases.
var (
	lengthBase = [29]uint16{3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258}
	lengthBits = [29]uint8{0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0}
	distBase   = [30]uint16{1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769, 1025, 1537, 2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577}
	distExtra  = [30]uint8{0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13}

	// codeOrder is the order in which the lengths of code lengths' codes come
	// (section 3.2.7).
	codeOrder = [maxCodes]uint8{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}
)

// prepare makes what is the same for all streams.
func (d *Decoder) prepare() {
	if d.ready {
		return
	}
	d.ready = true
	for i := range d.litBase {
		switch {
		case i < endOfBlock:
			d.litBase[i] = oneLiteral | uint32(i)<<16
		case i == endOfBlock:
			d.litBase[i] = entryEnd
		case i-endOfBlock-1 < len(lengthBase):
			k := i - endOfBlock - 1
			d.litBase[i] = uint32(lengthBase[k])<<16 | 1<<(25+lengthBits[k]) - 1<<25 | uint32(lengthBits[k])
		default:
			d.litBase[i] = entryInvalid &^ 63
		}
	}
	for i := range d.distBase {
		if i < len(distBase) {
			d.distBase[i] = uint64(distBase[i])<<16 | 1<<(32+distExtra[i]) - 1<<32 | uint64(distExtra[i])
		} else {
			d.distBase[i] = entryInvalid &^ 63
		}
	}
	// Section 3.2.6.
	for i := range d.lens {
		switch {
		case i < 144:
			d.lens[i] = 8
		case i < 256:
			d.lens[i] = 9
		case i < 280:
			d.lens[i] = 7
		case i < maxLitLen:
			d.lens[i] = 8
		default:
			d.lens[i] = 5
		}
	}
	build(d.fixed.lit[:], litBits, d.lens[:maxLitLen], d.litBase[:], &d.sorted)
	build(d.fixed.dist[:], distBits, d.lens[maxLitLen:], d.distBase[:], &d.sorted)
	d.fixed.lit.pair()
}

// readCodes reads the codes of a block with dynamic codes (section 3.2.7).
func (d *Decoder) readCodes() error {
	h, err := d.take(14)
	if err != nil {
		return err
	}
	lits, dists, codes := h&31+257, h>>5&31+1, h>>10+4
	if lits > 286 || dists > 30 {
		return errCounts
	}
	clear(d.lens[:maxCodes])
	for i := range codes {
		n, err := d.take(3)
		if err != nil {
			return err
		}
		d.lens[codeOrder[i]] = uint8(n)
	}
	if !build(d.codes[:], codeBits, d.lens[:maxCodes], codeLengthBase[:], &d.sorted) {
		return errCodeLengths
	}
	lens := d.lens[:lits+dists]
	for i := uint(0); i < uint(len(lens)); {
		if d.cnt < codeBits+7 {
			d.refill()
		}
		e := d.codes[d.buf&(1<<codeBits-1)]
		n := uint(e & 63)
		if d.cnt < n {
			return io.ErrUnexpectedEOF
		}
		if e&isSpecial != 0 {
			return errSymbol
		}
		value := uint(e >> 16)
		if value < 16 {
			d.buf >>= n & 63
			d.cnt -= n
			lens[i] = uint8(value)
			i++
			continue
		}
		repeat := uint(d.buf & (1<<n - 1) >> (e >> 10 & 15))
		d.buf >>= n & 63
		d.cnt -= n
		var what uint8
		switch value {
		case 16:
			if i == 0 {
				return errRepeat
			}
			what = lens[i-1]
			repeat += 3
		case 17:
			repeat += 3
		default:
			repeat += 11
		}
		if repeat > uint(len(lens))-i {
			return errRepeat
		}
		for range repeat {
			lens[i] = what
			i++
		}
	}
	if !build(d.own.lit[:], litBits, lens[:lits], d.litBase[:], &d.sorted) {
		return errLitLen
	}
	if !build(d.own.dist[:], distBits, lens[lits:], d.distBase[:], &d.sorted) {
		return errDist
	}
	// A block is as long as the one before it, as far as can be told.
	if min(len(d.dst)-d.out, d.out-d.begun) >= pairFrom {
		d.own.lit.pair()
	}
	d.begun = d.out
	return nil
}

// codeLengthBase holds the entries of the code for code lengths: the symbol,
// and its extra bits.
var codeLengthBase = [maxCodes]uint32{
	0 << 16, 1 << 16, 2 << 16, 3 << 16, 4 << 16, 5 << 16, 6 << 16, 7 << 16, 8 << 16, 9 << 16,
	10 << 16, 11 << 16, 12 << 16, 13 << 16, 14 << 16, 15 << 16, 16<<16 | 2, 17<<16 | 3, 18<<16 | 7,
}

// build makes the table of the code with the given lengths, whose symbols have
// the entries base, less what the length of the code adds. It reports whether
// the code is complete; what compress/flate and zlib let pass passes too: no
// code at all, whose every use is an error, and one code of one bit.
func build[E uint32 | uint64](table []E, primary uint, lens []uint8, base []E, sorted *[maxLitLen]uint16) bool {
	var count [maxBits + 1]uint16
	for _, n := range lens {
		count[n&15]++
	}
	var at [maxBits + 2]uint16 // where in sorted the symbols of a length begin
	left, longest := 1, uint(0)
	for n := 1; n <= maxBits; n++ {
		at[n+1] = at[n] + count[n]
		left = left<<1 - int(count[n])
		if left < 0 {
			return false
		}
		if count[n] > 0 {
			longest = uint(n)
		}
	}
	if left > 0 {
		if longest > 1 {
			return false
		}
		// No code, or one of one bit, which is 0.
		for i := range table[:1<<primary] {
			table[i] = entryInvalid
		}
		if longest == 1 {
			for sym, n := range lens {
				if n == 1 {
					for i := 0; i < 1<<primary; i += 2 {
						table[i] = base[sym] + oneBit
					}
				}
			}
		}
		return true
	}
	used := at[maxBits+1]
	for sym, n := range lens {
		if n > 0 {
			sorted[at[n&15]] = uint16(sym)
			at[n&15]++
		}
	}

	// Codes ascend with their length, and within one with their symbols; a
	// table is looked up by codes with their bits reversed, so code counts up
	// from its highest bit. The table doubles with the length of the codes:
	// what is there already holds for either value of the next bit.
	var code uint
	next := 0
	n := uint(1)
	for ; n <= primary; n++ {
		for range count[n] {
			sym := sorted[next]
			next++
			table[code] = base[sym] + E(n)*oneBit
			code = increment(code, n)
		}
		if n < primary {
			copy(table[1<<n:2<<n], table[:1<<n])
		}
	}
	if next == int(used) {
		return true
	}

	// The rest have primary bits in common by groups.
	end, start, sub := uint(1)<<primary, uint(0), uint(0)
	group := ^uint(0)
	for ; n <= maxBits; n++ {
		for remaining := uint(count[n]); remaining > 0; remaining-- {
			if low := code & (1<<primary - 1); low != group {
				group = low
				// Its part has as many bits as its longest code: as many as it
				// takes until the group's codes are complete.
				sub = n - primary
				for room := remaining; room < 1<<sub; {
					sub++
					room = room<<1 + uint(count[primary+sub])
				}
				start = end
				end += 1 << sub
				table[group] = isSpecial | isPointer | E(start)<<16 | E(sub)<<10 | E(primary)
			}
			sym := sorted[next]
			next++
			e := base[sym] + E(n-primary)*oneBit
			for i := code >> primary; i < 1<<sub; i += 1 << (n - primary) {
				table[start+i] = e
			}
			code = increment(code, n)
		}
	}
	return true
}

// increment counts a code of n bits up by one, in reversed bits. After the
// last code it returns what is of no use.
func increment(code, n uint) uint {
	zeros := ^code & (1<<n - 1)
	if zeros == 0 {
		return 0
	}
	top := uint(1) << (bits.Len(zeros) - 1)
	return code&(top-1) | top
}

// pairFrom is how many bytes of output must be expected for pairs to pay.
const pairFrom = 12 << 10

// pair lets entries of the primary part hold two literals where both codes
// fit.
func (t *litTable) pair() {
	// From the last to the first, since an entry is looked up at an index that
	// is not higher, and must still be a single one.
	for i := 1<<litBits - 1; i >= 0; i-- {
		e := t[i]
		if e&isLiteral == 0 {
			continue
		}
		n := e & 63
		second := t[i>>n]
		if second&isLiteral != 0 && n+second&63 <= litBits {
			t[i] = second&(255<<16)<<8 | e&(255<<16) | 2*oneLiteral | (n + second&63)
		}
	}
}
