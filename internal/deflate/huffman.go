package deflate

import (
	"math/bits"
	"slices"
)

// lengths gives each symbol of freq the length of its code, at most most bits,
// so that the codes are complete; symbols that do not occur get 0. At least two
// symbols get a code. keys is room to work in.
func lengths(freq []uint32, lens []uint8, most int, keys []uint64) {
	clear(lens)
	n := sortByFreq(freq, keys)
	if n < 2 {
		// One code of one bit alone would not be complete.
		first := 0
		if n == 1 {
			first = int(keys[0] & 0xffff)
		}
		lens[first] = 1
		if first == 0 {
			lens[1] = 1
		} else {
			lens[0] = 1
		}
		return
	}
	keys = keys[:n]

	// Moffat and Katajainen, "In-place calculation of minimum-redundancy codes".
	var a [fixLit]uint32
	for i, k := range keys {
		a[i] = uint32(k >> 16)
	}
	a[0] += a[1]
	root, leaf := 0, 2
	for next := 1; next < n-1; next++ {
		if leaf >= n || a[root] < a[leaf] {
			a[next] = a[root]
			a[root] = uint32(next)
			root++
		} else {
			a[next] = a[leaf]
			leaf++
		}
		if leaf >= n || root < next && a[root] < a[leaf] {
			a[next] += a[root]
			a[root] = uint32(next)
			root++
		} else {
			a[next] += a[leaf]
			leaf++
		}
	}
	a[n-2] = 0
	for next := n - 3; next >= 0; next-- {
		a[next] = a[a[next]] + 1
	}
	var count [33]int // leaves by depth
	avail, used, depth := 1, 0, 0
	root = n - 2
	for avail > 0 {
		for root >= 0 && int(a[root]) == depth {
			used++
			root--
		}
		count[min(depth, most)] += avail - used
		avail = 2 * used
		depth++
		used = 0
	}
	// Codes that were too long are now too many: lengthen others.
	total := 0
	for l := 1; l <= most; l++ {
		total += count[l] << (most - l)
	}
	for ; total > 1<<most; total-- {
		l := most - 1
		for count[l] == 0 {
			l--
		}
		count[l]--
		count[l+1] += 2
		count[most]--
	}
	i := 0
	for l := most; l > 0; l-- {
		for range count[l] {
			lens[keys[i]&0xffff] = uint8(l)
			i++
		}
	}
}

// sortByFreq puts a key for each symbol that occurs into keys, sorted by how
// often, then by symbol, and returns how many there are. Most occur seldom, and
// are sorted by counting.
func sortByFreq(freq []uint32, keys []uint64) (n int) {
	var at [128]uint16 // where those that occur so often begin; the last: so often or more
	for _, f := range freq {
		at[min(f, uint32(len(at)-1))]++
	}
	at[0] = 0 // do not occur
	for i, c := range at {
		at[i] = uint16(n)
		n += int(c)
	}
	often := at[len(at)-1]
	for sym, f := range freq {
		if f > 0 {
			i := &at[min(f, uint32(len(at)-1))]
			keys[*i] = uint64(f)<<16 | uint64(sym)
			*i++
		}
	}
	slices.Sort(keys[often:n])
	return n
}

// codes gives each symbol its code (RFC 1951, section 3.2.2), in the order of
// bits in which it is written.
func codes(lens []uint8, code []uint16) {
	var count, next [16]uint16
	for _, l := range lens {
		count[l&15]++
	}
	count[0] = 0
	for l := 1; l < 16; l++ {
		next[l] = (next[l-1] + count[l-1]) << 1
	}
	for sym, l := range lens {
		if l > 0 {
			code[sym] = bits.Reverse16(next[l&15]) >> (16 - l)
			next[l&15]++
		}
	}
}
