package main

import (
	"errors"
	"fmt"
	"math"
	"math/big"
	"strings"
)

// parseSize reads a number of bytes with an optional suffix, as in "512",
// "64k", "1.5G": the powers of 1024 that k, M, G, T, P and E stand for, in
// either case; b is one byte. Numbers may be hexadecimal when they are whole.
// errSizeRange says that the number is understood and does not fit.
func parseSize(s string) (int64, error) {
	digits, shift := s, uint(0)
	hex := strings.HasPrefix(s, "0x") || strings.HasPrefix(s, "0X")
	if n := len(s); n > 1 {
		if i := strings.IndexByte("bkmgtpe", s[n-1]|0x20); i >= 0 && !(hex && (i == 0 || i == 6)) {
			digits, shift = s[:n-1], uint(10*i)
		}
	}
	if digits == "" || strings.Trim(digits, "0123456789abcdefABCDEFxX.") != "" || !hex && strings.Trim(digits, "0123456789.") != "" {
		return 0, errSizeForm
	}
	if len(digits) > 40 {
		return 0, errSizeRange
	}
	v, ok := new(big.Rat).SetString(digits)
	if !ok || strings.HasPrefix(digits, ".") {
		return 0, errSizeForm
	}
	if shift == 0 && !v.IsInt() {
		return 0, errSizeForm // part of a byte
	}
	v.Mul(v, new(big.Rat).SetInt(new(big.Int).Lsh(big.NewInt(1), shift)))
	whole := new(big.Int).Quo(v.Num(), v.Denom())
	if !whole.IsInt64() {
		return 0, errSizeRange
	}
	return whole.Int64(), nil
}

var (
	errSizeForm  = errors.New("not a size")
	errSizeRange = errors.New("a size out of range")
)

// sizeArgument is parseSize with the words for a bad value of an argument that
// is named: "image size", "start offset".
func sizeArgument(what, s string) (int64, error) {
	n, err := parseSize(s)
	switch err {
	case nil:
		return n, nil
	case errSizeRange:
		return 0, fmt.Errorf("Invalid %s specified. Must be between 0 and %d.", what, int64(math.MaxInt64))
	}
	return 0, fmt.Errorf("Invalid %s specified: %s. You may use k, M, G, T, P or E suffixes for kilobytes, megabytes, gigabytes, terabytes, petabytes and exabytes.", what, s)
}

// humanSize returns n bytes as a number of at most three digits with its unit:
// "196 KiB".
func humanSize(n int64) string {
	units := [...]string{"", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"}
	v, i := float64(n), 0
	for v >= 1000 && i < len(units)-1 { // the next unit when this one would need four digits
		v /= 1024
		i++
	}
	return fmt.Sprintf("%.3g %sB", v, units[i])
}
